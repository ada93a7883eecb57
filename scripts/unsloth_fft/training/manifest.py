"""What a complete checkpoint holds, and whether it still does: the manifest written last and checked on resume."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..core import files, schema
from ..core.errors import FFTError

FILE = "manifest.json"
_MIB = 2**20
_STRIDE = 16 * _MIB
# What a run cannot go on from without, beside the weights. Random states are one file a process.
_NEEDED = ("trainer_state.json", "scheduler.pt")
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin", "optimizer_dcp", "optimizer_0")


def write(checkpoint: Path, step: int) -> None:
    """Write the manifest of everything in `checkpoint`."""
    listed = {name: _entry(checkpoint / name) for name in _names(checkpoint)}
    value = {"schema_version": schema.SCHEMA_VERSION, "step": step, "files": listed}
    schema.check(value, "checkpoint", "the checkpoint's manifest")
    files.write_json(checkpoint / FILE, value)


def problem(checkpoint: Path, step: int) -> str | None:
    """Why `checkpoint` is not what was saved at `step`, or None when it is.

    Compares names, lengths and digests. Digests read the first MiB of every 16 and the last, so that a checkpoint of
    100 GB is checked in seconds: a truncated, swapped or zeroed file is found, a single flipped bit of a large one
    may not be.
    """
    if checkpoint.is_symlink():
        return "it is a symbolic link"
    if not (checkpoint / FILE).exists():
        return f"{FILE} is missing"
    try:
        value = files.read_json(checkpoint / FILE, "manifest")
        found = schema.problems(value, "checkpoint")
        if found:
            return f"its {FILE} is damaged ({found[0]})"
        return _difference(checkpoint, value, step)
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, FFTError) as error:
        return f"it cannot be read ({str(error).splitlines()[0]})"


def _difference(checkpoint: Path, value: dict[str, Any], step: int) -> str | None:
    listed = value["files"]
    if value["step"] != step:
        return f"its {FILE} is of step {value['step']}"
    names = _names(checkpoint)
    for name in sorted(listed.keys() - names):
        return f"{name} is missing"
    for name in sorted(names - listed.keys()):
        return f"{name} does not belong to it"
    for needed in _NEEDED:
        if needed not in listed:
            return f"{needed} is missing"
    if not any(name.endswith(".safetensors") for name in names):
        return "it has no weights in safetensors"
    if not any(name.startswith(_OPTIMIZERS) for name in names):
        return "it has no optimizer state"
    for name, entry in sorted(listed.items()):
        path = checkpoint / name
        if path.is_symlink():
            return f"{name} is a symbolic link"
        length = path.stat().st_size
        if length != entry["bytes"]:
            return f"{name} has {length} bytes, {entry['bytes']} were saved"
        if _digest(path) != entry["digest"]:
            return f"{name} is not as it was saved"
    return None


def _names(checkpoint: Path) -> set[str]:
    """Paths of all files inside, links to anything included, without the manifest."""
    found = set()
    for folder, folders, names in os.walk(checkpoint):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found |= {str((Path(folder) / name).relative_to(checkpoint)) for name in (*names, *links)}
    return found - {FILE}


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "digest": _digest(path)}


def _digest(path: Path) -> str:
    length = path.stat().st_size
    digest = hashlib.sha256(str(length).encode())
    with path.open("rb") as file:
        for start in (*range(0, length, _STRIDE), max(length - _MIB, 0)):
            file.seek(start)
            digest.update(file.read(_MIB))
    return digest.hexdigest()
