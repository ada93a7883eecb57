"""What a tensor's name says: the part of the model it belongs to and its layer.

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
    ("embeddings", r"(^|\.)(embed_tokens|tok_embeddings|word_embeddings|wte|wpe|embed_in|embed_positions)\.weight$"),
    ("norms", r"(norm|layernorm|layer_norm|(^|\.)ln_?[a-z0-9]*)\d*\.(weight|bias)$"),
    ("router", r"(\.gate\.|\.router\.|shared_expert_gate\.|e_score_correction_bias)"),
    ("biases", r"bias(es)?$"),
    ("experts", r"(\.experts\.|\.shared_experts?\.)"),
    ("attention", r"(attn|attention|\.(q|k|v|o|qkv)_proj\.|\.wq\.|\.wk\.|\.wv\.|\.wo\.)"),
    ("mlp", r"(mlp|feed_forward|ffn|\.(gate|up|down)_proj\.|\.fc\d\.)"),
)
_COMPILED: Final = tuple((group, re.compile(pattern)) for group, pattern in _PATTERNS)
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|layer|blocks|block|h)\.(\d+)\.")
_BUFFER: Final = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias)$")


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
