"""A file that one process holds at a time, by whatever the system has. The lock ends with its process, however it ends.

POSIX has `flock`, taken here directly: so the processes that a holder forks can let go of it as they start, whichever
version of filelock is there. Elsewhere (Windows) filelock takes it, which comes with the training stack; without
filelock Python's own `msvcrt` does, the same first byte of the file (filelock 4.2.12, _windows.py).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.05


class HeldElsewhere(Exception):
    """Another process holds the lock."""


def take(path: Path, patience: float, mode: str = "a") -> ExitStack:
    """Take the lock of the file `path`, opened with `mode`: made where it is missing. Leaving what is returned gives
    it back.

    Raises HeldElsewhere after `patience` seconds, OSError where the file cannot be opened.
    """
    with ExitStack() as held:
        _way()(path, patience, held, mode)
        return held.pop_all()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock of `path` right now. Raises OSError where that cannot be read."""
    if not path.exists():
        return False
    try:
        take(path, 0.0, "r").close()  # on a read-only place, too
    except HeldElsewhere:
        return True
    return False


def _way() -> Callable[[Path, float, ExitStack, str], None]:
    for module, way in (("fcntl", _by_flock), ("filelock", _by_filelock), ("msvcrt", _by_msvcrt)):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            return way
    return lambda path, patience, held, mode: None  # no system that Python knows comes here


def _by_flock(path: Path, patience: float, held: ExitStack, mode: str) -> None:
    import fcntl

    handle = held.enter_context(path.open(mode, encoding="utf-8"))
    _until_taken(lambda: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB), patience)
    os.register_at_fork(after_in_child=handle.close)


def _by_filelock(path: Path, patience: float, held: ExitStack, mode: str) -> None:
    import filelock

    if filelock.FileLock is filelock.SoftFileLock:  # no lock of the system's: a file whose presence says it, told stale
        path.touch()
        path = path.with_name(f"{path.name}.held")
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=patience, poll_interval=POLL_SECONDS)
    except filelock.Timeout:
        raise HeldElsewhere from None
    held.callback(lock.release)


def _by_msvcrt(path: Path, patience: float, held: ExitStack, mode: str) -> None:
    import msvcrt

    system: Any = msvcrt  # its functions are known to type checkers on Windows alone
    handle = held.enter_context(path.open(mode, encoding="utf-8"))

    def first_byte(how: int) -> None:
        handle.seek(0)  # it locks from where the file stands
        system.locking(handle.fileno(), how, 1)

    _until_taken(lambda: first_byte(system.LK_NBLCK), patience)
    held.callback(first_byte, system.LK_UNLCK)


def _until_taken(attempt: Callable[[], None], patience: float) -> None:
    give_up = time.monotonic() + patience
    while True:
        try:
            return attempt()
        except (BlockingIOError, PermissionError):  # what flock raises, and msvcrt
            if time.monotonic() >= give_up:
                raise HeldElsewhere from None
            time.sleep(POLL_SECONDS)
