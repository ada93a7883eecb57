"""Models that huggingface_hub has already downloaded: where they lie. Reads folders only; nothing is downloaded.

Every command finds a model the same way: a path, then this cache, and only then a list or the network. Layout and
environment variables as in huggingface_hub 1.33.0 (constants.py; file_download.py, `try_to_load_from_cache`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from ..core import files

MAIN: Final = "main"
"""The revision that is meant where none is named."""

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def root() -> Path:
    """The folder of downloads, as the environment says."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(home, "huggingface")
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(named)))


def repository(name: str) -> Path | None:
    """The cache's folder of the model OWNER/NAME, with all that was downloaded of it; None where there is none."""
    if not _NAME.fullmatch(name):
        return None
    folder = root() / ("models--" + name.replace("/", "--"))
    return folder if os.path.isdir(folder) else None  # False, too, for a name longer than a path may be


def snapshot(name: str, revision: str | None = None) -> Path | None:
    """The downloaded files of model OWNER/NAME at `revision` (a branch, tag or commit); None where there are none."""
    folder = repository(name)
    if folder is None:
        return None
    wanted = revision or MAIN
    commit = _commit(folder / "refs", wanted) or wanted
    found = folder / "snapshots" / commit
    inside = Path(commit).name == commit and commit not in ("", ".", "..")
    return found if inside and os.path.isdir(found) else None


def find(name: str, revision: str | None = None) -> Path | None:
    """The folder or file at the path `name`, or else the model of that name in the cache."""
    try:
        path = files.expanded(name)
        if path.exists():
            return path
        return snapshot(name, revision)
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte or a surrogate, the home of nobody
        return None


def _commit(refs: Path, revision: str) -> str | None:
    """The commit that a branch or tag stood at when it was downloaded."""
    if ".." in Path(revision).parts or Path(revision).is_absolute():
        return None
    try:
        return (refs / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
