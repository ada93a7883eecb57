"""A worker ends at once when it is told to without a request to save, or when its launcher is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import SCRIPTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a worker on Windows is alone")

# It waits where no handler of Python's could run: in the C library, for a second at a time.
WORKER = """
import ctypes, os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from unsloth_fft.training import ending
ending.ASKED_WITHIN_S = 0.3
ending.watch(Path(sys.argv[2]))
child = os.fork() if sys.argv[3:] else -1
print(child, flush=True)
if child == 0:
    time.sleep(60)
libc = ctypes.CDLL(None)
for _ in range(60):
    libc.usleep(ctypes.c_uint(900_000))
"""


def started(stop_file: Path, *more: str, stdin: int = subprocess.PIPE) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(SCRIPTS), str(stop_file), *more],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_told_to_end_it_ends_though_its_main_thread_waits(tmp_path: Path) -> None:
    process, _ = started(tmp_path / ".stop")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_asked_to_save_it_goes_on_however_often_it_is_told(tmp_path: Path) -> None:
    process, _ = started(tmp_path / ".stop")
    process.send_signal(signal.SIGTERM)
    (tmp_path / ".stop").touch()  # the launcher may come a little later than the signal
    time.sleep(0.6)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    assert process.poll() is None
    (tmp_path / ".stop").unlink()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_left_by_its_launcher_it_ends(tmp_path: Path) -> None:
    process, _ = started(tmp_path / ".stop")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 1


def test_started_by_hand_it_needs_no_launcher(tmp_path: Path) -> None:
    process, _ = started(tmp_path / ".stop", stdin=subprocess.DEVNULL)
    time.sleep(0.5)
    assert process.poll() is None
    process.kill()


def test_what_it_forks_ends_by_the_signal_and_it_stays(tmp_path: Path) -> None:
    process, child = started(tmp_path / ".stop", "fork")
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    time.sleep(0.8)
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    assert process.poll() is None
    process.kill()
