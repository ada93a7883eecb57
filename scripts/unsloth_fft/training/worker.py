"""One process of a run on several GPUs, started by torchrun through launcher.py; not meant to be started by hand.

torchrun ... --module unsloth_fft.training.worker SESSION [--resume] [--hold-to-plan] [--follow]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ..core.errors import FFTError, Interrupted
from . import ending, launcher, processes, run, session


def main(arguments: list[str]) -> int:
    """Train as one of several; returns the exit code that torchrun sees."""
    root = Path(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = session.Folder(root)
    ending.watch(launcher.stop_file(folder))
    processes.put_first_machine_first(follows="--follow" in arguments)
    try:
        run.train_as_worker(root, resume="--resume" in arguments, hold_to_plan="--hold-to-plan" in arguments)
    except Interrupted as stopped:
        if processes.is_first():
            launcher.note_failure(folder, processes.rank(), stopped)
    except FFTError as error:
        launcher.note_failure(folder, processes.rank(), error)
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # at once: a process group that waits for a dead peer would hang here
