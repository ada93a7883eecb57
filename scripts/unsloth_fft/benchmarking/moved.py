"""The share of weights that differ from the base checkpoint, compared tensor by tensor where the model lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def share_moved(model: Any, base: Path) -> float:
    """Elements of `model`'s trainable parameters that are not what `base` (safetensors) holds, as a share of all.

    Raises KeyError for a parameter that the checkpoint does not have, tied heads aside.
    """
    import torch

    stored = _stored(base)
    moved = total = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        before = _read(stored[name], name).to(parameter.device)
        moved += int(torch.count_nonzero(parameter.detach() != before.to(parameter.dtype)))
        total += parameter.numel()
    return moved / total


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
