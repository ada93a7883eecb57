"""When one process of several must end at once: told to by TERM without a request to save, or left by its launcher.

TERM alone says little. torchrun sends it when another process has died, and then waiting would mend nothing. Slurm,
systemd and `kill` send it to every process of a job, and then the launcher asks for a stop through its file, which the
workers answer after their step by saving. So a worker that gets TERM looks for that file before it ends.

What a launcher leaves behind when it is killed would train on without anybody watching; the launcher gives all
that it starts a pipe as their input, which ends with it.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
import time
from pathlib import Path

# A launcher looks for signals five times a second; on a machine that is busy saving it may come a little late.
ASKED_WITHIN_S = 5.0
TOLD, LEFT = 128 + signal.SIGTERM, 1


def watch(stop_file: Path) -> None:
    """From here on this process ends by itself where it must. For the main thread of a worker, once.

    A thread does it, because a handler in Python waits for the main thread, and that may wait for a dead peer.
    """
    if sys.platform == "win32":  # its signals do not reach a pipe, and it trains on one GPU
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGTERM, _leave_it_to_the_thread)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_as_ever)
    threading.Thread(target=_watch, args=(heard, _launchers_pipe(), stop_file), daemon=True).start()


def _leave_it_to_the_thread(_number: int, _frame: object) -> None:
    """With a handler of Python's, the signal ends nothing and is written into the pipe."""


def _as_ever() -> None:
    """What a worker forks (for rows, for instance) ends by TERM like any process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _launchers_pipe() -> list[int]:
    """Standard input where it is the launcher's pipe; none where the process was started by hand."""
    try:
        return [0] if stat.S_ISFIFO(os.fstat(0).st_mode) else []
    except OSError:  # closed
        return []


def _watch(heard: int, pipe: list[int], stop_file: Path) -> None:
    while True:
        ready = select.select([heard, *pipe], [], [])[0]
        if heard in ready and signal.SIGTERM in os.read(heard, 64) and not _asked_to_save(stop_file):
            os._exit(TOLD)
        if pipe and pipe[0] in ready and not os.read(pipe[0], 64):
            os._exit(LEFT)


def _asked_to_save(stop_file: Path) -> bool:
    until = time.monotonic() + ASKED_WITHIN_S
    while not stop_file.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
