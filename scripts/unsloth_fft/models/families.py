"""What sets one model family's layers apart from Llama's: a table of traits, one row for each `model_type`.

Every row was read in the modeling and configuration files of transformers 5.17.0 (2026-11-23,
`transformers/models/<model_type>/`) and is held against them by tests/models/test_shape.py, which builds each
family on the meta device and compares the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Experts:
    """How a mixture-of-experts family names its sizes in config.json, and what its router carries.

    A string is a config key; a tuple lists its older and newer spellings. `shared_width` is the width of the
    always-active expert, `shared_units` a number of them at the routed experts' width.
    """

    count: tuple[str, ...]
    per_token: tuple[str, ...] = ("num_experts_per_tok",)
    width: str = "moe_intermediate_size"
    shared_width: str = ""
    shared_units: str = ""
    shared_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    dense_too: bool = False


@dataclass(frozen=True)
class Family:
    """Traits of one family. A bool is fixed; a string names the config key that decides.

    `norm`: "rms" (a weight), "layer" (a weight and a bias), "none" (no parameters).
    `qk_norm`: "" (none), "head" (one vector of head_dim each), "full" (all heads' widths).
    `period`: of that many layers in a row the last one attends in full, the others in their window
    (or, in families with recurrent layers, are recurrent); 0 where all layers are alike.
    `fused_projections`: gate and up (or queries, keys and values) are one matrix, and the split pieces are saved, too.
    `joins_rows`: whether Unsloth packs rows or lays them end to end (unsloth 2026.10.9, trainer.py:
    PADDING_FREE_BLOCKLIST). `float32_queries`: its query norm multiplies by its weight last, and Unsloth keeps norms in
    float32, so that queries reach attention as float32 (measured for Qwen3: references, packed-rows-dense-mask-qwen3;
    tests/training/test_contract.py makes a model of each family that norms queries).
    `refuses`: config keys that switch on something not counted here; a config that sets one is refused.
    """

    qkv_bias: bool | str = False
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    head_bias: bool | str = False
    gated_mlp: bool = True
    norm: str = "rms"
    norms_per_layer: int = 2
    qk_norm: str = ""
    qk_norm_key: str = ""
    query_gate: bool = False
    sinks: bool = False
    softcapped_attention: bool = False
    window: str = ""
    window_switch: str = ""
    period: int = 0
    period_key: str = ""
    recurrent: str = ""
    tied: bool = False
    experts: Experts | None = None
    per_layer_inputs: bool = False
    fused_projections: bool = False
    joins_rows: bool = True
    float32_queries: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()


LLAMA = Family(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias")
_WINDOW_4096 = {"sliding_window": 4096}
_GEMMA = replace(LLAMA, mlp_bias=False, tied=True)
_GEMMA2 = replace(_GEMMA, norms_per_layer=4, window="sliding_window", period=2, defaults=_WINDOW_4096)
_OLMO2 = replace(LLAMA, mlp_bias=False, qk_norm="full")
_QWEN2 = Family(qkv_bias=True, window="sliding_window", window_switch="use_sliding_window")
_QWEN3 = replace(
    _QWEN2,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    qk_norm="head",
    float32_queries=True,
    defaults={"head_dim": 128},
)
_GLM = Family(qkv_bias="attention_bias", defaults={"attention_bias": True, "head_dim": 128})
_PHI3 = Family(window="sliding_window", fused_projections=True)
_QWEN_EXPERTS = Experts(count=("num_experts", "num_local_experts"))
_QWEN_SHARED = replace(_QWEN_EXPERTS, shared_width="shared_expert_intermediate_size", shared_gate=True)
_QWEN3_NEXT = replace(
    LLAMA,
    mlp_bias=False,
    qk_norm="head",
    query_gate=True,
    recurrent="delta",
    period=4,
    period_key="full_attention_interval",
)
_MIXTRAL_EXPERTS = Experts(count=("num_local_experts",), width="intermediate_size")

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": Family(window="sliding_window", defaults=_WINDOW_4096),
    "ministral3": Family(window="sliding_window", defaults={"head_dim": 128}),
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "qwen2_moe": replace(_QWEN2, qkv_bias="qkv_bias", experts=_QWEN_SHARED, defaults={"qkv_bias": True}),
    "qwen3_moe": replace(_QWEN3, experts=_QWEN_EXPERTS, defaults={}),
    "qwen3_next": replace(_QWEN3_NEXT, experts=_QWEN_SHARED),
    "qwen3_5_text": _QWEN3_NEXT,
    "qwen3_5_moe_text": replace(_QWEN3_NEXT, experts=_QWEN_SHARED),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA2, softcapped_attention=True, joins_rows=False),
    # Published multimodal Gemma 3 files leave out what equals the class default (configuration_gemma3.py).
    "gemma3_text": replace(
        _GEMMA2,
        qk_norm="head",
        period=6,
        period_key="sliding_window_pattern",
        defaults={
            "vocab_size": 262208,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
    ),
    "gemma4_text": replace(
        _GEMMA2,
        qk_norm="head",
        period=6,
        per_layer_inputs=True,
        experts=Experts(count=("num_experts",), per_token=("top_k_experts",), dense_too=True),
        defaults={
            "vocab_size": 262144,
            "head_dim": 256,
            "global_head_dim": 512,
            "max_position_embeddings": 131072,
            "sliding_window": 512,
            "vocab_size_per_layer_input": 262144,
            "hidden_size_per_layer_input": 256,
            "num_kv_shared_layers": 0,
        },
    ),
    "phi": Family(
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
        gated_mlp=False,
        norm="layer",
        norms_per_layer=1,
        refuses=("qk_layernorm",),
    ),
    "phi3": _PHI3,
    "phimoe": replace(
        LLAMA,
        mlp_bias=False,
        head_bias="lm_head_bias",
        norm="layer",
        window="sliding_window",
        experts=_MIXTRAL_EXPERTS,
    ),
    "smollm3": replace(LLAMA, window="sliding_window", window_switch="use_sliding_window", tied=True),
    "olmo": replace(LLAMA, mlp_bias=False, norm="none"),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, window="sliding_window", period=4, defaults=_WINDOW_4096),
    "olmoe": replace(
        _OLMO2,
        float32_queries=True,
        experts=Experts(count=("num_experts", "num_local_experts"), width="intermediate_size"),
    ),
    "granite": LLAMA,
    "granitemoe": replace(LLAMA, mlp_bias=False, experts=_MIXTRAL_EXPERTS),
    "granitemoehybrid": replace(
        LLAMA,
        mlp_bias=False,
        recurrent="mamba2",
        experts=replace(_MIXTRAL_EXPERTS, shared_width="shared_intermediate_size"),
        defaults={"mamba_conv_bias": True, "mamba_proj_bias": False},
    ),
    "glm": replace(_GLM, fused_projections=True),
    "glm4": replace(_GLM, fused_projections=True, norms_per_layer=4),
    "glm4_moe": replace(
        _GLM,
        float32_queries=True,
        qk_norm="head",
        qk_norm_key="use_qk_norm",
        defaults={"first_k_dense_replace": 1},
        experts=Experts(count=("n_routed_experts", "num_local_experts"), shared_units="n_shared_experts"),
    ),
    "mixtral": Family(window="sliding_window", experts=_MIXTRAL_EXPERTS),
    "gpt_oss": Family(
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        sinks=True,
        joins_rows=False,
        window="sliding_window",
        period=2,
        experts=replace(_MIXTRAL_EXPERTS, router_bias=True, expert_bias=True),
        defaults={"attention_bias": True, "sliding_window": 128},
    ),
    "cohere": replace(LLAMA, mlp_bias=False, norms_per_layer=1, tied=True, refuses=("use_qk_norm",)),
    "cohere2": replace(
        LLAMA,
        mlp_bias=False,
        norms_per_layer=1,
        tied=True,
        window="sliding_window",
        period=4,
        period_key="sliding_window_pattern",
        defaults=_WINDOW_4096,
    ),
    "starcoder2": Family(
        qkv_bias="use_bias",
        output_bias="use_bias",
        mlp_bias="use_bias",
        gated_mlp=False,
        norm="layer",
        window="sliding_window",
        tied=True,
        defaults={"use_bias": True},
    ),
    "stablelm": Family(qkv_bias="use_qkv_bias", norm="layer", refuses=("qk_layernorm",)),
    "exaone4": Family(
        float32_queries=True,
        qk_norm="head",
        window="sliding_window",
        period=4,
        period_key="sliding_window_pattern",
        defaults=_WINDOW_4096,
    ),
    "seed_oss": Family(
        qkv_bias="attention_bias",
        output_bias="attention_out_bias",
        mlp_bias="mlp_bias",
        defaults={"attention_bias": True, "head_dim": 128},
    ),
    "ernie4_5": Family(
        qkv_bias="use_bias",
        output_bias="use_bias",
        mlp_bias="use_bias",
        tied=True,
        defaults={"head_dim": 128},
    ),
    "hunyuan_v1_dense": replace(LLAMA, mlp_bias=False, qk_norm="head", float32_queries=True),
    "helium": Family(qkv_bias="attention_bias", mlp_bias="mlp_bias", defaults={"head_dim": 128}),
    "arcee": replace(LLAMA, gated_mlp=False),
    "nemotron": replace(LLAMA, gated_mlp=False, norm="layer"),
}

# A multimodal file whose text part carries no type of its own goes by the wrapper's.
TEXT_TYPE_OF_WRAPPER = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
}
