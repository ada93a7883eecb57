"""Gradients scaled down to a norm in one pass over many at once, and not at all where they are small enough.

torch.nn.utils.clip_grad_norm_ multiplies by a number that stays on the GPU, whether it is 1 or not, tensor by tensor
and in a kernel that reaches a fifth of the memory's rate: 34 of 2,647 ms of a step of 8B on an H200 (references/
memory-model.md, "Where a step's time goes"). Reading the number first costs one wait a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def coefficient(norm: Any, max_norm: float) -> float | None:
    """What gradients of this norm are to be multiplied by, as torch computes it; None where they are small enough."""
    factor = float(max_norm / (norm + 1e-6))
    return factor if factor < 1 else None


def clip(parameters: Iterable[Any], max_norm: float) -> Any:
    """Scale the gradients of `parameters` to `max_norm` at most, in place; returns the norm they had."""
    import torch

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    factor = coefficient(norm, max_norm)
    if factor is not None:
        for same in _by_type(gradients):
            torch._foreach_mul_(same, factor)
    return norm


def _by_type(tensors: Iterable[Any]) -> list[list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())


def clips_at_once(trainer_class: type) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) that clips so. For one process without loss scaling."""

    class ClipsAtOnce(trainer_class):  # type: ignore[misc]
        def _clip_grad_norm(self, model: Any) -> Any:
            return clip(model.parameters(), self.args.max_grad_norm)

    return ClipsAtOnce
