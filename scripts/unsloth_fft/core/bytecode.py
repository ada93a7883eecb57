"""Keeps Python's bytecode out of this package's folder, which may be a skill's, read-only or another's.

It goes to the folder for temporary files, where one is there that nobody else can write to: a plan is a third quicker
with it. Only this package is kept so: the training stack's bytecode is worth minutes. PYTHONPYCACHEPREFIX works, too.
"""

from __future__ import annotations

import os
import stat
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from typing import Any

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _KeepsApart(SourceFileLoader):
    """importlib reads and writes a module's bytecode through these two, by the path beside the module."""

    def get_data(self, path: str) -> bytes:
        """The content of `path`; of bytecode, what was kept apart, or else what lies beside the module."""
        if path.endswith(".pyc") and (kept := self._kept()) is not None and os.path.exists(kept):
            return super().get_data(kept)
        return super().get_data(path)

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Keep the bytecode apart, or not at all."""
        kept = self._kept()
        if kept is not None and not sys.dont_write_bytecode:
            super().set_data(kept, data, _mode=0o600)

    def _kept(self) -> str | None:
        """The file of this version of the module: its time alone may be that of every ZIP, and its size another's."""
        if _folder is None:
            return None
        found = os.stat(self.path)
        version = f"{sys.implementation.cache_tag}-{found.st_ino:x}-{found.st_ctime_ns:x}-{found.st_size:x}"
        return os.path.join(_folder, f"{version}.pyc")


_folder: str | None = None


def keep_out() -> None:
    """From here on, importing a module of this package writes no file beside it."""
    global _folder
    if sys.pycache_prefix is not None:
        return
    _folder = _own_folder()
    sys.path_hooks.insert(0, _finder)
    for folder in [folder for folder in sys.path_importer_cache if _is_ours(folder)]:
        del sys.path_importer_cache[folder]


def _own_folder() -> str | None:
    """A folder for temporary files that this user alone writes to, or None: whoever could write there would be run."""
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    place = next((path for path in (*named, "/tmp") if path and os.path.isdir(path)), None)
    if place is None or not hasattr(os, "getuid"):  # elsewhere who owns a folder is not that easily known
        return None
    folder = os.path.join(place, f"unsloth-fft-{os.getuid()}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if own else None


def _finder(folder: str) -> FileFinder:
    if not _is_ours(folder):
        raise ImportError(folder)
    return FileFinder(folder, (_KeepsApart, SOURCE_SUFFIXES))


def _is_ours(folder: str) -> bool:
    return folder == PACKAGE or folder.startswith(PACKAGE + os.sep)
