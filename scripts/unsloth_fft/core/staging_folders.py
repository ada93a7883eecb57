"""Folders that are filled beside their place and moved there whole, each with a name of its own.

Two commands that make the same folder never share one. A killed command leaves its own behind, which the next command
for that place removes once the process is gone; the name says which process on which machine that was.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import files

_REPLACED = ".old"
HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]


@contextmanager
def beside(place: Path, purpose: str) -> Iterator[Path]:
    """A new empty folder in the folder of `place`, gone when the block ends unless it was moved away."""
    tidy(place, purpose)
    place = Path(os.path.abspath(place))
    with files.explained(place):
        staging = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{_start(place, purpose)}{HOST}.{os.getpid()}."))
        os.chmod(staging, 0o777 & ~files.umask())
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def put_in_place(staging: Path, place: Path) -> None:
    """Move a finished folder to `place`, and what was there away; stopped at any moment, one of the two is there."""
    replaced = staging.with_name(staging.name + _REPLACED)
    with files.explained(place):
        try:
            if place.exists():
                place.rename(replaced)
            staging.rename(place)
        except BaseException:
            if replaced.exists() and not place.exists():
                replaced.rename(place)
            raise
        shutil.rmtree(replaced, ignore_errors=True)


def tidy(place: Path, purpose: str) -> None:
    """Remove what killed commands left; a folder that one of them had moved away, and not replaced, comes back."""
    place = Path(os.path.abspath(place))
    if not place.parent.is_dir():
        return
    own = re.compile(re.escape(_start(place, purpose) + HOST) + r"\.(\d+)\.\w+" + f"({re.escape(_REPLACED)})?")
    for entry in place.parent.iterdir():
        match = own.fullmatch(entry.name)
        if match and entry.is_dir() and not entry.is_symlink() and not _is_alive(int(match.group(1))):
            if match.group(2) and not place.exists():
                entry.rename(place)
                continue
            shutil.rmtree(entry, ignore_errors=True)


def _start(place: Path, purpose: str) -> str:
    return f".{files.short_name(place)}.{purpose}."


def _is_alive(pid: int) -> bool:
    """Whether a process of that number runs here; where that cannot be asked without harm, it counts as alive."""
    if sys.platform == "win32":  # there, signal 0 would end it
        return True
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
