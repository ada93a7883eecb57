"""Sessions of the tiny model that are trained here, and what they left behind."""

from __future__ import annotations

import json
from pathlib import Path

from workers import Workers

STEPS = 12
EVERY = {"max_steps": STEPS, "save_steps": 3}


def completed(workers: Workers, session: Path, *arguments: str) -> Path:
    done = workers.run("train", session, *arguments)
    assert done.returncode == 0, done.stderr
    assert state_of(session)["state"] == "completed"
    return session


def state_of(session: Path) -> dict:
    return json.loads((session / "session.json").read_text())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
