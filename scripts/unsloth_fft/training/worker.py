"""One process of a run on several GPUs, started by torchrun through launcher.py; not meant to be started by hand.

torchrun ... --module unsloth_fft.training.worker SESSION [--resume]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ..core.errors import FFTError, Interrupted
from . import launcher, processes, run, session


def main(arguments: list[str]) -> int:
    """Train as one of several; returns the exit code that torchrun sees."""
    root = Path(arguments[0])
    # The launcher asks for a stop through a file. torchrun's own SIGTERM means that another process is dead.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    folder = session.Folder(root)
    try:
        run.train_as_worker(root, resume="--resume" in arguments, hold_to_plan="--hold-to-plan" in arguments)
    except Interrupted as stopped:
        if processes.is_first():
            launcher.note_failure(folder, processes.RANK, stopped)
    except FFTError as error:
        launcher.note_failure(folder, processes.RANK, error)
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # at once: a process group that waits for a dead peer would hang here
