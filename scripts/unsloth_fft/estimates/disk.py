"""Disk that a run needs at worst (the final model, and the checkpoints that lie beside one another while it goes), and
how often saving pays."""

from __future__ import annotations

import math

from ..settings.parameters import Parameters, Schedule
from ..settings.recipes import BYTES, RECIPES

GIB = 2**30
# Bytes a parameter of the largest checkpoint that any recipe of the stored type writes: weights, moments, correction.
CHECKPOINT_BYTES = {
    weights: int(max(recipe.checkpoint_bytes for recipe in RECIPES if recipe.weights == weights)) for weights in BYTES
}
# Bytes a second that a checkpoint is written at, flushed to disk: 4.94 GB in 8.3 s on one rented machine
# (references/measurements/sessions-h200-2026-11-27.json). Disks differ; a slower one only means a larger share.
WRITTEN_A_SECOND = 0.6e9
# A run saves at most this often, and saving takes about this share of its time at most (judgements).
MOST_SAVES, SAVING_SHARE = 10, 0.1


def steps_between_saves(elements: int, weights: str, steps: int, step_s: float) -> int:
    """After how many of its `steps` of `step_s` seconds a run should save; a short run saves once, at its end."""
    worth = math.floor(SAVING_SHARE * steps * step_s / save_seconds(elements, weights))
    saves = min(max(worth, 1), MOST_SAVES)
    return math.ceil(steps / saves)


def save_seconds(elements: int, weights: str) -> float:
    """Seconds that one checkpoint of `elements` weights takes."""
    return checkpoint_size(elements, weights) / WRITTEN_A_SECOND


def checkpoint_size(elements: int, weights: str) -> int:
    """Bytes of the largest checkpoint of `elements` weights that any recipe of the stored type writes."""
    return elements * CHECKPOINT_BYTES[weights]


def needed_gib(elements: int, weights: str, schedule: Schedule, steps: int | None) -> float:
    """GiB of disk for a model of `elements` weights stored as `weights`, trained for `steps` (None: not known)."""
    # Of bfloat16 weights the worst is adamw_flash: it keeps two bytes more beside the model (training/master.py).
    model = 4 if weights == "bfloat16" else BYTES[weights]
    return elements * (model + checkpoints_at_once(schedule, steps) * CHECKPOINT_BYTES[weights]) / GIB


def copy_gib(elements: int) -> float:
    """GiB of the language model taken out of a multimodal checkpoint while it trains, as bfloat16 files hold it."""
    return 2 * elements / GIB


def needed_by(parameters: Parameters) -> float:
    """GiB of disk for a whole run; 0 where the model's size is not known."""
    elements, weights = parameters.model.parameters or 0, parameters.precision.weights
    return needed_gib(elements, weights, parameters.schedule, steps_of(parameters))


def steps_of(parameters: Parameters) -> int | None:
    """Optimizer steps of the run, as far as its file says; those of a plan hold for the passes that were planned."""
    return parameters.schedule.max_steps or (parameters.plan.predicted.steps if parameters.plan else None)


def checkpoints_at_once(schedule: Schedule, steps: int | None) -> int:
    """Checkpoints on disk at worst: a new one is whole before the oldest goes, and the best one stays.

    One more than are saved on the way: a signal saves, too.
    """
    if schedule.save_steps is None:
        return 1  # saved only when interrupted
    saved = math.inf if steps is None else steps // schedule.save_steps + 1
    return int(min(saved, _kept(schedule)))


def _kept(schedule: Schedule) -> int:
    return max(schedule.save_total_limit, 2 if schedule.load_best_model_at_end else 1) + 1
