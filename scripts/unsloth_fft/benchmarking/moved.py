"""The share of weights that differ from the base checkpoint, compared tensor by tensor where the model lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..weights import loading


def share_moved(model: Any, base: Path) -> float:
    """Elements of `model`'s trainable parameters that are not what the folder `base` holds, as a share of all."""
    import torch

    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = _reader(base, trained.keys() - _tied(model))
    moved = total = 0
    for name, weight in trained.items():
        began = before(name).to(weight.device)
        moved += int(torch.count_nonzero(weight.detach() != began.to(weight.dtype)))
        total += weight.numel()
    return moved / total


def _tied(model: Any) -> set[str]:
    return set(getattr(model, "all_tied_weights_keys", None) or ())


def _reader(base: Path, names: set[str]) -> Callable[[str], Any]:
    """What the checkpoint holds for a parameter: read by its name, or loaded anew where loading renames or fuses.

    Several families keep their experts one by one in the checkpoint and as one tensor in the model.
    """
    stored = _stored(base)
    if names <= stored.keys():
        return lambda name: _read(stored[name], name)

    fresh = dict(loading.model(base).named_parameters())
    return lambda name: fresh[name].detach()


def _stored(base: Path) -> dict[str, Path]:
    from safetensors import safe_open

    found: dict[str, Path] = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found.update(dict.fromkeys(file.keys(), path))
    return found


def _read(path: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)
