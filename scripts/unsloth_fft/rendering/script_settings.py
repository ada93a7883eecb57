"""A parameters file as the literal settings of a rendered script.

The arguments come from the functions that the bundle's own training uses, so the two cannot drift apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..estimates import disk
from ..settings.parameters import Parameters
from ..training import environment
from ..training.arguments import training_arguments
from ..training.model import from_pretrained_arguments
from . import made_for


def settings_of(parameters: Parameters) -> dict[str, Any]:
    """The SETTINGS of a rendered script; JSON types only."""
    on_gpu = from_pretrained_arguments(parameters, on_gpu=True)
    on_cpu = from_pretrained_arguments(parameters, on_gpu=False)
    shared = {key: value for key, value in on_gpu.items() if on_cpu.get(key, _ABSENT) == value}
    arguments = training_arguments(parameters, Path())
    del arguments["output_dir"]  # the script's --output decides it
    return {
        "model": shared,
        "model_on_gpu": {key: value for key, value in on_gpu.items() if key not in shared},
        "model_on_cpu": {key: value for key, value in on_cpu.items() if key not in shared},
        "training": arguments,
        "data": {
            key: getattr(parameters.data, key)
            for key in ("dataset", "format", "loss_on", "eval_fraction", "seed", "chat_template")
        },
        "early_stopping": _early_stopping(parameters),
        "master": parameters.precision.master,
        "environment": environment.variables_for(parameters),
        "gpus": parameters.distributed.gpus,
        "nodes": parameters.distributed.nodes,
        "hardware": _hardware(parameters),
        "disk_bytes": round(disk.needed_by(parameters) * disk.GIB),
        "packages": made_for.packages(parameters),
        "made_for": made_for.versions(parameters),
    }


_ABSENT = object()


def _early_stopping(parameters: Parameters) -> dict[str, Any] | None:
    schedule = parameters.schedule
    if schedule.early_stopping_patience is None:
        return None
    return {"patience": schedule.early_stopping_patience, "threshold": schedule.early_stopping_threshold}


def _hardware(parameters: Parameters) -> dict[str, Any] | None:
    if parameters.plan is None:
        return None
    return {
        "name": parameters.plan.hardware.name,
        "peak_vram_gib": parameters.plan.predicted.peak_vram_gib,
    }
