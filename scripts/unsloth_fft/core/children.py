"""Processes in a group of their own, so that Ctrl-C does not reach them, and ended with all that they started.

POSIX ends a group by its number. Windows has no such signal: there psutil finds what the process started, and without
psutil the process itself is ended alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

# Windows: no Ctrl-C of the console for the new process (subprocess.CREATE_NEW_PROCESS_GROUP is there alone).
APART: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if sys.platform == "win32"
    else {"start_new_session": True}
)


def ask_to_end(process: subprocess.Popen[Any]) -> None:
    """Ask `process`, started with APART, and all that it started to end. On Windows nobody can be asked: they end."""
    if hasattr(os, "killpg"):
        _signal(process, signal.SIGTERM)
    else:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """End `process`, started with APART, and all that it started, at once."""
    # Some may have gone into a group of their own. Of a process that has ended, the number may be another's by now.
    started = _children(process) if process.poll() is None else []
    if hasattr(os, "killpg"):
        _signal(process, signal.SIGKILL)
    for one in (*started, process):
        with contextlib.suppress(Exception):  # it may have ended meanwhile; psutil has an exception of its own for that
            one.kill()


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _children(process: subprocess.Popen[Any]) -> list[Any]:
    try:
        import psutil
    except ImportError:
        return []
    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.Error:
        return []
