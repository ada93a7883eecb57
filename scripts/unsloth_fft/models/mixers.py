"""Elements of what a decoder layer mixes tokens with: attention, latent attention, recurrence.

Standard library only. The formulas follow the modeling files of transformers 5.17.0 that each docstring names.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.errors import BadInput
from .config import ConfigReader
from .traits import Family, LayerKind, StateSpace


class Part(NamedTuple):
    """Elements of one piece of a layer, and for recurrences what one token leaves.

    `passed`: inputs and outputs of its projections. For a state-space scan in plain torch, without kernels of its own,
    in float32: `scan_kept` from forward to backward, and `scanned` that one product makes at once.
    """

    matrices: int = 0
    biases: int = 0
    norms: int = 0
    other: int = 0
    passed: int = 0
    scan_kept: int = 0
    scanned: int = 0


class Heads(NamedTuple):
    """One layer's attention. Gemma layers may take their keys from an earlier layer, or values from keys."""

    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    has_keys: bool = True
    has_values: bool = True


def heads_of(reader: ConfigReader, family: Family, index: int, kind: LayerKind) -> Heads:
    """The heads of layer `index`. Raises BadInput where the numbers cannot be those of one model."""
    heads = reader.integer("num_attention_heads")
    kv_heads = reader.integer("num_key_value_heads", default=heads)
    if family.latent:
        return Heads(heads, heads, reader.integer("qk_nope_head_dim") + reader.integer("qk_rope_head_dim"))
    if heads % kv_heads:
        raise BadInput(
            f"config.json of {reader.name}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}",
            hint="use the config.json that was published with the weights",
        )
    head_dim = reader.integer("head_dim", default=max(reader.integer("hidden_size") // heads, 1))
    has_keys = not takes_earlier_keys(reader, index)
    shares_values = family.wide_full_heads and kind is LayerKind.FULL and reader.flag("attention_k_eq_v")
    if family.wide_full_heads and kind is LayerKind.FULL and reader.get("per_layer_config") is None:
        head_dim = reader.integer("global_head_dim")
        if shares_values:
            kv_heads = reader.integer("num_global_key_value_heads", default=kv_heads)
    return Heads(heads, kv_heads, head_dim, has_keys=has_keys, has_values=has_keys and not shares_values)


def takes_earlier_keys(reader: ConfigReader, index: int) -> bool:
    """Gemma 3n and 4: the last `num_kv_shared_layers` layers have no key and value projections of their own."""
    shared = reader.integer("num_kv_shared_layers", default=0, least=0)
    return shared > 0 and index >= reader.layer_count() - shared


def attention(reader: ConfigReader, family: Family, heads: Heads, hidden: int) -> Part:
    """Queries, keys, values and the output projection, with their biases and norms."""
    if family.latent:
        return _latent_attention(reader, heads, hidden)
    attended = heads.heads * heads.head_dim
    query = attended * 2 if family.query_gate else attended
    key_value = heads.kv_heads * heads.head_dim
    projections = query + key_value * (heads.has_keys + heads.has_values)
    biases = projections * reader.flag(family.qkv_bias) + hidden * reader.flag(family.output_bias)
    norms = 0
    if family.qk_norm and (not family.qk_norm_key or reader.flag(family.qk_norm_key)):
        widths = (heads.head_dim, heads.head_dim) if family.qk_norm == "head" else (attended, key_value)
        norms = widths[0] + widths[1] * heads.has_keys
    return Part(
        matrices=hidden * (projections + attended),
        biases=biases,
        norms=norms,
        other=heads.heads if family.sinks else 0,
    )


def _latent_attention(reader: ConfigReader, heads: Heads, hidden: int) -> Part:
    """Low-rank queries, keys and values (modeling_deepseek_v3.py, DeepseekV3Attention)."""
    queries = heads.heads * heads.head_dim
    rank = reader.integer("q_lora_rank", default=0, least=0)
    shared = reader.integer("kv_lora_rank") + reader.integer("qk_rope_head_dim")
    values = heads.heads * reader.integer("v_head_dim")
    keys = heads.heads * reader.integer("qk_nope_head_dim")
    query = hidden * rank + rank * queries if rank else hidden * queries
    expanded = reader.integer("kv_lora_rank") * (keys + values)
    biased = reader.flag("attention_bias")
    return Part(
        matrices=query + hidden * shared + expanded + values * hidden,
        biases=(rank + shared + hidden) * biased,
        norms=rank + reader.integer("kv_lora_rank"),
    )


def recurrence(reader: ConfigReader, family: Family, hidden: int) -> Part:
    """The recurrent mixer of the family's kind."""
    if family.recurrent == "delta":
        return _gated_delta_net(reader, hidden)
    if family.recurrent == "conv":
        return _short_convolution(reader, hidden)
    if family.recurrent == "lightning":
        return _lightning_attention(reader, hidden)
    return _mamba2(reader, family.state_space or StateSpace(), hidden)


def _gated_delta_net(reader: ConfigReader, hidden: int) -> Part:
    """Qwen3-Next's and Qwen3.5's linear attention (modeling_qwen3_next.py, Qwen3NextGatedDeltaNet)."""
    value_heads = reader.integer("linear_num_value_heads")
    value_dim = reader.integer("linear_value_head_dim")
    values = value_heads * value_dim
    keys = reader.integer("linear_num_key_heads") * reader.integer("linear_key_head_dim")
    inputs = 2 * keys + 2 * values + 2 * value_heads
    taps = (2 * keys + values) * reader.integer("linear_conv_kernel_dim")
    return Part(
        matrices=hidden * (inputs + values),
        norms=value_dim,
        biases=value_heads,
        other=taps + value_heads,
        passed=2 * (inputs + values),
    )


def _short_convolution(reader: ConfigReader, hidden: int) -> Part:
    """LFM2's gated convolution (modeling_lfm2.py, Lfm2ShortConv)."""
    biased = reader.flag("conv_bias")
    return Part(
        matrices=4 * hidden * hidden,
        biases=5 * hidden * biased,
        other=hidden * reader.integer("conv_L_cache", default=3),
        passed=7 * hidden,
    )


def _lightning_attention(reader: ConfigReader, hidden: int) -> Part:
    """MiniMax's linear attention (modeling_minimax.py, MiniMaxLightningAttention)."""
    heads = reader.integer("num_attention_heads")
    inner = heads * reader.integer("head_dim", default=max(hidden // heads, 1))
    return Part(matrices=5 * hidden * inner, norms=inner, passed=10 * inner)


def _mamba2(reader: ConfigReader, keys: StateSpace, hidden: int) -> Part:
    """A Mamba-2 layer (modeling_granitemoehybrid.py, GraniteMoeHybridMambaLayer, and those of Bamba, Falcon-H1 and
    Nemotron-H, which name their sizes differently)."""
    heads = reader.integer(keys.heads)
    state = reader.integer(keys.state)
    chunk = reader.integer(keys.chunk)
    inner = _inner_width(reader, keys, heads, hidden)
    channels = inner + 2 * reader.integer(keys.groups) * state
    inputs = inner + channels + heads
    biases = heads + channels * reader.flag(keys.conv_bias)
    biases += inputs * reader.flag(keys.proj_bias) + hidden * reader.flag(keys.output_bias or keys.proj_bias)
    return Part(
        matrices=hidden * (inputs + inner),
        norms=inner * reader.flag(keys.norm),
        biases=biases,
        other=channels * reader.integer(keys.taps) + 2 * heads,
        passed=2 * inputs + 2 * inner,
        # Keys and queries spread over heads, what a chunk's state is made of, decays and weights within chunks, values
        # (modeling_granitemoehybrid.py, mamba2_chunk_scan; what one layer held was recorded on an H200, 2026-12-01).
        scan_kept=heads * (3 * state + 3 * chunk) + 6 * inner,
        scanned=heads * state * chunk,
    )


def _inner_width(reader: ConfigReader, keys: StateSpace, heads: int, hidden: int) -> int:
    if keys.inner and reader.get(keys.inner) is not None:
        return reader.integer(keys.inner)
    if keys.expand:
        return reader.integer(keys.expand) * hidden
    return heads * reader.integer(keys.head_dim)
