"""Losses of a model on token sequences, and how sure a difference between two models is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

IGNORED = -100  # the label that cross entropy leaves out
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class RowLoss:
    """Summed loss of one row in nats, and over how many tokens."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """Mean losses a token of two models on the same rows; `low` and `high` bound the difference after - before.

    The bounds are the percentile interval of a paired bootstrap over rows; None with fewer than two rows, where
    nothing can be said.
    """

    rows: int
    tokens: int
    before: float
    after: float
    low: float | None
    high: float | None

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


def row_losses(model: Any, rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[RowLoss]:
    """The loss of `model` (plain transformers, on any device) on each (input_ids, labels), one row at a time."""
    import torch

    found = []
    with torch.inference_mode():
        for input_ids, labels in rows:
            ids = torch.tensor([input_ids], device=model.device)
            wanted = torch.tensor(labels[1:], device=model.device)
            logits = model(input_ids=ids).logits[0, :-1].float()
            nats = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            found.append(RowLoss(float(nats), int((wanted != IGNORED).sum())))
    return found


def compare(before: Sequence[RowLoss], after: Sequence[RowLoss], seed: int = 3407) -> Comparison:
    """The two models' mean losses and the bootstrap interval of their difference; deterministic for a seed."""
    import numpy

    tokens = numpy.array([row.tokens for row in before], dtype=float)
    first, second = (numpy.array([row.nats for row in rows]) for rows in (before, after))
    low = high = None
    if len(before) > 1:
        chosen = numpy.random.default_rng(seed).integers(0, len(before), size=(RESAMPLES, len(before)))
        differences = (second - first)[chosen].sum(axis=1) / tokens[chosen].sum(axis=1)
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(bound) for bound in numpy.quantile(differences, [tail, 1 - tail]))
    total = tokens.sum()
    return Comparison(len(before), int(total), float(first.sum() / total), float(second.sum() / total), low, high)
