"""How sure a difference between the losses of two models on the same rows is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..training.held_out import RowLoss, by_rows, by_tokens

RESAMPLES = 2000
DRAWN_AT_ONCE = 2**20  # rows: 24 MiB, however many were held out
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Mean losses a token of two models on the same rows; `low` and `high` bound the difference after - before.

    `before_by_rows` and `after_by_rows` are means of the rows' own means, in which short rows weigh as much as long
    ones: what many programs print. The bounds are the percentile interval of a paired bootstrap over rows; None with
    fewer than two rows, where nothing can be said.
    """

    rows: int
    tokens: int
    before: float
    after: float
    low: float | None
    high: float | None
    before_by_rows: float
    after_by_rows: float

    @property
    def verdict(self) -> str:
        """better, worse, or not told apart, at the confidence of the interval."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "not told apart"
        return "better" if self.high < 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """As schemas/evaluation.schema.json describes it."""
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "loss_before": self.before,
            "loss_after": self.after,
            "loss_before_by_rows": self.before_by_rows,
            "loss_after_by_rows": self.after_by_rows,
            "perplexity_before": perplexity(self.before),
            "perplexity_after": perplexity(self.after),
            "difference": self.after - self.before,
            "difference_low": self.low,
            "difference_high": self.high,
            "verdict": self.verdict,
        }


def perplexity(loss: float) -> float | None:
    """exp(loss), None where it is too large for a number."""
    return math.exp(loss) if loss < 700 else None


def compare(before: Sequence[RowLoss], after: Sequence[RowLoss], seed: int = 3407) -> Comparison:
    """The two models' mean losses and the bootstrap interval of their difference; deterministic for a seed."""
    import numpy

    tokens = numpy.array([row.tokens for row in before], dtype=float)
    first, second = (numpy.array([row.nats for row in rows]) for rows in (before, after))
    low = high = None
    if len(before) > 1:
        draw, differences = numpy.random.default_rng(seed), []
        at_once = max(1, DRAWN_AT_ONCE // len(before))
        for done in range(0, RESAMPLES, at_once):
            chosen = draw.integers(0, len(before), size=(min(at_once, RESAMPLES - done), len(before)))
            differences += list((second - first)[chosen].sum(axis=1) / tokens[chosen].sum(axis=1))
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(bound) for bound in numpy.quantile(differences, [tail, 1 - tail]))
    return Comparison(
        rows=len(before),
        tokens=int(tokens.sum()),
        before=by_tokens(before),
        after=by_tokens(after),
        low=low,
        high=high,
        before_by_rows=by_rows(before),
        after_by_rows=by_rows(after),
    )
