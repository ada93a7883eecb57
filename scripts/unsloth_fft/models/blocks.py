"""Counting the elements of decoder layers from a config and its family's traits.

Standard library only. A "matrix" element takes part in a matrix product; biases, norm weights and the rest
(attention sinks, convolution taps, state decay, router scales) are counted apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from ..core.errors import BadInput
from .config import ConfigReader
from .families import Experts, Family


class LayerKind(Enum):
    """How the tokens of a layer see one another."""

    FULL = "full"  # attention over the whole sequence
    SLIDING = "sliding"  # attention within a window
    RECURRENT = "recurrent"  # a state carried from token to token, no attention


# How config.json spells the kinds of layer.
KINDS = {
    "full_attention": LayerKind.FULL,
    "attention": LayerKind.FULL,
    "sliding_attention": LayerKind.SLIDING,
    "linear_attention": LayerKind.RECURRENT,
    "mamba": LayerKind.RECURRENT,
}


@dataclass(frozen=True)
class Block:
    """One decoder layer, as many times as `count` says. Widths in elements.

    `heads`, `kv_heads` and `head_dim` are those of its attention (0 in a recurrent layer); `mlp_width` is the
    dense MLP's or the shared experts' width that every token passes (0 where there is none), `expert_width`
    one routed expert's.
    """

    count: int
    kind: LayerKind
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    experts: int
    experts_per_token: int
    expert_width: int
    mixer_matrices: int
    mlp_matrices: int
    expert_matrices: int
    biases: int
    norms: int
    other: int

    @property
    def parameters(self) -> int:
        """Elements of one such layer."""
        matrices = self.mixer_matrices + self.mlp_matrices + self.expert_matrices * self.experts
        return matrices + self.biases + self.norms + self.other

    @property
    def matmul_per_token(self) -> int:
        """Matrix elements of one such layer that one token meets: of the routed experts only its own."""
        return self.mixer_matrices + self.mlp_matrices + self.expert_matrices * self.experts_per_token


class _Part(NamedTuple):
    """Elements of one piece of a layer."""

    matrices: int = 0
    biases: int = 0
    norms: int = 0
    other: int = 0


class _Heads(NamedTuple):
    """One layer's attention. Gemma 4 layers may take their keys from an earlier layer, or values from keys."""

    heads: int
    kv_heads: int
    head_dim: int
    has_keys: bool = True
    has_values: bool = True


def blocks_of(reader: ConfigReader, family: Family) -> tuple[Block, ...]:
    """All decoder layers, equal ones joined, in order of first appearance."""
    kinds = layer_kinds(reader, family)
    layers = [_layer(reader, family, index, kind) for index, kind in enumerate(kinds)]
    return tuple(replace(block, count=count) for block, count in Counter(layers).items())


def layer_kinds(reader: ConfigReader, family: Family) -> list[LayerKind]:
    """The kind of each layer: from `layer_types` where the file lists them, else from the family's pattern."""
    layers = reader.layer_count()
    listed = reader.strings("layer_types", layers) or reader.strings("layers_block_type", layers)
    if listed is not None:
        unknown = sorted(set(listed) - set(KINDS))
        if unknown or (
            LayerKind.RECURRENT in {KINDS[kind] for kind in listed if kind in KINDS} and not family.recurrent
        ):
            raise BadInput(
                f"config.json of {reader.name}: layers of kind {unknown or 'linear_attention'} are not known here",
                hint="this model's layers cannot be counted yet; choose a model from the catalogue",
            )
        return [
            LayerKind.FULL if not _windowed(reader, family) and KINDS[k] is LayerKind.SLIDING else KINDS[k]
            for k in listed
        ]
    if family.recurrent:
        return _periodic(reader, family, layers, LayerKind.RECURRENT)
    if not _windowed(reader, family):
        return [LayerKind.FULL] * layers
    if family.window_switch:
        # Qwen: the first `max_window_layers` layers attend in full (configuration_qwen2.py).
        start = reader.integer("max_window_layers", default=28, least=0)
        return [LayerKind.SLIDING if index >= start else LayerKind.FULL for index in range(layers)]
    return _periodic(reader, family, layers, LayerKind.SLIDING)


def _periodic(reader: ConfigReader, family: Family, layers: int, kind: LayerKind) -> list[LayerKind]:
    period = family.period
    if family.period_key and isinstance(reader.get(family.period_key), str):
        period = len(reader.get(family.period_key))
    elif family.period_key:
        period = reader.integer(family.period_key, default=family.period)
    if not period:
        return [kind] * layers
    kinds = [kind if (index + 1) % period else LayerKind.FULL for index in range(layers)]
    if family.per_layer_inputs:
        # Gemma 4 makes its last layer attend in full, whatever the pattern (configuration_gemma4.py).
        kinds[-1] = LayerKind.FULL
    return kinds


def _windowed(reader: ConfigReader, family: Family) -> bool:
    if not family.window:
        return False
    if family.window in reader.values and reader.values[family.window] is None:
        return False
    if family.window_switch and not reader.flag(family.window_switch):
        return False
    return reader.get(family.window) is not None


def _layer(reader: ConfigReader, family: Family, index: int, kind: LayerKind) -> Block:
    hidden = reader.integer("hidden_size")
    sparse = _is_sparse(reader, family, index)
    heads = _NO_HEADS if kind is LayerKind.RECURRENT else _heads(reader, family, index, kind)
    mixer = (
        _recurrent(reader, family, hidden) if kind is LayerKind.RECURRENT else _attention(reader, family, heads, hidden)
    )
    mlp_width = _mlp_width(reader, family, index, sparse)
    mlp = _mlp(reader, family, hidden, mlp_width)
    routed = _routed(reader, family.experts, hidden) if sparse and family.experts else _NO_EXPERTS
    parts = (
        mixer,
        mlp,
        routed.around,
        _per_layer_input(reader, family, hidden),
        _layer_norms(family, hidden),
    )
    return Block(
        count=1,
        kind=kind,
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        mlp_width=mlp_width,
        experts=routed.experts,
        experts_per_token=routed.per_token,
        expert_width=routed.width,
        mixer_matrices=mixer.matrices,
        mlp_matrices=sum(part.matrices for part in parts[1:]),
        expert_matrices=routed.each,
        biases=sum(part.biases for part in parts),
        norms=sum(part.norms for part in parts),
        other=sum(part.other for part in parts),
    )


def norm_part(family: Family, width: int) -> _Part:
    """One normalisation over `width` elements."""
    if family.norm == "none":
        return _Part()
    return _Part(norms=width, biases=width if family.norm == "layer" else 0)


def _layer_norms(family: Family, hidden: int) -> _Part:
    return norm_part(family, family.norms_per_layer * hidden)


def _heads(reader: ConfigReader, family: Family, index: int, kind: LayerKind) -> _Heads:
    heads = reader.integer("num_attention_heads")
    kv_heads = reader.integer("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise BadInput(
            f"config.json of {reader.name}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}",
            hint="use the config.json that was published with the weights",
        )
    head_dim = reader.integer("head_dim", default=max(reader.integer("hidden_size") // heads, 1))
    if not family.per_layer_inputs:
        return _Heads(heads, kv_heads, head_dim)
    shares_values = kind is LayerKind.FULL and reader.flag("attention_k_eq_v")
    if kind is LayerKind.FULL:
        head_dim = reader.integer("global_head_dim")
    if shares_values:
        kv_heads = reader.integer("num_global_key_value_heads", default=kv_heads)
    has_keys = not _takes_earlier_keys(reader, index)
    return _Heads(heads, kv_heads, head_dim, has_keys=has_keys, has_values=has_keys and not shares_values)


def _takes_earlier_keys(reader: ConfigReader, index: int) -> bool:
    """Gemma 4: the last `num_kv_shared_layers` layers have no key and value projections of their own."""
    shared = reader.integer("num_kv_shared_layers", default=0, least=0)
    return shared > 0 and index >= reader.layer_count() - shared


def _attention(reader: ConfigReader, family: Family, heads: _Heads, hidden: int) -> _Part:
    attended = heads.heads * heads.head_dim
    query = attended * 2 if family.query_gate else attended
    key_value = heads.kv_heads * heads.head_dim
    projections = query + key_value * (heads.has_keys + heads.has_values)
    biases = projections * reader.flag(family.qkv_bias) + hidden * reader.flag(family.output_bias)
    norms = 0
    if family.qk_norm and (not family.qk_norm_key or reader.flag(family.qk_norm_key)):
        widths = (heads.head_dim, heads.head_dim) if family.qk_norm == "head" else (attended, key_value)
        norms = widths[0] + widths[1] * heads.has_keys
    return _Part(
        matrices=hidden * (projections + attended),
        biases=biases,
        norms=norms,
        other=heads.heads if family.sinks else 0,
    )


def _recurrent(reader: ConfigReader, family: Family, hidden: int) -> _Part:
    return _gated_delta_net(reader, hidden) if family.recurrent == "delta" else _mamba2(reader, hidden)


def _gated_delta_net(reader: ConfigReader, hidden: int) -> _Part:
    """Qwen3-Next's and Qwen3.5's linear attention (modeling_qwen3_next.py, Qwen3NextGatedDeltaNet)."""
    value_heads = reader.integer("linear_num_value_heads")
    value_dim = reader.integer("linear_value_head_dim")
    values = value_heads * value_dim
    keys = reader.integer("linear_num_key_heads") * reader.integer("linear_key_head_dim")
    inputs = 2 * keys + 2 * values + 2 * value_heads
    taps = (2 * keys + values) * reader.integer("linear_conv_kernel_dim")
    return _Part(matrices=hidden * (inputs + values), norms=value_dim, biases=value_heads, other=taps + value_heads)


def _mamba2(reader: ConfigReader, hidden: int) -> _Part:
    """Granite 4's state-space layer (modeling_granitemoehybrid.py, GraniteMoeHybridMambaLayer)."""
    heads = reader.integer("mamba_n_heads")
    inner = reader.integer("mamba_expand") * hidden
    channels = inner + 2 * reader.integer("mamba_n_groups") * reader.integer("mamba_d_state")
    inputs = inner + channels + heads
    biases = heads + channels * reader.flag("mamba_conv_bias") + (inputs + hidden) * reader.flag("mamba_proj_bias")
    taps = channels * reader.integer("mamba_d_conv")
    return _Part(matrices=hidden * (inputs + inner), norms=inner, biases=biases, other=taps + 2 * heads)


def _is_sparse(reader: ConfigReader, family: Family, index: int) -> bool:
    """Whether this layer routes to experts: by the family's rule for which layers stay dense."""
    experts = family.experts
    if experts is None or (experts.dense_too and not reader.flag("enable_moe_block")):
        return False
    if reader.integer(*experts.count, least=0) == 0:
        return False
    if index < reader.integer("first_k_dense_replace", default=0, least=0):
        return False
    return (
        index not in reader.layer_numbers("mlp_only_layers")
        and (index + 1) % reader.integer("decoder_sparse_step", default=1) == 0
    )


def _mlp_width(reader: ConfigReader, family: Family, index: int, sparse: bool) -> int:
    """Width of the MLP that every token passes: a dense layer's own, or a sparse layer's shared experts."""
    experts = family.experts
    if experts and experts.shared_width and (sparse or family.recurrent == "mamba2"):
        return reader.integer(experts.shared_width, default=0, least=0)
    if experts and sparse and experts.shared_units:
        return reader.integer(experts.shared_units, default=0, least=0) * reader.integer(experts.width)
    if experts and sparse and not experts.dense_too:
        return 0
    width = reader.integer("intermediate_size")
    return width * 2 if reader.flag("use_double_wide_mlp") and _takes_earlier_keys(reader, index) else width


def _mlp(reader: ConfigReader, family: Family, hidden: int, width: int) -> _Part:
    inner = 2 * width if family.gated_mlp else width
    biases = (inner + hidden) * reader.flag(family.mlp_bias) if width else 0
    return _Part(matrices=hidden * (inner + width), biases=biases)


class _Routed(NamedTuple):
    """A layer's routed experts: how many, how wide, elements of one, and what stands around them."""

    experts: int = 0
    per_token: int = 0
    width: int = 0
    each: int = 0
    around: _Part = _Part()


_NO_EXPERTS = _Routed()
_NO_HEADS = _Heads(0, 0, 0)


def _routed(reader: ConfigReader, experts: Experts, hidden: int) -> _Routed:
    count = reader.integer(*experts.count)
    per_token = reader.integer(*experts.per_token)
    if per_token > count:
        raise BadInput(
            f"config.json of {reader.name}: {per_token} experts for each token, but there are {count}",
            hint="use the config.json that was published with the weights",
        )
    width = reader.integer(experts.width)
    # Gemma 4 adds three norms around its experts, and scales for the router's input and for each expert.
    beside = experts.dense_too
    around = _Part(
        matrices=hidden * count + (hidden if experts.shared_gate else 0),
        biases=count * experts.router_bias + count * (2 * width + hidden) * experts.expert_bias,
        norms=3 * hidden if beside else 0,
        other=hidden + count if beside else 0,
    )
    return _Routed(count, per_token, width, 3 * hidden * width, around)


def _per_layer_input(reader: ConfigReader, family: Family, hidden: int) -> _Part:
    """Gemma 4: a gate and a projection that add each layer's own embedding of the token."""
    width = per_layer_input_width(reader, family)
    return _Part(matrices=2 * hidden * width, norms=hidden if width else 0)


def per_layer_input_width(reader: ConfigReader, family: Family) -> int:
    """Width of Gemma 4's per-layer embeddings, 0 where there are none."""
    return reader.integer("hidden_size_per_layer_input", default=0, least=0) if family.per_layer_inputs else 0
