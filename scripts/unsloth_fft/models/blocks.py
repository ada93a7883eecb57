"""Counting the elements of decoder layers from a config and its family's traits.

Standard library only. A "matrix" element takes part in a matrix product; biases, norm weights and the rest
(attention sinks, convolution taps, state decay, router scales) are counted apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from ..core.errors import BadInput
from .config import ConfigReader
from .feed_forward import Routed, alternating_updates, is_sparse, mlp, mlp_width, per_layer_input, routed
from .mixers import Heads, Part, attention, heads_of, recurrence
from .traits import Family, LayerKind

# How config.json spells the kinds of layer; the right-hand side is what Block.kind says.
KINDS = {
    "full_attention": LayerKind.FULL,
    "attention": LayerKind.FULL,
    "sliding_attention": LayerKind.SLIDING,
    "linear_attention": LayerKind.RECURRENT,
    "mamba": LayerKind.RECURRENT,
    "conv": LayerKind.RECURRENT,
    "hybrid": LayerKind.FULL,
    "mlp": LayerKind.MLP,
    "moe": LayerKind.EXPERTS,
}
# Layers with attention; the others keep no keys and need no mask.
ATTENDING = (LayerKind.FULL, LayerKind.SLIDING)
# Nemotron-H's pattern, a letter a layer (configuration_nemotron_h.py, _pattern_to_list).
PATTERN = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


@dataclass(frozen=True)
class Block:
    """One decoder layer, as many times as `count` says. Widths in elements.

    `heads`, `kv_heads` and `head_dim` are those of its attention (0 in a recurrent layer); `mlp_width` is the
    dense MLP's or the shared experts' width that every token passes (0 where there is none), `expert_width`
    one routed expert's. `recurrent_passed`, `scan_kept`, `scanned`: what one token leaves in a recurrence (Part).
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
    recurrent_passed: int = 0
    scan_kept: int = 0
    scanned: int = 0

    @property
    def parameters(self) -> int:
        """Elements of one such layer."""
        matrices = self.mixer_matrices + self.mlp_matrices + self.expert_matrices * self.experts
        return matrices + self.biases + self.norms + self.other

    @property
    def matmul_per_token(self) -> int:
        """Matrix elements of one such layer that one token meets: of the routed experts only its own."""
        return self.mixer_matrices + self.mlp_matrices + self.expert_matrices * self.experts_per_token


def blocks_of(reader: ConfigReader, family: Family) -> tuple[Block, ...]:
    """All decoder layers, equal ones joined, in order of first appearance."""
    kinds = layer_kinds(reader, family)
    layers = [_layer(reader, family, index, kind) for index, kind in enumerate(kinds)]
    return tuple(replace(block, count=count) for block, count in Counter(layers).items())


def layer_kinds(reader: ConfigReader, family: Family) -> list[LayerKind]:
    """The kind of each layer: from `layer_types` where the file lists them, else from the family's pattern."""
    layers = reader.layer_count()
    listed = _listed(reader, layers)
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
    if family.beside:
        return [LayerKind.FULL] * layers
    if family.recurrent == "conv":
        return _attending_at(reader.layer_numbers("full_attn_idxs") or list(range(layers)), layers)
    if family.recurrent == "mamba2" and reader.get("attn_layer_indices") is not None:
        return _attending_at(reader.layer_numbers("attn_layer_indices"), layers)
    if family.recurrent == "lightning":
        return [LayerKind.RECURRENT if index % 2 else LayerKind.FULL for index in range(layers)]
    if family.recurrent:
        return _periodic(reader, family, layers, LayerKind.RECURRENT)
    if not _windowed(reader, family):
        return [LayerKind.FULL] * layers
    if family.window_from:
        # Qwen and dots: the first `max_window_layers` layers attend in full (configuration_qwen2.py).
        start = reader.integer("max_window_layers", default=family.window_from, least=0)
        return [LayerKind.SLIDING if index >= start else LayerKind.FULL for index in range(layers)]
    return _periodic(reader, family, layers, LayerKind.SLIDING)


def _listed(reader: ConfigReader, layers: int) -> list[str] | None:
    pattern = reader.get("hybrid_override_pattern")
    if isinstance(pattern, str) and reader.get("layers_block_type") is None:
        if len(pattern) != layers or set(pattern) - set(PATTERN):
            raise BadInput(
                f"config.json of {reader.name}: `hybrid_override_pattern` must have one of "
                f"{' '.join(PATTERN)} for each of the {layers} layers",
                hint="use the config.json that was published with the weights",
            )
        return [PATTERN[letter] for letter in pattern]
    return reader.strings("layer_types", layers) or reader.strings("layers_block_type", layers)


def _attending_at(numbers: list[int], layers: int) -> list[LayerKind]:
    return [LayerKind.FULL if index in numbers else LayerKind.RECURRENT for index in range(layers)]


def _periodic(reader: ConfigReader, family: Family, layers: int, kind: LayerKind) -> list[LayerKind]:
    period = family.period
    if family.period_key and isinstance(reader.get(family.period_key), str):
        period = len(reader.get(family.period_key))
    elif family.period_key:
        period = reader.integer(family.period_key, default=family.period)
    if not period:
        return [kind] * layers
    kinds = [kind if (index + 1) % period else LayerKind.FULL for index in range(layers)]
    if family.wide_full_heads:
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
    reader = reader.of_layer(index)
    hidden = reader.integer("hidden_size")
    sparse = kind is LayerKind.EXPERTS or (not family.one_mixer and is_sparse(reader, family, index))
    heads = heads_of(reader, family, index, kind) if kind in ATTENDING else Heads()
    mixer = attention(reader, family, heads, hidden) if kind in ATTENDING else Part()
    beside = recurrence(reader, family, hidden) if kind is LayerKind.RECURRENT or family.beside else Part()
    alone = family.one_mixer and kind not in (LayerKind.MLP, LayerKind.EXPERTS)
    width = 0 if alone else mlp_width(reader, family, index, sparse)
    experts = routed(reader, family.experts, hidden) if sparse and family.experts else Routed()
    parts = (
        mixer,
        beside,
        Part() if alone else mlp(reader, family, hidden, width),
        experts.around,
        per_layer_input(reader, family, hidden),
        alternating_updates(reader, family, hidden),
        norm_part(family, family.norms_per_layer * hidden),
    )
    return Block(
        count=1,
        kind=kind,
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        mlp_width=width,
        experts=experts.experts,
        experts_per_token=experts.per_token,
        expert_width=experts.width,
        mixer_matrices=mixer.matrices + beside.matrices,
        mlp_matrices=sum(part.matrices for part in parts[2:]),
        expert_matrices=experts.each,
        biases=sum(part.biases for part in parts),
        norms=sum(part.norms for part in parts),
        other=sum(part.other for part in parts),
        recurrent_passed=beside.passed,
        scan_kept=beside.scan_kept,
        scanned=beside.scanned,
    )


def norm_part(family: Family, width: int) -> Part:
    """One normalisation over `width` elements."""
    if family.norm == "none":
        return Part()
    return Part(norms=width, biases=width if family.norm == "layer" else 0)
