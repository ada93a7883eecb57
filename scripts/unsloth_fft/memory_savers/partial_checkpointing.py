"""Recomputing some of the layers in the backward, while the others keep their activations.

Between "all layers" and "off" lies a number, and with it memory and speed. Transformers asks every layer whether it is
to be recomputed (5.17.0, modeling_layers.py, GradientCheckpointingLayer), but whatever turns checkpointing on tells all
of them: a layer that is to keep its activations therefore answers no, whatever it was told. What is computed is the
same to the bit. Unsloth has a switch of its own, which full fine-tuning never reaches (references/upstream-notes.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def recomputes(count: int) -> Callable[[type], type]:
    """What makes of a trainer class one that has `count` layers of its model recomputed."""

    def adapted(trainer_class: type) -> type:
        class RecomputesSome(trainer_class):  # type: ignore[misc]
            def __init__(self, model: Any, *args: Any, **settings: Any) -> None:
                keep_activations(model, count)
                super().__init__(model, *args, **settings)

        return RecomputesSome

    return adapted


def keep_activations(model: Any, recomputed: int) -> list[int]:
    """Let all but `recomputed` layers of `model` keep their activations; returns the numbers of those that do.

    They are spread evenly and end with the last: its backward comes first, and what that frees is room for the first
    layer that is made again. A second call replaces what the first one chose.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    kept = spread(len(layers), len(layers) - min(recomputed, len(layers)))
    for number, layer in enumerate(layers):
        _let_instances_answer(type(layer))
        layer.__dict__[_KEEPS] = number in kept
    return kept


def spread(layers: int, kept: int) -> list[int]:
    """`kept` of `layers` numbers, evenly spaced, the last among them."""
    return [(place + 1) * layers // kept - 1 for place in range(kept)]


# What is written into a layer's own dictionary: whether it keeps its activations, and what it was told.
_KEEPS, _TOLD = "_keeps_activations", "_told_to_recompute"


def _let_instances_answer(layer_class: type) -> None:
    """Make `gradient_checkpointing` of this class a question that each layer answers for itself.

    The class stays what it is, because Unsloth compiles layers by their class.
    """
    if isinstance(vars(layer_class).get("gradient_checkpointing"), property):
        return

    def answer(layer: Any) -> bool:
        own = vars(layer)
        return not own.get(_KEEPS) and bool(own.get(_TOLD, own.get("gradient_checkpointing", False)))

    def tell(layer: Any, value: bool) -> None:
        vars(layer)[_TOLD] = value

    layer_class.gradient_checkpointing = property(answer, tell)  # type: ignore[attr-defined]
