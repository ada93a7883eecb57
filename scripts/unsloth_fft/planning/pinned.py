"""Whether what was pinned can be done at all: matrix products in float8, and a number of recomputed layers."""

from __future__ import annotations

from ..core.errors import BadInput
from ..settings.float8 import no_float8
from ..settings.setting import OFF
from .request import Request


def refusal(request: Request) -> BadInput | None:
    """Why the pinned compute type or number of layers cannot be planned; None where it can."""
    return _compute(request) or _layers(request)


def _compute(request: Request) -> BadInput | None:
    compute, hardware = request.pins.compute, request.hardware
    if compute is None:
        return None
    if compute == "float8":
        reason = no_float8(hardware)
        return None if reason is None else _not_float8(hardware.name, reason)
    if hardware.is_cpu or not hardware.has_bf16:
        return BadInput(
            f"--compute {compute} is not possible on {hardware.name}",
            hint="leave --compute out: the planner takes what the hardware has",
        )
    return None


def _not_float8(name: str, reason: str) -> BadInput:
    return BadInput(
        f"--compute float8 is not planned for {name}: {reason}",
        hint="leave --compute out: bfloat16 products are the default",
    )


def _layers(request: Request) -> BadInput | None:
    count, layers = request.pins.checkpointed_layers, request.shape.layers
    if count is None:
        return None
    if request.pins.checkpointing == OFF:
        return BadInput(
            f"--checkpointed-layers {count} with --gradient-checkpointing off contradict each other",
            hint="leave one of them out",
        )
    if count >= layers:
        return BadInput(
            f"--checkpointed-layers {count} is not less than the {layers} layers that {request.model} has",
            hint=f"use --checkpointed-layers {layers - 1} or less, or --gradient-checkpointing true for all of them",
        )
    if request.gpus > 1:
        return BadInput(
            f"a number of recomputed layers works on one GPU, and {request.gpus} were asked for",
            hint="leave --checkpointed-layers out: all layers are recomputed, or none",
        )
    return None
