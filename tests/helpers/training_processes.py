"""The training processes of a session, seen from outside: how far the run is, and which process is which rank."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def wait_for_step(session: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    metrics = session / "metrics.jsonl"
    while time.monotonic() < deadline:
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        if sum('"train"' in line for line in lines) >= step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the run never came to that step")


def workers_of(session: Path) -> list[int]:
    """Process ids of the session's workers, by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if str(session).encode() in words and b"unsloth_fft.training.worker" in words:
            rank = next((word for word in environment if word.startswith(b"RANK=")), None)
            if rank is not None:
                found[int(rank[5:])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]
