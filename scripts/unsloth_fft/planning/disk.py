"""Disk that a run needs at worst (the final model, and the checkpoints that lie beside one another while it goes), and
how often saving pays."""

from __future__ import annotations

import math

from .parameters import Parameters, Schedule

GIB = 2**30
# Bytes a parameter. A float32 AdamW checkpoint holds weights and two float32 moments; with bf16 weights the most is
# adamw_flash's: weights 2, moments 2 and 4, error correction 2.
CHECKPOINT_BYTES = {"float32": 12, "bfloat16": 10}
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2}
# Bytes a second that a checkpoint is written at, flushed to disk: 4.94 GB in 8.3 s on one rented machine
# (references/measurements/sessions-h200-2026-11-27.json). Disks differ; a slower one only means a larger share.
WRITTEN_A_SECOND = 0.6e9
# A run saves at most this often, and saving takes about this share of its time at most (judgements).
MOST_SAVES, SAVING_SHARE = 10, 0.1


def steps_between_saves(elements: int, weights: str, steps: int, step_s: float) -> int:
    """After how many of its `steps` of `step_s` seconds a run should save; a short run saves once, at its end."""
    one = elements * CHECKPOINT_BYTES[weights] / WRITTEN_A_SECOND
    saves = min(max(math.floor(SAVING_SHARE * steps * step_s / one), 1), MOST_SAVES)
    return math.ceil(steps / saves)


def needed_gib(elements: int, weights: str, schedule: Schedule) -> float:
    """GiB of disk for a model of `elements` weights stored as `weights`."""
    return elements * (WEIGHT_BYTES[weights] + checkpoints_at_once(schedule) * CHECKPOINT_BYTES[weights]) / GIB


def needed_by(parameters: Parameters) -> float:
    """GiB of disk for a whole run; 0 where the model's size is not known."""
    return needed_gib(parameters.model.parameters or 0, parameters.precision.weights, parameters.schedule)


def checkpoints_at_once(schedule: Schedule) -> int:
    """Checkpoints on disk at worst: a new one is whole before the oldest goes, and the best one stays."""
    if schedule.save_steps is None:
        return 1  # saved only when interrupted
    return max(schedule.save_total_limit, 2 if schedule.load_best_model_at_end else 1) + 1
