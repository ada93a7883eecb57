"""Successive halving over learning rates: short runs of all, longer ones of the better half, until two are left.

After Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization" (AISTATS 2016).
Every run starts from the base model and has a whole schedule of its own, so that a rate is judged as it will be used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..core.errors import BadInput

# Around the planned rate: a quarter of it to sixteen times it. The best rate of the one pretrained model measured lay
# ten times and more above the planned one (references/measurements/methods-and-rates-h200-2026-12-01.jsonl).
FACTORS = ((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (0.5, 1.0, 3.0, 8.0, 16.0), (1.0, 4.0, 16.0))
LARGEST_RATE = 0.01
# With fewer steps a run is mostly its warm-up (a judgement).
LEAST_STEPS = 8


@dataclass(frozen=True)
class Try:
    """One short run: `loss` is the held-out loss a token at its end; None where the run failed or diverged."""

    learning_rate: float
    steps: int
    loss: float | None


@dataclass(frozen=True)
class Round:
    """`rates` are tried for `steps` optimizer steps each."""

    rates: int
    steps: int


def rates_around(planned: float, budget_steps: int) -> tuple[float, ...]:
    """Rates to try, two digits each, rising: seven, five or three, as many as the budget of steps compares."""
    sets = [_times(planned, factors) for factors in FACTORS]
    return next((rates for rates in sets if least_budget(len(rates)) <= budget_steps), sets[-1])


def _times(planned: float, factors: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted({float(f"{planned * factor:.1e}") for factor in factors if planned * factor <= LARGEST_RATE}))


def rounds(rates: int, budget_steps: int) -> list[Round]:
    """What a budget of optimizer steps buys: every round has half the rates and twice the steps of the one before.

    Raises BadInput for a budget with which the first runs would have fewer than LEAST_STEPS steps.
    """
    counts = _counts(rates)
    first: int = budget_steps // sum(count * 2**number for number, count in enumerate(counts))
    if first < LEAST_STEPS:
        raise BadInput(
            f"{budget_steps:,} steps are too few to compare {rates} learning rates: {least_budget(rates):,} are needed",
            hint="give a larger --share or --minutes, or fewer rates: --rates 1e-5,5e-5,2e-4",
        )
    return [Round(count, first * 2**number) for number, count in enumerate(counts)]


def least_budget(rates: int) -> int:
    """Optimizer steps that comparing so many rates takes at least."""
    starts: int = sum(count * 2**number for number, count in enumerate(_counts(rates)))
    return LEAST_STEPS * starts


def _counts(rates: int) -> list[int]:
    counts = [rates]
    while counts[-1] > 2:
        counts.append(math.ceil(counts[-1] / 2))
    return counts


def search(
    rates: Sequence[float], budget_steps: int, attempt: Callable[[float, int], float | None]
) -> Iterator[list[Try]]:
    """The tries of one round after the other; `attempt` takes a rate and a number of steps and returns the loss.

    Raises BadInput where every rate of a round failed.
    """
    left = list(rates)
    for planned in rounds(len(rates), budget_steps):
        tries = [Try(rate, planned.steps, attempt(rate, planned.steps)) for rate in sorted(left)[: planned.rates]]
        yield tries
        ranked = sorted((one for one in tries if one.loss is not None), key=lambda one: (one.loss, one.learning_rate))
        if not ranked:
            raise BadInput(
                f"every learning rate failed: {', '.join(f'{one.learning_rate:g}' for one in tries)}",
                hint="look at the last run's error in its folder, and give smaller --rates",
            )
        left = [one.learning_rate for one in ranked[: math.ceil(len(tries) / 2)]]


def best(tries: Sequence[Try]) -> Try:
    """The lowest loss of the last, longest round."""
    return min((one for one in tries if one.loss is not None), key=lambda one: (one.loss, one.learning_rate))


def at_edge(chosen: float, rates: Sequence[float]) -> str | None:
    """ "lower" or "upper" where the chosen rate is the first or last that was tried: the best one may lie beyond."""
    if len(rates) > 1 and chosen == max(rates):
        return "upper"
    return "lower" if len(rates) > 1 and chosen == min(rates) else None
