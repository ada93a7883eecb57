"""Which folder an export may replace: one that an export wrote, as a manifest in it says, with nothing else inside."""

from __future__ import annotations

import os
from pathlib import Path

from ..core import files
from ..core.errors import BadInput

MANIFEST = "export-manifest.json"
_MADE_BY = "unsloth_fft_tool.py export"


def write(folder: Path) -> None:
    """Write the manifest of everything in `folder`."""
    files.write_json(folder / MANIFEST, {"made_by": _MADE_BY, "files": sorted(_names(folder))})


def require(folder: Path) -> None:
    """Raise BadInput unless `folder` is an export, or empty: a model that was not made here is never replaced."""
    names = _names(folder)
    if not names:
        return
    if MANIFEST not in names:
        raise BadInput(
            f"{folder} is not an exported model (it has no {MANIFEST}); it is not overwritten",
            hint="choose another folder, or remove that one yourself",
        )
    value = files.read_json(folder / MANIFEST, "manifest of an export")
    listed = value.get("files") if isinstance(value, dict) else None
    if not isinstance(listed, list) or value.get("made_by") != _MADE_BY:
        raise BadInput(
            f"{folder / MANIFEST} is no manifest of an export; the folder is not overwritten",
            hint="choose another folder, or remove that one yourself",
        )
    others = sorted(names - {MANIFEST, *(name for name in listed if isinstance(name, str))})
    if others:
        raise BadInput(
            f"{folder} holds {others[0]}, which no export wrote; the folder is not overwritten",
            hint="move your own files out of it, or choose another folder",
        )


def _names(folder: Path) -> set[str]:
    """Paths of all files inside, links included."""
    found = set()
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found |= {str((Path(place) / name).relative_to(folder)) for name in (*names, *links)}
    return found
