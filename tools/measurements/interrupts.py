"""Interrupt whole commands with one Ctrl-C or SIGTERM at random moments of their lives, and count how they ended.

    python -m tools.measurements.interrupts --times 6 --seed 1 --output NAME.json

Each command is started as a user starts it, in a process group of its own that the signal goes to, as of a terminal.
`prepare` is `train` before its first step (imports, rows, forked workers), `train` is from that step on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import TOOL, conversation_rows, minimal_parameters, write_jsonl, write_parameters
from unsloth_fft.training import session
from workers import Workers

KINDS = ("prepare", "train", "eval", "export")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LONGEST = 60.0  # seconds after the signal that count as a hang
STEPS = 200


@dataclass(frozen=True)
class Stopped:
    """How one command ended: exit code (None: a hang), and the seconds from the signal to its end."""

    kind: str
    signal: str
    after: float
    code: int | None
    seconds: float
    tracebacks: int
    orphans: int
    held: bool
    said: str


class Interrupter:
    """Starts and interrupts commands on one tiny model in `folder`."""

    def __init__(self, folder: Path, model: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        rows = write_jsonl(folder / "rows.jsonl", conversation_rows(80))
        value = minimal_parameters(model, rows, schedule={"max_steps": STEPS, "save_steps": 50})
        self._parameters = write_parameters(folder / "p.json", value)
        self.done = self._session("done")
        began = time.monotonic()
        process = self._start("train", self.done)
        self._prepared = self._until_first_step(process, self.done) - began
        self._trained = self._ended(process) - began - self._prepared
        self._lives = {name: self._life(name) for name in ("eval", "export")}

    def stop(self, kind: str) -> Stopped | None:
        """One signal at a random moment; None where the command had ended before it."""
        target = self.done if kind in self._lives else self._session("run")
        process = self._start(*self._arguments(kind, target))
        began = time.monotonic()
        if kind == "train":
            self._until_first_step(process, target)
        time.sleep(self._random.uniform(0, {**self._lives, "prepare": self._prepared, "train": self._trained}[kind]))
        if process.poll() is not None:
            return None
        number = self._random.choice(SIGNALS)
        os.killpg(process.pid, number)
        hit = time.monotonic()
        try:
            code = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - hit
        time.sleep(0.5)  # for what ends with its parent
        found = Stopped(
            kind=kind,
            signal=number.name,
            after=round(hit - began, 2),
            code=code,
            seconds=round(seconds, 2),
            tracebacks=self._log.read_text(errors="replace").count("Traceback"),
            orphans=0 if code is None else len(members(process.pid)),
            held=session.is_held(session.Folder(target)),
            said=next((line for line in self._log.read_text().splitlines() if line.startswith("error: ")), ""),
        )
        for one in members(process.pid):
            os.kill(one, signal.SIGKILL)
        process.wait()
        return found

    @property
    def _log(self) -> Path:
        return self._folder / "log.txt"

    def _arguments(self, kind: str, target: Path) -> tuple[object, ...]:
        shutil.rmtree(self._folder / "out", ignore_errors=True)
        return (
            (kind, target, "--to", self._folder / "out")
            if kind == "export"
            else (kind.replace("prepare", "train"), target)
        )

    def _start(self, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(TOOL), *map(str, arguments)]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

    def _ended(self, process: subprocess.Popen[bytes]) -> float:
        assert process.wait() == 0, self._log.read_text()
        return time.monotonic()

    def _life(self, name: str) -> float:
        began = time.monotonic()
        return self._ended(self._start(*self._arguments(name, self.done))) - began

    def _until_first_step(self, process: subprocess.Popen[bytes], target: Path) -> float:
        metrics = target / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and '"train"' in metrics.read_text()):
            time.sleep(0.02)
        return time.monotonic()

    def _session(self, name: str) -> Path:
        target = self._folder / name
        shutil.rmtree(target, ignore_errors=True)
        self._ended(self._start("init", "--params", self._parameters, "--session", target))
        return target


def members(group: int) -> list[int]:
    """The processes of the session that `group` leads and that still run (Linux: /proc/PID/stat, proc(5))."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def counts(stops: list[Stopped]) -> dict[str, dict[str, Any]]:
    """For each kind: how often each exit code, the slowest end, and the sums of what should be 0."""
    table: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(stop.kind for stop in stops):
        mine = [stop for stop in stops if stop.kind == kind]
        table[kind] = {
            "stops": len(mine),
            "codes": dict(Counter(str(stop.code) for stop in mine)),
            "slowest_seconds": max(stop.seconds for stop in mine),
            **{name: sum(getattr(stop, name) for stop in mine) for name in ("tracebacks", "orphans", "held")},
        }
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=6, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    stops: list[Stopped] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Workers() as workers:
            workers.make_tiny_model(folder / "tiny")
        interrupter = Interrupter(folder, folder / "tiny", args.seed)
        for kind in list(args.kinds) * args.times:
            while (stop := interrupter.stop(kind)) is None:
                pass
            stops.append(stop)
            print(stop, file=sys.stderr, flush=True)
    found = {"seed": args.seed, "counts": counts(stops), "each": [dataclasses.asdict(stop) for stop in stops]}
    if args.output:
        args.output.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["counts"], indent=2))
    return 0 if all(stop.code == 130 and not stop.tracebacks + stop.orphans + stop.held for stop in stops) else 1


if __name__ == "__main__":
    sys.exit(main())
