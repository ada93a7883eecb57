"""Which weight updates survive rounding, worked out before training (derivation: references/exactness.md).

AdamW moves a weight by about the learning rate: on the first step by exactly that, in either direction. A stored
value in [2**e, 2**(e+1)) has neighbours 2**(e-m) apart (m fraction bits: 7 in bfloat16, 23 in float32), and a move of
less than half that rounds back to where it was. So what moves depends only on the exponents of the weights, and a
count of exponents answers the question for every learning rate at once. Standard library only.
"""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..settings.recipes import Keeping, keeping_of

FRACTION_BITS: Final = {"bfloat16": 7, "float16": 10, "float32": 23, "float64": 52}
"""Stored fraction bits (IEEE 754-2019 table 3.5; bfloat16 is float32 with the low 16 bits cut off)."""

LOWEST_EXPONENT: Final = {"bfloat16": -126, "float16": -14, "float32": -126, "float64": -1022}
"""Exponent of the smallest normal number; below it the spacing no longer shrinks."""

TYPICAL_WEIGHT_STD: Final = 0.02
"""`initializer_range` of the Llama, Qwen2 and Mistral configurations in transformers 5.17 (read 2026-11-22)."""

WANTED_SHARE: Final = 0.99
# What keeps every update, as flags of the planner.
REMEDY: Final = "--precision float32, or --optimizer adamw_flash on an NVIDIA GPU"
"""Below this predicted share `train` warns before it starts."""


class Update(NamedTuple):
    """How a setting stores what a step adds: the type that rounds it, or `unbiased` where rounding is random."""

    rounds_to: str
    unbiased: bool
    explanation: str


class ExponentCounts(NamedTuple):
    """How many weights have each exponent, in a type with the fraction bits of `dtype`.

    `powers[e]`: weights that are exactly +-2**e. `others[e]`: weights strictly inside (2**e, 2**(e+1)).
    `zeros`: weights that are 0. Counts may be shares (floats) that sum to 1.
    """

    dtype: str
    zeros: float
    powers: Mapping[int, float]
    others: Mapping[int, float]

    @property
    def total(self) -> float:
        return self.zeros + sum(self.powers.values()) + sum(self.others.values())


def update_of(weights: str, optimizer_name: str, optimizer_args: Mapping[str, bool]) -> Update:
    """What becomes of an update under these settings; names are those of the parameters file."""
    keeping = keeping_of(weights, optimizer_name, optimizer_args)
    detail = keeping.detail.format(weights=weights)
    return Update(keeping.rounds_to or weights, keeping is Keeping.STOCHASTIC, detail)


def typical_survival(
    learning_rate: float,
    weights: str,
    optimizer_name: str,
    optimizer_args: Mapping[str, bool],
    weight_std: float = TYPICAL_WEIGHT_STD,
) -> float:
    """Share (0 to 1) of weights drawn from N(0, weight_std) that one AdamW step at `learning_rate` really moves."""
    update = update_of(weights, optimizer_name, optimizer_args)
    return survival(normal_counts(update.rounds_to, weight_std), learning_rate, unbiased=update.unbiased)


def smallest_lr_for(
    share: float,
    weights: str,
    optimizer_name: str,
    optimizer_args: Mapping[str, bool],
    weight_std: float = TYPICAL_WEIGHT_STD,
) -> float:
    """Smallest learning rate (three digits, rounded up) at which `share` survives; 0.0 where every rate does."""
    update = update_of(weights, optimizer_name, optimizer_args)
    return smallest_lr(normal_counts(update.rounds_to, weight_std), share, unbiased=update.unbiased)


def survival(counts: ExponentCounts, learning_rate: float, *, unbiased: bool = False) -> float:
    """Share of the counted weights that a step of +-`learning_rate` moves, both directions equally likely."""
    if unbiased or not counts.total:
        return 1.0
    moved = counts.zeros * (learning_rate > _zero_spacing(counts.dtype) / 2)
    for exponent, count in counts.powers.items():
        up = _moves(learning_rate, exponent, counts.dtype)
        down = _moves(learning_rate, exponent - 1, counts.dtype)  # below 2**e the spacing is half as wide
        moved += count * (up + down) / 2
    for exponent, count in counts.others.items():
        moved += count * _moves(learning_rate, exponent, counts.dtype)
    return min(moved / counts.total, 1.0)


def smallest_lr(counts: ExponentCounts, share: float, *, unbiased: bool = False) -> float:
    """Smallest learning rate (three digits, rounded up) at which `share` of the counted weights moves.

    What survives changes only where half a spacing is crossed, so those are the only rates to try.
    """
    if unbiased or not counts.total:
        return 0.0
    exponents = {*counts.powers, *counts.others}
    halves = {_spacing(e, counts.dtype) / 2 for e in exponents | {e - 1 for e in exponents}}
    for half in sorted(halves | {_zero_spacing(counts.dtype) / 2}):
        rate = rounded_up(half)
        if survival(counts, rate) >= share:
            return rate
    raise ValueError(f"share {share} is not between 0 and 1")


def normal_counts(dtype: str, std: float) -> ExponentCounts:
    """The exponents of weights drawn from N(0, std) and rounded to `dtype`, as shares that sum to 1."""
    top = math.ceil(math.log2(std)) + 4  # beyond 16 standard deviations nothing is left
    lowest = max(LOWEST_EXPONENT[dtype], top - 64)
    powers, others = {}, {}
    for exponent in range(lowest, top + 1):
        low, high = 2.0**exponent, 2.0 ** (exponent + 1)
        half = _spacing(exponent, dtype) / 2
        powers[exponent] = _normal_between(low - half / 2, low + half, std)
        others[exponent] = _normal_between(low + half, high - half, std)
    rest = max(0.0, 1.0 - sum(powers.values()) - sum(others.values()))
    return ExponentCounts(dtype, rest, powers, others)


def merged(parts: Iterable[ExponentCounts]) -> ExponentCounts:
    """Several counts of one type, at least one, as one."""
    found = list(parts)
    powers: Counter[int] = Counter()
    others: Counter[int] = Counter()
    for counts in found:
        powers.update(counts.powers)
        others.update(counts.others)
    return ExponentCounts(found[0].dtype, sum(counts.zeros for counts in found), powers, others)


@functools.cache
def known_models(dtype: str = "bfloat16") -> dict[str, ExponentCounts]:
    """Shares by exponent, in `dtype`, of the models whose weights were counted, and of weights as initialised, by name.

    They differ: half of SmolLM2-135M's weights are larger than 0.1, of gemma-3-270m's larger than 0.02; Llama, Qwen2
    and Mistral begin with N(0, 0.02).
    """
    counted = json.loads(Path(__file__).with_name("known_weights.json").read_text(encoding="utf-8"))
    found = {
        entry["name"]: ExponentCounts(
            dtype,
            entry["zeros"],
            {int(exponent): share for exponent, share in entry["powers"].items()},
            {int(exponent): share for exponent, share in entry["others"].items()},
        )
        for entry in counted
    }
    return {**found, f"as initialised, N(0, {TYPICAL_WEIGHT_STD:g})": normal_counts(dtype, TYPICAL_WEIGHT_STD)}


class Spread(NamedTuple):
    """The lowest, the middle and the highest share over `known_models`."""

    low: float
    middle: float
    high: float


def over_known_models(learning_rate: float, dtype: str = "bfloat16", *, unbiased: bool = False) -> Spread:
    """What a step of `learning_rate` moves where a model's own weights were not seen."""
    shares = sorted(survival(counts, learning_rate, unbiased=unbiased) for counts in known_models(dtype).values())
    return Spread(shares[0], shares[len(shares) // 2], shares[-1])


def rounded_up(rate: float, digits: int = 3) -> float:
    """The next number above `rate` with that many significant digits."""
    unit = 10.0 ** (math.floor(math.log10(rate)) - digits + 1)
    return float(f"{(math.floor(rate / unit) + 1) * unit:.{digits - 1}e}")


def _moves(learning_rate: float, exponent: int, dtype: str) -> float:
    """1 if a step crosses half the spacing at `exponent`; a tie goes to the even neighbour, so half of them move."""
    half = _spacing(exponent, dtype) / 2
    if learning_rate == half:
        return 0.5
    return float(learning_rate > half)


def _spacing(exponent: int, dtype: str) -> float:
    return 2.0 ** (max(exponent, LOWEST_EXPONENT[dtype]) - FRACTION_BITS[dtype])


def _zero_spacing(dtype: str) -> float:
    return _spacing(LOWEST_EXPONENT[dtype], dtype)


def _normal_between(low: float, high: float, std: float) -> float:
    """P(low < |x| < high) for x from N(0, std)."""
    return math.erf(high / (std * math.sqrt(2))) - math.erf(low / (std * math.sqrt(2)))
