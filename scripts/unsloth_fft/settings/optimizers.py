"""What each optimizer keeps and borrows: bytes of state an element, and temporary memory of one step.

State bytes are read in the code (bitsandbytes 0.50.2, torchao 0.18.0, flashoptim 0.1.4 as unsloth 2026.10.9 wraps it);
which step temporaries were read and which inferred from rows: references/memory-model.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..models.shape import ModelShape
from ..models.tensors import largest
from .setting import Setting

FUSED, BNB, PAGED, FLASH, TORCHAO = (
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "adamw_flash",
    "adamw_torch_8bit",
)

# Blockwise 8-bit states: one byte each of two moments, and a float32 scale for every 256 elements of each.
_BLOCK = 256
_EIGHT_BIT = 2.0
_SCALES = 2 * 4 / _BLOCK
# flashoptim quantises in groups of 32 with a float16 scale for each of two moments.
_FLASH_SCALES = 2 * 2 / 32


@dataclass(frozen=True)
class OptimizerMemory:
    """Bytes. `moments` and `correction` live on the GPU (or, offloaded, on the host); `paged` is managed memory.

    `step` is borrowed while the largest tensor is updated.
    """

    moments: float
    correction: float
    paged: float
    step: float

    @property
    def state(self) -> float:
        return self.moments + self.correction


def optimizer_memory(shape: ModelShape, setting: Setting) -> OptimizerMemory:
    """State and step memory of the whole model, before any sharding."""
    elements, biggest = shape.parameters, largest(shape)
    name = setting.optimizer
    if name == FUSED:
        return OptimizerMemory(2.0 * setting.weight_bytes * elements, 0.0, 0.0, 0.0)
    if name in (BNB, PAGED):
        return _bitsandbytes(shape, paged=name == PAGED)
    if name == TORCHAO:
        # torchao computes in float32 (optim/adam.py, single_param_adam); that two copies of the largest tensor are
        # alive at once is inferred from the rows.
        return OptimizerMemory((_EIGHT_BIT + _SCALES) * elements, 0.0, 0.0, 8.0 * biggest)
    correction = float(setting.correction_bytes * elements)
    if setting.quantized:
        # The byte an element that a quantised step borrows is inferred from one row.
        return OptimizerMemory((_EIGHT_BIT + _FLASH_SCALES) * elements, correction, 0.0, 1.0 * biggest)
    # bf16 momentum, float32 variance (unsloth/optimizers/flash_adamw.py), 16 bits of error correction; the new
    # variance of a tensor is written beside the old one.
    return OptimizerMemory(6.0 * elements, correction, 0.0, 4.0 * biggest)


def _bitsandbytes(shape: ModelShape, *, paged: bool) -> OptimizerMemory:
    """transformers keeps the states of nn.Embedding in 32 bits (Trainer's bitsandbytes override, 5.17.0)."""
    embedding = shape.embedding_parameters
    rest = shape.parameters - embedding
    states = 8.0 * embedding + _EIGHT_BIT * rest
    scales = _SCALES * rest
    if paged:
        return OptimizerMemory(scales, 0.0, states, 0.0)
    return OptimizerMemory(states + scales, 0.0, 0.0, 0.0)
