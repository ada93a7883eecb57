"""A tiny configuration of every model type that the planner accepts; sizes differ, so that no error cancels out."""

from __future__ import annotations

SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 200, "max_position_embeddings": 128, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 40}
DELTA_NET = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 16, "linear_conv_kernel_dim": 3, "head_dim": 24,
}  # fmt: skip
MAMBA = {
    "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_d_conv": 4,
    "mamba_expand": 2, "layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 40,
}  # fmt: skip
LATENT = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1, "n_group": 2,
    "topk_group": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 20, "num_key_value_heads": 4, "first_k_dense_replace": 1,
}  # fmt: skip
NEMOTRON_H = {
    "layers_block_type": ["mamba", "moe", "attention", "mlp"], "mamba_num_heads": 8, "mamba_head_dim": 16,
    "ssm_state_size": 8, "n_groups": 2, "n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 40, "head_dim": 24, "chunk_size": 16,
}  # fmt: skip
# What each family needs beyond SMALL: its own keys, and sizes that differ so that no error can cancel out.
OWN_KEYS = {
    "gemma": {"head_dim": 24}, "gemma2": {"head_dim": 24}, "gemma3_text": {"head_dim": 24},
    "helium": {"head_dim": 16}, "hunyuan_v1_dense": {"head_dim": 16},
    "gpt_oss": {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 24},
    "qwen2_moe": {**ROUTED, "num_experts": 6, "mlp_only_layers": [1]},
    "qwen3_moe": {**ROUTED, "num_experts": 6, "decoder_sparse_step": 2},
    "qwen3_next": {**ROUTED, **DELTA_NET, "num_experts": 6}, "qwen3_5_text": DELTA_NET,
    "qwen3_5_moe_text": {**ROUTED, **DELTA_NET, "num_experts": 6},
    "olmoe": {"num_experts": 6, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 6, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 6, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 6, "num_experts_per_tok": 2},
    "granitemoehybrid": {**MAMBA, "num_local_experts": 6, "num_experts_per_tok": 2},
    "glm4_moe": {**ROUTED, "n_routed_experts": 6, "n_shared_experts": 2, "use_qk_norm": True, "head_dim": 24},
    "granitemoeshared": {"num_local_experts": 6, "num_experts_per_tok": 2, "shared_intermediate_size": 40},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8},
    "falcon_h1": {"mamba_d_ssm": 96, "mamba_n_heads": 4, "mamba_d_head": 24, "mamba_d_state": 8},
    "nemotron_h": NEMOTRON_H,
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 16},
    "lfm2_moe": {**ROUTED, "num_experts": 6, "layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "ministral": {"head_dim": 24, "sliding_window": 32},
    "deepseek_v3": LATENT, "glm4_moe_lite": {**LATENT, "n_group": 1},
    "dots1": {**LATENT, "n_group": 1, "n_shared_experts": 2},
    "exaone_moe": {**ROUTED, "num_experts": 6, "num_shared_experts": 2, "n_group": 1, "topk_group": 1},
    "ernie4_5_moe": {"moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 32, "moe_num_shared_experts": 2},
    "hunyuan_v1_moe": {"num_experts": 6, "moe_topk": 2, "head_dim": 24},
    "flex_olmo": {"num_experts": 6, "num_experts_per_tok": 2},
    "minimax": {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 24},
    "minimax_m2": {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 24},
    "vaultgemma": {"head_dim": 24},
    "nemotron": {"initializer_range": 0.2},  # else some of its squared-ReLU neurons never fire in so short a run
    "gemma3n_text": {
        "head_dim": 16, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 150, "num_kv_shared_layers": 1,
        "laurel_rank": 12, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {
        "head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": 150, "use_double_wide_mlp": True,
    },
}  # fmt: skip
# Wrappers of a language model and a tower, by the wrapper's type: the sizes of the first are put in by multimodal().
_TOWER = {
    "image_size": 28, "patch_size": 14, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 2,
}  # fmt: skip
_QWEN_TOWER = {
    "depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64, "patch_size": 4,
    "num_position_embeddings": 16,
}  # fmt: skip
MULTIMODAL = {
    "gemma3": ("gemma3_text", {"vision_config": _TOWER, "mm_tokens_per_image": 4}),
    "gemma4": ("gemma4_text", {}),
    "mistral3": ("ministral3", {"vision_config": {"model_type": "pixtral", **_TOWER}}),
    "qwen3_vl": ("qwen3", {"vision_config": {**_QWEN_TOWER, "deepstack_visual_indexes": [0]}}),
    "qwen3_5": ("qwen3_5_text", {"vision_config": _QWEN_TOWER}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {"vision_config": _QWEN_TOWER}),
}


def multimodal(wrapper: str, text: dict) -> dict:
    """The configuration of `wrapper` around the language model of configuration `text`."""
    model_type, around = MULTIMODAL[wrapper]
    inner = "qwen3_vl_text" if wrapper == "qwen3_vl" else model_type
    return {"model_type": wrapper, "text_config": {**text, "model_type": inner}, **around}
