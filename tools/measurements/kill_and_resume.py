"""Kill a CPU run with SIGKILL at random moments, resume it, and compare its weights with those of an unbroken run.

    python -m tools.measurements.kill_and_resume --times 25 --seed 1 --output NAME.json

Moments are drawn in turn from the whole life of the process, from single steps, and from the writing of checkpoints,
which are saved after every step. Each kill is a SIGKILL to a process of its own; resumed means `train DIR --resume`.
A kill that is aimed at a save always meets one: the process is held still first, and goes on when the save is over.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import conversation_rows, minimal_parameters, write_jsonl, write_parameters
from unsloth_fft.training import checkpoints
from workers import Run, Workers

STEPS = 12
KINDS = ("any moment", "a step", "a save")
LONGEST_SAVE = 0.03  # seconds that writing a checkpoint of the small model takes, about
PACKAGES = ("unsloth", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Kill:
    """What one kill met and what came of the resumed run.

    `seconds` is the moment, counted from the start of `train`. `checkpoint_being_written` means that the kill left one
    half written. `equal` compares model.safetensors byte for byte with the unbroken run's.
    """

    aimed_at: str
    seconds: float
    last_step_logged: int
    newest_checkpoint: int
    checkpoint_being_written: bool
    equal: bool
    steps_logged_once: bool


class Killer:
    """Runs, kills and resumes sessions of one small model in `folder`."""

    def __init__(self, workers: Workers, folder: Path, model: Path, seed: int) -> None:
        self._workers = workers
        self._folder = folder
        self._random = random.Random(seed)
        rows = write_jsonl(folder / "rows.jsonl", conversation_rows(40))
        schedule = {"max_steps": STEPS, "save_steps": 1, "save_total_limit": 2}
        self._parameters = write_parameters(folder / "p.json", minimal_parameters(model, rows, schedule=schedule))
        self._count = 0
        reference = self._session()
        finished = workers.run("train", reference)
        assert finished.returncode == 0, finished.stderr
        self._life = finished.seconds
        self._weights = weights(reference)

    @property
    def digest(self) -> str:
        """SHA-256 of the unbroken run's weights."""
        return hashlib.sha256(self._weights).hexdigest()

    def kills(self, times: int) -> Iterator[Kill]:
        """`times` kills; an aim that came too late, after the run had ended, is taken again."""
        done = 0
        while done < times:
            kill = self._kill(KINDS[done % len(KINDS)])
            if kill is not None:
                done += 1
                yield kill

    def _kill(self, kind: str) -> Kill | None:
        session = self._session()
        run = self._workers.start("train", session)
        began = time.monotonic()
        self._wait(kind, run, session)
        run.send(signal.SIGKILL)
        seconds = time.monotonic() - began
        if run.wait().returncode != -signal.SIGKILL or (session / "report.html").exists():
            return None
        met = {
            "aimed_at": kind,
            "seconds": round(seconds, 3),
            "last_step_logged": max(steps_logged(session), default=0),
            "newest_checkpoint": newest_checkpoint(session),
            "checkpoint_being_written": staging_of(session).exists(),
        }
        resumed = self._workers.run("train", session, "--resume")
        assert resumed.returncode == 0, resumed.stderr
        once = steps_logged(session) == list(range(1, STEPS + 1))
        return Kill(**met, equal=weights(session) == self._weights, steps_logged_once=once)

    def _wait(self, kind: str, run: Run, session: Path) -> None:
        if kind == "any moment":
            time.sleep(self._random.uniform(0, self._life))
            return
        step = self._random.randint(1, STEPS - 1)
        while not run.is_over() and step not in steps_logged(session):
            time.sleep(0.001)
        if kind == "a step":
            time.sleep(self._random.uniform(0, 0.2))
            return
        while not run.is_over() and not self._holds_during_a_save(run, staging_of(session)):
            run.send(signal.SIGCONT)

    def _holds_during_a_save(self, run: Run, staging: Path) -> bool:
        """Stop the run at a random moment after a save has begun; whether the save was still under way."""
        while not run.is_over() and not staging.exists():
            pass
        time.sleep(self._random.uniform(0, LONGEST_SAVE))
        run.hold()
        return staging.exists()

    def _session(self) -> Path:
        session = self._folder / f"session-{self._count}"
        self._count += 1
        made = self._workers.run("init", "--params", self._parameters, "--session", session)
        assert made.returncode == 0, made.stderr
        return session


def staging_of(session: Path) -> Path:
    """Where a checkpoint is until it is whole."""
    return session / "checkpoints" / checkpoints.STAGING


def weights(session: Path) -> bytes:
    return (session / "model" / "model.safetensors").read_bytes()


def steps_logged(session: Path) -> list[int]:
    """The steps of whole training lines in metrics.jsonl, in order."""
    path = session / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line["step"] for line in lines if line["kind"] == "train"]


def newest_checkpoint(session: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in (session / "checkpoints").glob("checkpoint-*")), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Workers() as workers:
        folder = Path(scratch)
        workers.make_tiny_model(folder / "tiny")
        killer = Killer(workers, folder, folder / "tiny", args.seed)
        kills = []
        for kill in killer.kills(args.times):
            kills.append(kill)
            print(f"{len(kills)}/{args.times} {kill}", file=sys.stderr, flush=True)
    record = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python -m tools.measurements.kill_and_resume --times {args.times} --seed {args.seed}",
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, Linux, 1 thread, other work beside it",
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "steps": STEPS,
        "save_steps": 1,
        "unbroken_run_sha256": killer.digest,
        "kills": len(kills),
        "equal": sum(kill.equal for kill in kills),
        "while_a_checkpoint_was_written": sum(kill.checkpoint_being_written for kill in kills),
        "each": [dataclasses.asdict(kill) for kill in kills],
    }
    text = json.dumps(record, indent=2) + "\n"
    if args.output:
        args.output.write_text(text)
    print(text)
    return 0 if record["equal"] == args.times else 1


if __name__ == "__main__":
    sys.exit(main())
