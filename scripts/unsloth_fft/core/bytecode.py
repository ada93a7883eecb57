"""Keeps Python's bytecode out of this package's folder, which may be a skill's, read-only or another's.

Only this package is kept from it: the training stack's bytecode is worth minutes. PYTHONPYCACHEPREFIX still works.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from typing import Any

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _WritesNothing(SourceFileLoader):
    """Reads bytecode that is there and leaves none: importlib calls set_data to write it, and for nothing else."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def keep_out() -> None:
    """From here on, importing a module of this package writes no file beside it."""
    if sys.pycache_prefix is not None:
        return
    sys.path_hooks.insert(0, _finder)
    for folder in [folder for folder in sys.path_importer_cache if _is_ours(folder)]:
        del sys.path_importer_cache[folder]


def _finder(folder: str) -> FileFinder:
    if not _is_ours(folder):
        raise ImportError(folder)
    return FileFinder(folder, (_WritesNothing, SOURCE_SUFFIXES))


def _is_ours(folder: str) -> bool:
    return folder == PACKAGE or folder.startswith(PACKAGE + os.sep)
