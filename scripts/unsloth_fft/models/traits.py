"""The traits by which one model family's layers are told from another's; families.py has a row of them for each type.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple


class LayerKind(Enum):
    """How the tokens of a layer see one another."""

    FULL = "full"  # attention over the whole sequence
    SLIDING = "sliding"  # attention within a window
    RECURRENT = "recurrent"  # a state carried from token to token, no attention
    MLP = "mlp"  # not at all: the layer is an MLP alone
    EXPERTS = "experts"  # not at all: the layer routes to experts alone


@dataclass(frozen=True)
class Experts:
    """How a mixture-of-experts family names its sizes in config.json, and what its router carries.

    A string is a config key; a tuple lists its older and newer spellings. `shared_width` is the width of the
    always-active expert, `shared_units` a number of them at the routed experts' width, `shared_always` one of the
    MLP's own width. `dense_first` names how many layers at the start stay dense. `selection_bias` is a parameter that
    only chooses experts, so that no gradient reaches it (in most families it is a buffer, and not counted).
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
    shared_always: bool = False
    dense_first: tuple[str, ...] = ("first_k_dense_replace",)
    selection_bias: bool = False
    gated: bool = True


class StateSpace(NamedTuple):
    """How a family names the sizes of its Mamba-2 layers in config.json.

    `inner` is the key of their width; where it is empty or null, `expand` times the hidden size, or with no such key
    heads times their size. `norm`: whether the gated output is normalised (a key decides).
    """

    heads: str = "mamba_n_heads"
    head_dim: str = "mamba_d_head"
    groups: str = "mamba_n_groups"
    state: str = "mamba_d_state"
    taps: str = "mamba_d_conv"
    chunk: str = "mamba_chunk_size"
    conv_bias: str = "mamba_conv_bias"
    proj_bias: str = "mamba_proj_bias"
    inner: str = ""
    expand: str = "mamba_expand"
    output_bias: str = ""
    norm: bool | str = True


class Family(NamedTuple):
    """Traits of one family. A bool is fixed; a string names the config key that decides.

    `norm`: "rms" (a weight), "layer" (a weight and a bias), "none" (no parameters).
    `qk_norm`: "" (none), "head" (one vector of head_dim each), "full" (all heads' widths).
    `period`: of that many layers in a row the last one attends in full, the others in their window
    (or, in families with recurrent layers, are recurrent); 0 where all layers are alike.
    `recurrent`: what a recurrent layer is made of: "delta" (gated delta rule), "mamba2", "conv" (a short gated
    convolution) or "lightning" (linear attention). `beside`: every layer has it beside its attention.
    `one_mixer`: a layer is one of attention, recurrence, MLP or experts, with one norm.
    `latent`: queries, keys and values go through low-rank matrices (DeepSeek-V3). `alternating_updates`: Gemma 3n's
    streams. `ties`: whether the head can be the embedding at all. `learned_activation`: parameters of its activation.
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
    state_space: StateSpace | None = None
    beside: bool = False
    one_mixer: bool = False
    latent: bool = False
    alternating_updates: bool = False
    learned_activation: int = 0
    adjusted_width: bool = False
    wide_full_heads: bool = False
    window_from: int = 0
    tied: bool = False
    ties: bool = True
    experts: Experts | None = None
    fused_projections: bool = False
    joins_rows: bool = True
    float32_queries: bool = False
    per_layer_inputs: bool = False
    defaults: Mapping[str, Any] = MappingProxyType({})
    refuses: tuple[str, ...] = ()
