"""Several GPUs: torchrun starts one worker a GPU on the session; this process watches, passes signals on, and reports.

A worker that dies takes the others with it (torchrun ends them), and session.json then says what happened. A request
to stop reaches the workers as a file in the session folder, because they must all stop after the same step.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import children, errors, files
from ..core.errors import FFTError, Interrupted, TrainingFailed
from ..core.shell_words import word
from ..core.terminal import say
from . import environment, session
from .session import Failure, Folder, Session
from .stopping import Signals

STOP_FILE = ".stop"
FAILURES = ".failure-*.json"
WORKER = "unsloth_fft.training.worker"
# torchrun gives its processes 30 s to end after it has told them to (torch 2.11, elastic/multiprocessing/api.py).
PATIENCE_S = 45.0
# What a process says when another is gone: not the cause, so it is not what the user is told.
LOST_PEER = re.compile(r"GLHF|[Cc]onnection (closed|reset)|[Gg]loo|NCCL|ProcessGroup")


@dataclass(frozen=True)
class Machines:
    """Where the processes of a run start: `gpus` on each of `nodes` machines that meet at `rendezvous` (host:port)."""

    gpus: int
    nodes: int
    rendezvous: str | None


def command(machines: Machines, root: Path, arguments: list[str]) -> list[str]:
    """The torchrun command of this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(machines.gpus)]
    if machines.nodes == 1:
        launcher += ["--standalone"]
    else:
        launcher += ["--nnodes", str(machines.nodes), "--rdzv-backend", "c10d"]
        launcher += ["--rdzv-endpoint", str(machines.rendezvous), "--rdzv-id", root.absolute().name]
    return [*launcher, "--max-restarts", "0", "--module", WORKER, str(root), *arguments]


def run(machines: Machines, folder: Folder, arguments: list[str], signals: Signals, *, follows: bool = False) -> None:
    """Start the workers and wait for them; with `follows` another machine's launcher looks after the session.

    Raises Interrupted when a signal stopped them, or TrainingFailed, MissingHere or BadInput as a worker met it; a
    process that was killed without a word is named.
    """
    if not follows:
        forget(folder)
    signals.defer()
    # A session of its own: Ctrl-C at the terminal reaches this process alone, which then lets the workers save.
    process = subprocess.Popen(
        command(machines, folder.root, arguments),
        stdout=sys.stderr,
        env=environment.for_children(),
        **children.APART,
    )
    try:
        code = _watched(process, folder, signals)
    except BaseException:
        _end(process)
        raise
    failure = first_failure(folder)
    if not follows:
        forget(folder)
    if failure is not None and not LOST_PEER.search(failure.message):
        raise failure
    if code:
        raise TrainingFailed(
            f"a training process ended without a word (torchrun's exit code is {code}): killed, or out of host memory",
            hint=f"go on from the last checkpoint: unsloth_fft_tool.py train {word(folder.root)} --resume",
        )


def _watched(process: subprocess.Popen[bytes], folder: Folder, signals: Signals) -> int:
    while True:
        if signals.requested() and not stop_file(folder).exists():
            stop_file(folder).touch()
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue


def _end(process: subprocess.Popen[bytes]) -> None:
    """End torchrun and its processes: first by asking, then at once, also where the waiting is broken off."""
    try:
        children.ask_to_end(process)
        _wait(process)
    finally:
        children.end(process)
        _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def stop_file(folder: Folder) -> Path:
    """Its presence asks the workers to save after their step and stop."""
    return folder.root / STOP_FILE


def forget(folder: Folder) -> None:
    """Remove what an earlier run told its workers, and they it."""
    for path in (stop_file(folder), *folder.root.glob(FAILURES)):
        path.unlink(missing_ok=True)


def note_failure(folder: Folder, rank: int, error: FFTError) -> None:
    """Leave `error` for the launcher to raise."""
    files.write_json(folder.root / f".failure-{rank}.json", {"rank": rank, **error.as_json()["error"]})


def first_failure(folder: Folder) -> FFTError | None:
    """The earliest error a worker left, as the exception it was."""
    kinds = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FFTError)}
    for path in sorted(folder.root.glob(FAILURES), key=lambda path: path.stat().st_mtime_ns):
        noted = _noted(path)
        kind = kinds.get(noted["code"], TrainingFailed)
        where = "" if kind is Interrupted else f"process {noted['rank']}: "
        return kind(where + noted["message"], hint=noted["hint"])
    return None


def _noted(path: Path) -> dict[str, Any]:
    """What a worker left; a killed one may have left anything."""
    value = files.read_json(path, "a worker's last words")
    words = ("rank", "code", "message", "hint")
    known = isinstance(value, dict) and all(isinstance(value.get(word), str | int) for word in words)
    return value if known else {"rank": "?", "code": "", "message": "it left no readable words", "hint": ""}


def settle(folder: Folder, error: FFTError) -> None:
    """Have session.json say how the run ended, where the workers could not."""
    _, state, _ = session.load(folder.root)
    if state.state != "running":
        return
    kind = "interrupted" if isinstance(error, Interrupted) else "failed"
    recorded = None if kind == "interrupted" else Failure(error.code, error.message, error.hint)
    ended: Session = state.changed(state=kind, process=None, error=recorded)
    session.save(folder, ended)
    if kind == "failed":
        say(f"{folder.root}: marked as failed")
