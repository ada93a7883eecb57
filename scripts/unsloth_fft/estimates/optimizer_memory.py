"""What an optimizer keeps and borrows for a whole model: facts of settings/recipes.py times the model's shape."""

from __future__ import annotations

from typing import NamedTuple

from ..models.shape import ModelShape
from ..models.tensors import largest
from ..settings.setting import Setting


class OptimizerMemory(NamedTuple):
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
    """State and step memory of the whole model, before any sharding. Raises BadInput for an unknown optimizer."""
    facts = setting.optimizer_facts
    elements = shape.parameters
    if facts.moments is None:
        return OptimizerMemory(2.0 * setting.weight_bytes * elements, 0.0, 0.0, 0.0)
    wide = shape.embedding_parameters if facts.wide_embeddings else 0
    moments = 8.0 * wide + facts.moments * (elements - wide)
    scales = facts.scales * (elements - wide)
    correction = float(setting.correction_bytes * elements) if facts.corrects else 0.0
    step = facts.borrowed * largest(shape)
    if facts.paged:
        return OptimizerMemory(scales, correction, moments, step)
    return OptimizerMemory(moments + scales, correction, 0.0, step)
