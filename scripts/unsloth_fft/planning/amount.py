"""How many optimizer steps and tokens the asked run comes to."""

from __future__ import annotations

import math
import shlex
from typing import NamedTuple

from ..core.errors import BadInput
from ..settings.setting import Setting
from .request import Request
from .row_joining import lays_end_to_end, packs


class RunLength(NamedTuple):
    """`tokens` counts what is read, padding included."""

    steps: int
    tokens: int


MOST_STEPS, MOST_TOKENS = 2**31 - 1, 10**18
"""What `schedule.max_steps` and `plan.predicted.tokens` may be (schemas/parameters.schema.json)."""

# How full examples of raw text are taken to be that nobody read and nothing packs: a judgement.
UNKNOWN_FILL = 0.5


def run_length(request: Request, setting: Setting, epochs: float | None) -> RunLength:
    """Steps and tokens of the run. `epochs` counts only where neither steps nor tokens were asked for.

    Raises BadInput where the length cannot be known (no data read, and neither steps nor tokens given), or where
    numbers that are each allowed come to more than any run is.
    """
    per_row = tokens_per_row(request, setting)
    steps = _steps(request, setting, per_row, epochs)
    rows = float(steps * request.effective_batch)
    if request.amount.in_passes and epochs is not None:
        rows = min(rows, training_rows(request, setting) * epochs)  # the last batch of a pass may be short
    length = RunLength(steps, max(round(rows * per_row), 1))
    if length.steps > MOST_STEPS or length.tokens > MOST_TOKENS:
        raise BadInput(
            f"the run comes to {float(length.steps):.3g} steps and {float(length.tokens):.3g} tokens; at most"
            f" {MOST_STEPS:,} steps and {float(MOST_TOKENS):.0e} tokens can be planned",
            hint="ask for less: fewer rows, passes, tokens or steps, or more rows a step (--effective-batch)",
        )
    return length


def tokens_per_row(request: Request, setting: Setting) -> float:
    """What a row of a batch costs in tokens, padding included."""
    if request.data is None or packs(request, setting):
        return float(request.seq_length)
    if lays_end_to_end(request, setting):
        return request.data.mean_length(request.seq_length)
    return request.data.padded_length(request.seq_length, setting.micro_batch)


def learned_per_row(request: Request, setting: Setting) -> float:
    """What a row of a batch holds in tokens, padding left out."""
    if packs(request, setting):
        return float(request.seq_length)
    if request.data is not None:
        return request.data.mean_length(request.seq_length)
    return request.seq_length * (UNKNOWN_FILL if request.objective == "pretrain" else 1.0)


def _steps(request: Request, setting: Setting, per_row: float, epochs: float | None) -> int:
    amount = request.amount
    if amount.max_steps is not None:
        return amount.max_steps
    if amount.tokens is not None:
        return max(math.ceil(amount.tokens / (request.effective_batch * per_row)), 1)
    if request.data is None or epochs is None:
        raise BadInput(
            "how much to train is not known: the data cannot be counted here",
            hint=f"for whole passes say how the rows are: --rows N --tokens-per-row X --epochs 1; or add --max-steps N"
            f" or --tokens N; {_how_to_count(request.unread, request.model)}",
        )
    return max(math.ceil(_steps_a_pass(request, setting) * epochs), 1)


def _steps_a_pass(request: Request, setting: Setting) -> int:
    """As the Trainer counts them: micro-batches over all GPUs, then optimizer steps, each rounded up (transformers
    5.17.0, Trainer.set_initial_training_values)."""
    micro_batches = math.ceil(training_rows(request, setting) / (setting.micro_batch * setting.gpus))
    return max(math.ceil(micro_batches / setting.accumulation), 1)


def _how_to_count(unread: str | None, model: str) -> str:
    """Where the amount may come from: the data doctor counts what has to be decoded or fetched."""
    if unread is None:
        return "or give --dataset a local file or folder"
    counting = shlex.join(["data", unread, "--model", model])
    return (
        f"`unsloth_fft_tool.py {counting}` counts rows and tokens where the data are (one"
        " pass over English text is about a token for every 4 bytes)"
    )


def passes(request: Request, setting: Setting, steps: int) -> float | None:
    """How often `steps` go over the training data; None where its rows are not known."""
    if request.amount.epochs is not None:
        return request.amount.epochs
    return None if request.data is None else steps * request.effective_batch / training_rows(request, setting)


def training_rows(request: Request, setting: Setting) -> float:
    """Rows an epoch reads: without the held-out ones, and packed into full sequences where that is done."""
    assert request.data is not None
    share = (1 - request.data.held_out(request.reading.eval_fraction) / request.data.rows) * request.data.each
    if not packs(request, setting):
        return max(round(len(request.data.examples(request.seq_length)) * share), 1)
    return max(math.ceil(sum(request.data.lengths) * share / request.seq_length), 1)
