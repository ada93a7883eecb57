"""Where matrix products may be made in float8, and why not elsewhere."""

from __future__ import annotations

from ..hardware.cards import Hardware
from .recipes import TORCHAO_PACKAGE, is_nvidia

# Where float8 products were measured faster: an H200 (references/measurements), and by Unsloth an RTX PRO 6000
# (unsloth 2026.10.9, models/float8_training.py: _MEASURED_FASTER).
FLOAT8_CAPABILITIES = ("9.0", "12.0", "12.1")
# "L4 (8.9) NaN gradients with gradient checkpointing" (the same file).
NAN_CAPABILITY = "8.9"
# The casts and the products are torchao's.
PACKAGE = TORCHAO_PACKAGE


def no_float8(hardware: Hardware) -> str | None:
    """Why matrix products are not made in float8 on `hardware`, or None where they may be."""
    if hardware.is_cpu:
        return "there is no GPU"
    if hardware.gpu is None:
        return "only its memory is known; name the card with --gpu"
    capability = hardware.gpu.compute_capability
    if not is_nvidia(hardware) or float(capability) < float(NAN_CAPABILITY):
        return "it has no float8 matrix units that Unsloth uses"
    if capability == NAN_CAPABILITY:
        return "gradients became NaN on cards of compute capability 8.9 (Unsloth's own finding)"
    if capability not in FLOAT8_CAPABILITIES:
        return f"nobody has measured it faster on compute capability {capability}"
    return None
