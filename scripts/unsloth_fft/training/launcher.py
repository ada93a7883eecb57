"""Several GPUs: torchrun starts one worker a GPU on the session; this process watches, passes signals on, and reports.

A worker that dies takes the others with it (torchrun ends them), as does a machine that the other launchers do not
hear of any more (peers.py), and session.json then says what happened. A request to stop reaches the workers as a file
in the session folder, because they must all stop after the same step; what ends them at once is in ending.py.
"""

from __future__ import annotations

import os
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
from . import environment, peers, session
from .peers import Peers
from .session import Failure, Folder, Session
from .stopping import Signals

STOP_FILE = ".stop"
FAILURES = ".failure-*.json"
TORCHRUN = "unsloth_fft.training.torchrun"  # torch.distributed.run, without its tracebacks
WORKER = "unsloth_fft.training.worker"
# Workers that must end do so within seconds (ending.py); torchrun then has nothing to wait for.
PATIENCE_S = 15.0
# Who sends TERM to all processes of a job says how long they may take, and ends them by KILL when it is over. torchrun,
# which gets it, too, would do so after 30 s, too early for a large checkpoint (torch 2.14.1, launcher/api.py; older
# versions without this variable do).
TORCHRUN_WAITS = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(24 * 3600)}
# How long a worker's "connection closed" may be known before the reason for it is.
REASON_WITHIN_S = 8.0
# What a process says when another is gone: not the cause, so it is not what the user is told.
LOST_PEER = re.compile(r"GLHF|[Cc]onnection (closed|reset)|[Gg]loo|NCCL|ProcessGroup")


@dataclass(frozen=True)
class Machines:
    """Where the processes of a run start: `gpus` on each of `nodes` machines that meet at `rendezvous` (host:port).

    `follows` is true on all machines but the first, which looks after the session.
    """

    gpus: int
    nodes: int
    rendezvous: str | None
    follows: bool = False


def command(machines: Machines, root: Path, arguments: list[str]) -> list[str]:
    """The torchrun command of this machine."""
    launcher = [sys.executable, "-m", TORCHRUN, "--nproc-per-node", str(machines.gpus)]
    if machines.nodes == 1:
        launcher += ["--standalone"]
    else:
        launcher += ["--nnodes", str(machines.nodes), "--rdzv-backend", "c10d"]
        launcher += ["--rdzv-endpoint", str(machines.rendezvous), "--rdzv-id", root.absolute().name]
        # torchrun would guess by names which machine is the first, and how the others reach this one.
        launcher += ["--rdzv-conf", f"is_host={int(not machines.follows)}"]
        address = peers.own_address(str(machines.rendezvous))
        launcher += ["--local-addr", address] if address else []
    return [*launcher, "--max-restarts", "0", "--module", WORKER, str(root), *arguments]


def run(machines: Machines, folder: Folder, arguments: list[str], signals: Signals) -> None:
    """Start the workers and wait for them; where this machine follows, another's launcher looks after the session.

    Raises Interrupted when a signal stopped them, or TrainingFailed, MissingHere or BadInput as a worker met it; a
    process that was killed without a word is named, and so is a machine that is gone.
    """
    if not machines.follows:
        forget(folder)
    signals.defer()
    meeting = machines.rendezvous if machines.nodes > 1 else None
    with peers.in_touch(meeting, folder.root.absolute().name, first=not machines.follows) as others:
        # A session of its own: Ctrl-C at the terminal reaches this process alone, which then lets the workers save.
        process = subprocess.Popen(
            command(machines, folder.root, arguments),
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            env={**TORCHRUN_WAITS, **environment.for_children(), **_network_of(machines)},
            **children.APART,
        )
        try:
            code = _watched(process, folder, signals, others)
        except BaseException:
            _end(process)
            raise
        _raise_what_happened(code, machines, folder, signals, others)


def _network_of(machines: Machines) -> dict[str, str]:
    """Gloo binds to the address of the machine's name, which is often one of loopback; NCCL looks by itself."""
    if machines.nodes == 1 or "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    name = peers.interface_to(str(machines.rendezvous))
    return {"GLOO_SOCKET_IFNAME": name} if name else {}


def _raise_what_happened(code: int, machines: Machines, folder: Folder, signals: Signals, others: Peers | None) -> None:
    """Return where torchrun's exit `code` is a success. A peer's loss is told by whoever knows the reason for it."""
    failure = first_failure(folder)
    follows_another = failure is None or LOST_PEER.search(failure.message)
    reason = others.lost(REASON_WITHIN_S) if others and code and follows_another and not signals.requested() else None
    if not machines.follows:
        forget(folder)
    if failure is not None and not follows_another:
        raise failure
    if reason is not None:
        raise _machine_gone(reason, folder)
    if not code or session.load(folder.root)[1].state == "completed":
        return
    if signals.requested() and machines.follows:
        raise Interrupted(f"stopped by {signals.received}; saved", hint=_how_to_go_on(folder))
    raise TrainingFailed(
        f"a training process ended without a word (torchrun's exit code is {code}): killed, or out of host memory",
        hint=_how_to_go_on(folder),
    )


def _machine_gone(reason: str, folder: Folder) -> TrainingFailed:
    return TrainingFailed(
        f"this run cannot go on without another machine of it: {reason}",
        hint=f"when it is back, {_how_to_go_on(folder)} (on every machine, as before)",
    )


def _how_to_go_on(folder: Folder) -> str:
    return f"go on from the last checkpoint: unsloth_fft_tool.py train {word(folder.root)} --resume"


def _watched(process: subprocess.Popen[bytes], folder: Folder, signals: Signals, others: Peers | None) -> int:
    while True:
        if signals.requested() and not stop_file(folder).exists():
            stop_file(folder).touch()
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            pass
        reason = others.lost() if others else None
        if reason is not None:
            raise _machine_gone(reason, folder)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End torchrun and its processes: first by asking, then at once, also where the waiting is broken off."""
    if process.stdin is not None:  # its workers' input; they end with it
        process.stdin.close()
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
    told = state.error is not None and not LOST_PEER.search(state.error.message)
    if state.state != "running" and (state.state != "failed" or told):
        return
    kind = "interrupted" if isinstance(error, Interrupted) else "failed"
    recorded = None if kind == "interrupted" else Failure(error.code, error.message, error.hint)
    ended: Session = state.changed(state=kind, process=None, error=recorded)
    session.save(folder, ended)
    if kind == "failed":
        say(f"{folder.root}: marked as failed")
