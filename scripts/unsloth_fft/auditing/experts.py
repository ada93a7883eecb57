"""Experts that saw no token: which of a layer's experts did not move at all, while others of that layer did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..weights.naming import expert_of, group_of, layer_of
from .compare import Comparison, Pair

SHOWN: Final = 3
"""Layers, and experts of a layer, that are named in words before the rest is only counted."""


@dataclass(frozen=True)
class UnusedExperts:
    """The experts of one layer that did not move; `of` is how many it has."""

    layer: int | None
    experts: tuple[int, ...]
    of: int


def unused(pairs: Sequence[Pair], compared: Mapping[str, Comparison]) -> tuple[UnusedExperts, ...]:
    """The unused experts of every layer in which another expert moved."""
    seen: dict[int | None, set[int]] = defaultdict(set)
    moved: dict[int | None, set[int]] = defaultdict(set)
    for pair in pairs:
        if not pair.base.is_weight or group_of(pair.name) == "router":
            continue
        layer, expert, comparison = layer_of(pair.name), expert_of(pair.name), compared[pair.name]
        if expert is not None:
            seen[layer].add(expert)
            if comparison.moves_of(pair).changed:
                moved[layer].add(expert)
        elif pair.parts:
            seen[layer].update(range(pair.parts))
            moved[layer] |= comparison.moved_parts
    return tuple(
        UnusedExperts(layer, tuple(sorted(seen[layer] - moved[layer])), len(seen[layer]))
        for layer in sorted(seen, key=lambda layer: (layer is None, layer or 0))
        if moved[layer] and seen[layer] - moved[layer]
    )


def elements_in(pair: Pair, comparison: Comparison, unused: Sequence[UnusedExperts]) -> int:
    """How many elements of `pair` belong to unused experts: all, some parts, or rows of the router."""
    for layer in unused:
        if layer.layer != layer_of(pair.name):
            continue
        expert = expert_of(pair.name)
        if expert is not None:
            return pair.elements if expert in layer.experts else 0
        if pair.parts == layer.of:
            return len(set(layer.experts) - comparison.moved_parts) * pair.part_length
    return 0


def words(unused: Sequence[UnusedExperts]) -> str:
    """Which experts of which layers, the first of them by number."""
    parts = []
    for found in unused[:SHOWN]:
        more = f" and {len(found.experts) - SHOWN} more" if len(found.experts) > SHOWN else ""
        numbers = ", ".join(map(str, found.experts[:SHOWN]))
        parts.append(f"layer {found.layer}: {numbers}{more} of {found.of}")
    return "; ".join(parts) + (f"; and in {len(unused) - SHOWN} more layers" if len(unused) > SHOWN else "")
