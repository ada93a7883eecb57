"""What share of a model's updates will survive: from its own weights where they are at hand, else over those known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..core.errors import BadInput
from ..estimates import survival


class Expected(NamedTuple):
    """Share (0 to 1) of weights that a step moves; `low` and `high` where the weights were not seen.

    `unread` says why weights that are here could not be read.
    """

    share: float
    low: float | None = None
    high: float | None = None
    unread: str | None = None

    @property
    def range(self) -> list[float] | None:
        """Both ends, to four digits; None where the weights were seen or nothing is lost."""
        return None if self.low is None or self.high is None else [round(self.low, 4), round(self.high, 4)]

    @property
    def in_words(self) -> str:
        """The share, and whose it is: "2.0% of this model's weights", or a range and that they were not seen."""
        if self.low is None or self.high is None:
            return f"{self.share:.1%} of this model's weights"
        reason = f"its weights could not be read: {self.unread}" if self.unread else "its own were not seen"
        return f"{self.low:.1%} to {self.high:.1%} of the weights, over the models known ({reason})"


def expected(
    model: str,
    learning_rate: float,
    weights: str,
    optimizer: str,
    optimizer_args: Mapping[str, bool],
    revision: str | None = None,
) -> Expected:
    """For `model`, a folder, a file or a name, under settings named as in the parameters file.

    Weights are read, for at most a second, only where rounding can lose something.
    """
    update = survival.update_of(weights, optimizer, optimizer_args)
    if update.unbiased or update.rounds_to != "bfloat16":
        return Expected(survival.typical_survival(learning_rate, weights, optimizer, optimizer_args))
    from .sample import at_hand, sample  # only a plan that rounding may touch pays for it

    unread = None
    try:
        path = at_hand(model, revision)
        if path is not None:
            return Expected(survival.survival(sample(path, update.rounds_to).counts, learning_rate))
    except BadInput as problem:
        unread = problem.message
    known = survival.over_known_models(learning_rate)
    return Expected(known.middle, known.low, known.high, unread)
