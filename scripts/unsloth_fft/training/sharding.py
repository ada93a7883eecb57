"""FSDP2's weights put back into their shards after an evaluation.

A forward without a backward leaves some units gathered, with the gathered tensors in the parameters' place (torch
2.11 to 2.14, FSDPModule with reshard_after_forward=False, which unsloth 2026.10.9 sets where the model fits one GPU).
An optimizer made after that would hold tensors that training does not use, and saving one raises KeyError
(references/upstream-notes.md has a program that shows it).
"""

from __future__ import annotations

from typing import Any


def reshards_after_evaluation(trainer_class: type) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) whose evaluations leave every unit sharded."""

    class ReshardsAfterEvaluation(trainer_class):  # type: ignore[misc]
        def evaluate(self, *args: Any, **settings: Any) -> Any:
            measured = super().evaluate(*args, **settings)
            reshard(self.model)
            return measured

    return ReshardsAfterEvaluation


def reshard(model: Any) -> None:
    """Free the gathered weights of every FSDP2 unit in `model`; nothing is lost, the shards hold them all."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
