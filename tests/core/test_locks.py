"""A lock keeps a second process out, whatever the system takes locks with, and ends with the process that held it."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from conftest import SCRIPTS
from unsloth_fft.core import locks

HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules.update(dict.fromkeys(sys.argv[3:]))
from pathlib import Path
from unsloth_fft.core import locks
held = locks.take(Path(sys.argv[2]), 1.0)
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path, *hidden: str) -> subprocess.Popen[str]:
    """A process that holds the lock of `path` until its stdin ends, without the modules `hidden`."""
    command = [sys.executable, "-c", HOLD, str(SCRIPTS), str(path), *hidden]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


class Msvcrt(types.ModuleType):
    """What locks.py uses of Windows' module, on top of what this system has."""

    LK_NBLCK, LK_UNLCK = 1, 2

    def locking(self, handle: int, how: int, _bytes: int) -> None:
        import importlib

        real = importlib.import_module("real_fcntl")
        try:
            real.flock(handle, real.LOCK_EX | real.LOCK_NB if how == self.LK_NBLCK else real.LOCK_UN)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None


@pytest.fixture(params=["fcntl", "filelock", "msvcrt"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "fcntl":
        monkeypatch.setitem(sys.modules, "real_fcntl", __import__("fcntl"))
        monkeypatch.setitem(sys.modules, "fcntl", None)
    if request.param == "filelock":  # which chooses its way when it is imported, here perhaps long ago
        for module in [name for name in sys.modules if name.partition(".")[0] == "filelock"]:
            monkeypatch.delitem(sys.modules, module)
    if request.param == "msvcrt":
        monkeypatch.setitem(sys.modules, "filelock", None)
        monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt("msvcrt"))
    return request.param


def test_one_process_holds_it_and_it_ends_with_that_process(way: str, tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not locks.is_held(path)
    process = holder(path, *(("fcntl",) if way == "filelock" else ()))
    assert locks.is_held(path)
    with pytest.raises(locks.HeldElsewhere):
        locks.take(path, 0.1)
    process.kill()
    process.communicate()
    with locks.take(path, 1.0):
        pass
    with locks.take(path, 0.0):
        pass


def test_where_the_system_has_no_locks_at_all_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fcntl", "filelock", "msvcrt"):
        monkeypatch.setitem(sys.modules, module, None)
    with locks.take(tmp_path / ".lock", 0.0):
        assert not locks.is_held(tmp_path / ".lock")
