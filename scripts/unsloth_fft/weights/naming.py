"""What a tensor's name says: the part of the model it belongs to, its layer, its expert, and whether it is trained.

The patterns cover the names that transformers 5.17 gives Llama, Qwen, Mistral, Mixtral, Gemma, Phi, GPT-2, GPT-NeoX,
DeepSeek, gpt-oss and OLMo models; a name that none matches is in group "other".
"""

from __future__ import annotations

import re
from typing import Final

GROUPS: Final = ("embeddings", "attention", "mlp", "router", "experts", "norms", "biases", "head", "other")
"""In the order in which they are shown."""

# The first pattern that matches decides.
_PATTERNS: Final = (
    ("head", r"(^|\.)(lm_head|embed_out|output)\.(weight|bias)$"),
    ("norms", r"(norm|layernorm|layer_norm|(^|\.)ln_?[a-z0-9]*)\d*\.(weight|bias)$"),
    ("embeddings", r"(^|\.)((?!patch)\w*embed\w*|wte|wpe)\.weight$"),
    ("router", r"(\.gate\.|\.router\.|shared_expert_gate\.|e_score_correction_bias|\.expert_bias$)"),
    ("biases", r"bias(es)?$"),
    ("experts", r"(\.experts\.|\.shared_experts?\.|\.block_sparse_moe\.)"),
    ("attention", r"(attn|attention|\.(q|k|v|o|qkv)_proj\.|\.wq\.|\.wk\.|\.wv\.|\.wo\.)"),
    ("mlp", r"(mlp|feed_forward|ffn|\.(gate|up|down)_proj\.|\.fc\d\.)"),
)
_COMPILED: Final = tuple((group, re.compile(pattern)) for group, pattern in _PATTERNS)
_MAIN_TABLE: Final = re.compile(r"(^|\.)(embed_tokens|tok_embeddings|word_embeddings|wte|embed_in)\.weight$")
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|layer|blocks|block|h)\.(\d{1,9})\.")
_EXPERT: Final = re.compile(r"\.experts\.(\d{1,9})\.")
_NUMBER: Final = re.compile(r"(?<=\.)\d+(?=\.)")
# What transformers 5.17 holds as `nn.Buffer` in decoders and saves with the weights: no trainer's gradient reaches it.
_KEPT: Final = re.compile(
    r"(^|\.)(e_score_correction_bias|expert_bias|balancing_biases|layer_scalar|act_fn\.(beta|eps)|final_logits_bias|running_(mean|var)"
    r"|slope_rate|(query|key|diagonal)_decay|(input|output)_(min|max)|std_(bias|scale)|attn\.embed_positions)$"
)
_BUFFER: Final = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias)$")


WRAPPERS: Final = re.compile(
    r"^(module|base_model\.model)\.|(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""What DataParallel, PEFT, torch.compile, FSDP and activation checkpointing put into the names of a saved state."""
_INNER: Final = re.compile(r"^(model\.)?language_model\.(model\.)?")
_OUTER: Final = re.compile(r"^(model|transformer)\.")


def group_of(name: str) -> str:
    """The group of GROUPS that tensor `name` belongs to."""
    return next((group for group, pattern in _COMPILED if pattern.search(name)), "other")


def layer_of(name: str) -> int | None:
    """The number of the layer, or None outside the layers."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def is_buffer(name: str) -> bool:
    """Whether `name` is a constant that older library versions wrote into checkpoints, not a weight."""
    return bool(_BUFFER.search(name))


def is_kept(name: str) -> bool:
    """Whether `name` belongs to the checkpoint but is a buffer of the model: every trainer keeps it as it is."""
    return bool(_KEPT.search(name))


def is_token_embedding(name: str) -> bool:
    """Whether `name` is the table that a tied head shares; tables by position, type or layer are not."""
    return bool(_MAIN_TABLE.search(name))


def expert_of(name: str) -> int | None:
    """The number of the expert whose tensor this is; None where it is no expert's, or holds all of a layer's."""
    found = _EXPERT.search(name)
    return int(found.group(1)) if found else None


def holds_experts_in_turn(name: str) -> bool:
    """Whether the first dimension counts experts: fused expert weights, and a router's rows."""
    group = group_of(name)
    if "shared_expert" in name or is_kept(name):
        return False
    fused = ".experts." in name or ".block_sparse_moe." in name  # experts' biases are in group "biases"
    return group == "router" or (group in ("experts", "biases") and fused and expert_of(name) is None)


def kind_of(name: str) -> str:
    """The name without its numbers: the same for one kind of tensor in every layer."""
    return _NUMBER.sub("N", name)


def plain_name(name: str) -> str:
    """`name` without wrappers, the part that a multimodal model adds, and the decoder's own prefix."""
    while (shorter := WRAPPERS.sub("", name)) != name:
        name = shorter
    return _OUTER.sub("", _INNER.sub("", name), count=1)
