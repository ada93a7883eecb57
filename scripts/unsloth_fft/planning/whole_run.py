"""What a run takes beside its optimizer steps: loading, tokenizing and compiling, evaluations, checkpoints. Seconds."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..data.splitting import held_out_count
from ..estimates import disk
from ..settings.recipes import BYTES
from ..settings.setting import Setting
from .amount import RunLength, tokens_per_row
from .request import Request

# About this many evaluations on the way where rows are held out; before the first step and at the end come on top.
EVALUATIONS = 10
# The forward pass is a third of a step's work: the backward computes twice as many products (Kaplan et al. 2020, 2.1).
FORWARD_SHARE = 1 / 3
# What the first step took longer than the others: median of 120 rows of references/measurements, 2026-11-25 and -27
# (1 to 71 s). A CPU compiles nothing.
FIRST_STEP_S = 20.0
# Importing the training stack, and the bytes a second that weights are read at: judgements.
IMPORT_S, READ_A_SECOND = 30.0, 1e9
# Tokens a second that one process tokenizes: a judgement, of fast tokenizers on text.
TOKENIZED_A_SECOND = 300_000


class Beside(NamedTuple):
    """Seconds beside the steps. `evaluations` counts those before, on the way and at the end."""

    start: float
    evaluation: float
    saving: float
    evaluations: int

    @property
    def seconds(self) -> float:
        return self.start + self.evaluation + self.saving


def eval_steps(request: Request, steps: int) -> int | None:
    """After how many steps the held-out rows are evaluated; None where there are none, or too few steps."""
    if request.reading.eval_fraction == 0 and not (request.data and request.data.set_apart):
        return None
    return None if steps < 2 * EVALUATIONS else math.ceil(steps / EVALUATIONS)


def beside(request: Request, setting: Setting, length: RunLength, step_s: float, save_steps: int) -> Beside:
    """What comes on top of `length.steps` steps of `step_s` seconds."""
    held_out = _held_out(request, length)
    every = eval_steps(request, length.steps)
    on_the_way = 0 if every is None else (length.steps - 1) // every
    evaluations = on_the_way + 2 if held_out else 0
    row_s = step_s * FORWARD_SHARE / request.effective_batch
    saves = math.ceil(length.steps / save_steps)
    one_save = disk.save_seconds(request.shape.parameters, setting.weights)
    model = request.shape.parameters * BYTES[setting.weights] / disk.WRITTEN_A_SECOND
    return Beside(
        start=_start(request, setting, length, held_out),
        evaluation=evaluations * held_out * row_s,
        saving=saves * one_save + model,
        evaluations=evaluations,
    )


def _held_out(request: Request, length: RunLength) -> float:
    """Rows of one evaluation; of data that nobody counted, those of one pass that is as long as the run."""
    share = request.reading.eval_fraction
    if request.data is not None:
        rows = request.data.held_out(share)
        return rows * len(request.data.examples(request.seq_length)) / len(request.data.lengths)
    return held_out_count(length.steps * request.effective_batch, share)


def _start(request: Request, setting: Setting, length: RunLength, held_out: float) -> float:
    loading = IMPORT_S + request.shape.parameters * BYTES[setting.weights] / READ_A_SECOND
    if request.data is not None:
        text = sum(request.data.lengths) * request.data.each
    else:
        text = length.tokens + held_out * tokens_per_row(request, setting)
    return loading + text / TOKENIZED_A_SECOND + (0.0 if request.hardware.is_cpu else FIRST_STEP_S)
