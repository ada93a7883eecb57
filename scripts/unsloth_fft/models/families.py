"""What sets one model family's layers apart from Llama's: a table of traits, one row for each `model_type`.

Every row was read in the modeling and configuration files of transformers 5.17.0 (2026-11-23,
`transformers/models/<model_type>/`) and is held against them by tests/models/test_shape.py, which builds each
family on the meta device and compares the counts.
"""

from __future__ import annotations

from dataclasses import replace

from .traits import Experts, Family, StateSpace

LLAMA = Family(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias")
_WINDOW_4096 = {"sliding_window": 4096}
_GEMMA = LLAMA._replace(mlp_bias=False, tied=True)
_GEMMA2 = _GEMMA._replace(norms_per_layer=4, window="sliding_window", period=2, defaults=_WINDOW_4096)
_OLMO2 = LLAMA._replace(mlp_bias=False, qk_norm="full")
_QWEN2 = Family(qkv_bias=True, window="sliding_window", window_switch="use_sliding_window", window_from=28)
_QWEN3 = _QWEN2._replace(
    float32_queries=True,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    qk_norm="head",
    defaults={"head_dim": 128},
)
_GLM = Family(qkv_bias="attention_bias", defaults={"attention_bias": True, "head_dim": 128})
_PHI3 = Family(window="sliding_window", fused_projections=True)
_QWEN_EXPERTS = Experts(count=("num_experts", "num_local_experts"))
_QWEN_SHARED = replace(_QWEN_EXPERTS, shared_width="shared_expert_intermediate_size", shared_gate=True)
_QWEN3_NEXT = LLAMA._replace(
    mlp_bias=False,
    qk_norm="head",
    query_gate=True,
    recurrent="delta",
    period=4,
    period_key="full_attention_interval",
)
_MIXTRAL_EXPERTS = Experts(count=("num_local_experts",), width="intermediate_size")
_MAMBA = {
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_chunk_size": 256,
}
_LFM2 = {"block_auto_adjust_ff_dim": True}
_DEEPSEEK_EXPERTS = Experts(count=("n_routed_experts", "num_local_experts"), shared_units="n_shared_experts")
_DEEPSEEK = Family(
    latent=True,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
    experts=_DEEPSEEK_EXPERTS,
    defaults={"first_k_dense_replace": 3, "n_shared_experts": 1},
)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "mistral": Family(window="sliding_window", defaults=_WINDOW_4096),
    "ministral": Family(window="sliding_window", defaults=_WINDOW_4096),
    "ministral3": Family(window="sliding_window", defaults={"head_dim": 128}),
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "qwen2_moe": _QWEN2._replace(qkv_bias="qkv_bias", experts=_QWEN_SHARED, defaults={"qkv_bias": True}),
    "qwen3_moe": _QWEN3._replace(experts=_QWEN_EXPERTS, defaults={}),
    "qwen3_next": _QWEN3_NEXT._replace(experts=_QWEN_SHARED),
    "qwen3_5_text": _QWEN3_NEXT,
    "qwen3_5_moe_text": _QWEN3_NEXT._replace(experts=_QWEN_SHARED),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2._replace(softcapped_attention=True, joins_rows=False),
    # Published multimodal Gemma 3 files leave out what equals the class default (configuration_gemma3.py).
    "gemma3_text": _GEMMA2._replace(
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
    "gemma4_text": _GEMMA2._replace(
        qk_norm="head",
        period=6,
        per_layer_inputs=True,
        wide_full_heads=True,
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
    "gemma3n_text": _GEMMA2._replace(
        qk_norm="head",
        period=5,
        per_layer_inputs=True,
        alternating_updates=True,
        defaults={
            "vocab_size": 262400,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "max_position_embeddings": 32768,
            "sliding_window": 512,
            "vocab_size_per_layer_input": 262144,
            "hidden_size_per_layer_input": 256,
            "num_kv_shared_layers": 15,
            "altup_num_inputs": 4,
            "laurel_rank": 64,
        },
    ),
    "vaultgemma": _GEMMA2._replace(
        norms_per_layer=2, softcapped_attention=True, defaults={**_WINDOW_4096, "head_dim": 256}
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
    "phimoe": LLAMA._replace(
        mlp_bias=False,
        head_bias="lm_head_bias",
        norm="layer",
        window="sliding_window",
        experts=_MIXTRAL_EXPERTS,
    ),
    "smollm3": LLAMA._replace(window="sliding_window", window_switch="use_sliding_window", window_from=28, tied=True),
    "olmo": LLAMA._replace(mlp_bias=False, norm="none"),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2._replace(window="sliding_window", period=4, defaults=_WINDOW_4096),
    "olmoe": _OLMO2._replace(
        float32_queries=True,
        experts=Experts(count=("num_experts", "num_local_experts"), width="intermediate_size"),
    ),
    "flex_olmo": _OLMO2._replace(experts=Experts(count=("num_experts",), width="intermediate_size")),
    "granite": LLAMA,
    "granitemoe": LLAMA._replace(mlp_bias=False, experts=_MIXTRAL_EXPERTS),
    "granitemoehybrid": LLAMA._replace(
        mlp_bias=False,
        recurrent="mamba2",
        experts=replace(_MIXTRAL_EXPERTS, shared_width="shared_intermediate_size", shared_always=True),
        defaults=_MAMBA,
    ),
    "granitemoeshared": LLAMA._replace(
        mlp_bias=False, experts=replace(_MIXTRAL_EXPERTS, shared_width="shared_intermediate_size")
    ),
    "bamba": LLAMA._replace(recurrent="mamba2", state_space=StateSpace(), defaults=_MAMBA),
    "falcon_h1": LLAMA._replace(
        recurrent="mamba2",
        beside=True,
        state_space=StateSpace(inner="mamba_d_ssm", norm="mamba_rms_norm", output_bias="projectors_bias"),
        defaults={**_MAMBA, "mamba_d_ssm": 1024},
    ),
    # Its attention has no biases and its head is never tied, whatever the file says (modeling_nemotron_h.py).
    "nemotron_h": Family(
        mlp_bias="mlp_bias",
        ties=False,
        gated_mlp=False,
        norms_per_layer=1,
        recurrent="mamba2",
        one_mixer=True,
        state_space=StateSpace(
            heads="mamba_num_heads",
            head_dim="mamba_head_dim",
            groups="n_groups",
            state="ssm_state_size",
            taps="conv_kernel",
            chunk="chunk_size",
            conv_bias="use_conv_bias",
            proj_bias="use_bias",
            expand="",
        ),
        experts=Experts(count=("n_routed_experts",), shared_width="moe_shared_expert_intermediate_size", gated=False),
        defaults={
            "head_dim": 128,
            "use_conv_bias": True,
            "n_groups": 8,
            "conv_kernel": 4,
            "chunk_size": 128,
            "ssm_state_size": 128,
        },
    ),
    "lfm2": Family(
        float32_queries=True, qk_norm="head", recurrent="conv", tied=True, adjusted_width=True, defaults=_LFM2
    ),
    "lfm2_moe": Family(
        float32_queries=True,
        qk_norm="head",
        recurrent="conv",
        tied=True,
        experts=Experts(count=("num_experts",), dense_first=("num_dense_layers",)),
        defaults={"num_dense_layers": 2},
    ),
    "glm": _GLM._replace(fused_projections=True),
    "glm4": _GLM._replace(fused_projections=True, norms_per_layer=4),
    "glm4_moe": _GLM._replace(
        float32_queries=True,
        qk_norm="head",
        qk_norm_key="use_qk_norm",
        defaults={"first_k_dense_replace": 1},
        experts=Experts(count=("n_routed_experts", "num_local_experts"), shared_units="n_shared_experts"),
    ),
    "glm4_moe_lite": _DEEPSEEK._replace(
        defaults={"first_k_dense_replace": 1, "n_shared_experts": 1},
    ),
    "deepseek_v3": _DEEPSEEK,
    "dots1": Family(
        float32_queries=True,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        qk_norm="head",
        window="sliding_window",
        window_from=62,
        experts=_DEEPSEEK_EXPERTS,
        defaults=_WINDOW_4096,
    ),
    "minimax": Family(recurrent="lightning", period=2, experts=_MIXTRAL_EXPERTS),
    "minimax_m2": Family(float32_queries=True, qk_norm="full", experts=_MIXTRAL_EXPERTS, defaults={"head_dim": 128}),
    "mixtral": Family(window="sliding_window", experts=_MIXTRAL_EXPERTS),
    "gpt_oss": Family(
        joins_rows=False,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        sinks=True,
        window="sliding_window",
        period=2,
        experts=replace(_MIXTRAL_EXPERTS, router_bias=True, expert_bias=True),
        defaults={"attention_bias": True, "sliding_window": 128},
    ),
    "cohere": LLAMA._replace(mlp_bias=False, norms_per_layer=1, tied=True, refuses=("use_qk_norm",)),
    "cohere2": LLAMA._replace(
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
    "exaone_moe": Family(
        float32_queries=True,
        qk_norm="head",
        window="sliding_window",
        period=4,
        period_key="sliding_window_pattern",
        experts=Experts(count=("num_experts",), shared_units="num_shared_experts"),
        defaults={**_WINDOW_4096, "first_k_dense_replace": 1, "num_shared_experts": 1},
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
    "ernie4_5_moe": Family(
        qkv_bias="use_bias",
        output_bias="use_bias",
        mlp_bias="use_bias",
        head_bias="use_bias",
        tied=True,
        experts=Experts(
            count=("moe_num_experts",),
            per_token=("moe_k",),
            shared_units="moe_num_shared_experts",
            dense_first=("moe_layer_start_index",),
            selection_bias=True,
        ),
        defaults={"moe_layer_start_index": 1, "moe_num_shared_experts": 2},
    ),
    "hunyuan_v1_moe": LLAMA._replace(
        float32_queries=True,
        mlp_bias=False,
        qk_norm="head",
        experts=Experts(count=("num_experts",), per_token=("moe_topk",), width="intermediate_size", shared_always=True),
    ),
    "hunyuan_v1_dense": LLAMA._replace(mlp_bias=False, qk_norm="head", float32_queries=True),
    "helium": Family(qkv_bias="attention_bias", mlp_bias="mlp_bias", defaults={"head_dim": 128}),
    "arcee": LLAMA._replace(gated_mlp=False),
    "apertus": Family(
        float32_queries=True,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        qk_norm="head",
        gated_mlp=False,
        learned_activation=2,
    ),
    "jais2": LLAMA._replace(gated_mlp=False, norm="layer", defaults={"attention_bias": True, "mlp_bias": True}),
    "nemotron": LLAMA._replace(gated_mlp=False, norm="layer"),
}

# A multimodal file whose text part carries no type of its own goes by the wrapper's.
TEXT_TYPE_OF_WRAPPER = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    # Its language model is Qwen3's: with text alone every position is the same in all three axes.
    "qwen3_vl": "qwen3",
    "qwen3_vl_text": "qwen3",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
}

# Wrappers that no checkpoint of could be made and loaded whole here, so that nothing is known of what an export would
# be; with the reason. Their language models alone are taken.
UNTRIED_WRAPPERS = {
    "gemma3n": "its vision tower is one of the package timm (transformers 5.17.0, modeling_gemma3n.py, Gemma3nModel)",
}
