"""What the pattern of movement says about how updates were stored: sharp, gradual, or no pattern.

Where every update is rounded to bfloat16, weights below a certain size nearly all move and weights a factor of two
above it do not move at all. Where a finer master collects the updates, or rounding is random, movement fades slowly
with size. Measured on a small Llama, both ways: references/exactness.md, "How the two leave different traces".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from ..estimates.survival import FRACTION_BITS
from ..weights.floats import Array
from .compare import Comparison

ENOUGH: Final = 200
"""Sampled weights a bin needs before its share counts: a share is then known to about 3 percentage points."""

STILL: Final = 0.05
"""At most this share moves from a sharp edge on. Measured with bf16 rounding: at most 0.003."""

FLAT: Final = 0.93
"""At least this share moves two bins below a sharp edge. Measured over 5 to 20 steps: at least 0.949 with bf16
rounding; at most 0.86 with a float32 master, which after few steps has an edge too, but reaches it gradually."""

BIAS: Final = 127


@dataclass(frozen=True)
class Signature:
    """Movement by weight size, pooled over tensors: bin b holds weights in [2**(b - 127), 2**(b - 126)).

    `edge` is the exponent e of a sharp edge: weights of at least 2**e did not move. `fades` says that movement
    reaches beyond any such edge.
    """

    counts: Array
    changed: Array
    edge: int | None
    fades: bool

    @property
    def learning_rates(self) -> tuple[float, float] | None:
        """The learning rates (more than the first, at most the second) whose bf16 rounding puts the edge there."""
        if self.edge is None:
            return None
        half_spacing = 2.0 ** (self.edge - 1 - FRACTION_BITS["bfloat16"] - 1)
        return half_spacing, 2 * half_spacing

    def expected(self, counts: Array) -> float:
        """How many of a tensor's sampled weights would have moved, had they moved as others of their size did.

        A size that was not seen takes the share of the nearest smaller one; beyond the largest it fades (`_beyond`).
        """
        shares = _filled(self.counts, self.changed)
        return float(np.dot(counts, shares)) if shares is not None else 0.0


def signature(comparisons: Iterable[Comparison]) -> Signature:
    """Pool the samples of the given tensors, which should be ones that moved."""
    counts: Array = np.zeros(256, np.int64)
    changed: Array = np.zeros(256, np.int64)
    for comparison in comparisons:
        counts += comparison.sampled
        changed += comparison.sampled_changed
    known = np.flatnonzero(counts >= ENOUGH)
    shares = {int(index) - BIAS: float(changed[index] / counts[index]) for index in known if index > 0}
    edge = _edge(shares)
    fades = edge is None and bool(shares) and max(shares.values()) >= 0.5
    return Signature(counts, changed, edge, fades)


def _edge(shares: dict[int, float]) -> int | None:
    """The lowest exponent from which nothing moves, if movement below it is flat and high."""
    for exponent in sorted(shares):
        beyond = [share for other, share in shares.items() if other >= exponent]
        below, two_below = shares.get(exponent - 1), shares.get(exponent - 2)
        if below is None or max(beyond) > STILL:
            continue
        reference = two_below if two_below is not None else below
        return exponent if below >= 0.5 and reference >= FLAT else None
    return None


def _filled(counts: Array, changed: Array) -> Array | None:
    """The share that moves of every bin, also where too few weights were seen to tell."""
    known = np.flatnonzero(counts >= ENOUGH)
    if not known.size:
        return None
    nearest = known[np.maximum(np.searchsorted(known, np.arange(counts.size), side="right") - 1, 0)]
    shares: Array = changed[nearest] / counts[nearest]
    top = int(known[-1])
    for beyond in range(top + 1, counts.size):
        shares[beyond] = _beyond(float(shares[top]), int(counts[top]), beyond - top)
    return shares


def _beyond(share: float, seen: int, doublings: int) -> float:
    """The share that moves of weights so many doublings larger, changes being about normally distributed.

    Each doubling of the weight doubles the spacing, and so the distance that a change must reach.
    """
    careful = min(max(share, 0.5 / seen), 1 - 0.5 / seen)
    distance = NormalDist().inv_cdf(1 - careful / 2) * 2.0**doublings
    return math.erfc(distance / math.sqrt(2))
