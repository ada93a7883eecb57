"""How many optimizer steps and tokens the asked run comes to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.errors import BadInput
from ..data.splitting import held_out_count
from .request import Request


@dataclass(frozen=True)
class RunLength:
    """`tokens` counts what is read, padding included; `tokens_per_row` what a padded row comes to."""

    steps: int
    tokens: int
    tokens_per_row: float


def packs(request: Request) -> bool:
    """Continued pretraining fills every sequence; instruction rows stay apart."""
    return request.objective == "pretrain"


def run_length(request: Request, micro_batch: int, epochs: float | None) -> RunLength:
    """Steps and tokens of the run. `epochs` counts only where neither steps nor tokens were asked for.

    Raises BadInput where the length cannot be known: no data read, and neither steps nor tokens given.
    """
    per_row = _tokens_per_row(request, micro_batch)
    steps = _steps(request, per_row, epochs)
    return RunLength(steps, max(round(steps * request.effective_batch * per_row), 1), per_row)


def _tokens_per_row(request: Request, micro_batch: int) -> float:
    if request.data is None or packs(request):
        return float(request.seq_length)
    return request.data.padded_length(request.seq_length, micro_batch)


def _steps(request: Request, per_row: float, epochs: float | None) -> int:
    amount = request.amount
    if amount.max_steps is not None:
        return amount.max_steps
    if amount.tokens is not None:
        return max(math.ceil(amount.tokens / (request.effective_batch * per_row)), 1)
    if request.data is None or epochs is None:
        raise BadInput(
            "how much to train is not known: the data cannot be counted here",
            hint="add --max-steps N or --tokens N, or give --dataset a local .jsonl, .json, .csv or .txt file",
        )
    return max(math.ceil(training_rows(request) * epochs / request.effective_batch), 1)


def passes(request: Request, steps: int) -> float | None:
    """How often `steps` go over the training data; None where its rows are not known."""
    return None if request.data is None else steps * request.effective_batch / training_rows(request)


def training_rows(request: Request) -> float:
    """Rows an epoch reads: without the held-out ones, and packed into full sequences where that is done."""
    assert request.data is not None
    rows = request.data.rows - held_out_count(request.data.rows, request.reading.eval_fraction)
    if not packs(request):
        return rows
    total = sum(request.data.lengths) * rows / request.data.rows
    return max(math.ceil(total / request.seq_length), 1)
