"""What a trainer must do besides where FSDP2 shards the weights.

A forward without a backward leaves some units gathered, with the gathered tensors in the parameters' place (torch
2.11 to 2.14, FSDPModule with reshard_after_forward=False, which unsloth 2026.10.9 sets where the model fits one GPU).
An optimizer made after that would hold tensors that training does not use, and saving one raises KeyError
(references/upstream-notes.md has a program that shows it).

The gathered weights that are saved hold a tied head twice, as a copy of its own: a file of Qwen2.5-0.5B had 630,167,424
elements for 494,032,768 weights.
"""

from __future__ import annotations

from typing import Any


def trains_sharded(trainer_class: type) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) whose evaluations leave every unit sharded, and whose
    saved weights hold what is tied once, as those of one GPU do."""

    class TrainsSharded(trainer_class):  # type: ignore[misc]
        def evaluate(self, *args: Any, **settings: Any) -> Any:
            measured = super().evaluate(*args, **settings)
            reshard(self.model)
            return measured

        def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
            super()._save(output_dir, without_tied_copies(self.model, state_dict))

    return TrainsSharded


def without_tied_copies(model: Any, state_dict: dict[str, Any] | None) -> dict[str, Any] | None:
    """`state_dict` without the weights that `model` ties to others of it, where they are equal as they should be."""
    if state_dict is None:
        return None
    tied = getattr(model, "all_tied_weights_keys", {})
    copies = {
        name
        for name, source in tied.items()
        if name in state_dict and source in state_dict and state_dict[name].equal(state_dict[source])
    }
    return {name: weight for name, weight in state_dict.items() if name not in copies}


def reshard(model: Any) -> None:
    """Free the gathered weights of every FSDP2 unit in `model`; nothing is lost, the shards hold them all."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
