"""Whether what was pinned can be done at all: float8 products, a number of recomputed layers, streamed weights."""

from __future__ import annotations

from ..core.errors import BadInput
from ..settings.float8 import no_float8
from ..settings.setting import OFF
from .request import Request


def refusal(request: Request) -> BadInput | None:
    """Why the pinned compute type, number of layers or streaming cannot be planned; None where it can."""
    return _compute(request) or _layers(request) or _streaming(request)


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


def _streaming(request: Request) -> BadInput | None:
    """Why the layers' weights cannot live in host memory here."""
    if not request.pins.weight_offload:
        return None
    reason = next((reason for holds, reason in _against_streaming(request) if holds), None)
    if reason is None:
        return None
    return BadInput(f"--weight-offload on is not possible: {reason}", hint="leave one of the two out")


def _against_streaming(request: Request) -> list[tuple[bool, str]]:
    pins, hardware = request.pins, request.hardware
    return [
        (hardware.is_cpu, "there is no GPU to stream weights to"),
        (request.gpus > 1, f"it works on one GPU, and {request.gpus} were asked for"),
        (not hardware.has_bf16, f"gradients cannot leave {hardware.name}, which has no bfloat16"),
        (pins.state_offload is False, "--state-offload off; state and gradients must be in host memory, too"),
        (pins.gradient_offload is False, "--gradient-offload off; state and gradients must be in host memory, too"),
        (pins.checkpointing == OFF, "--gradient-checkpointing off; every layer must be recomputed"),
        (pins.checkpointed_layers is not None, "--checkpointed-layers; every layer must be recomputed"),
        (request.float8, "--compute float8 was never tried with it"),
        (any(block.experts for block in request.shape.blocks), "it was never tried with experts"),
    ]
