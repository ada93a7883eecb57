"""benchmark: run a list of plans for a few steps each, on random weights of their shapes, and append measured rows.

Every plan runs in a process of its own with the settings `train` would use. A row holds settings, versions, card, peak
memory, tokens/s, the rate of a plain matrix product in the same process, losses, and the share of weights that moved.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import children, files, outputs, staging_folders, terminal
from ..core.arguments import number, whole
from ..core.errors import BadInput, MissingHere, TrainingFailed
from ..core.redaction import plain_line
from ..models import catalogue
from ..settings import parameters as params
from ..settings.parameters import Parameters
from ..training import environment
from ..training.trial import WARM_UP_STEPS
from ..weights import model_folder

EPILOG = """examples:
  unsloth_fft_tool.py benchmark plan.json --output rows.jsonl
  unsloth_fft_tool.py benchmark a.json b.json --trl usual.json --output rows.jsonl --steps 8
  unsloth_fft_tool.py benchmark small-card.json --hold-to-plan --output rows.jsonl

Plans come from generate_fft_params.py, for models of the catalogue (made with random weights) or local folders; nothing
is downloaded. Exit code 5 when a plan ran out of memory or failed (the other rows are kept)."""

# Processes started before their turn: importing takes longer than a short run.
AHEAD = 3


@dataclass(frozen=True)
class Job:
    """One plan to run, and on which stack."""

    file: Path
    parameters: Parameters
    stack: str


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "benchmark",
        help="measure plans on this machine: memory, speed, loss, what moved",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("plans", nargs="*", type=Path, metavar="PLAN", help="parameters files")
    command.add_argument(
        "--trl", action="append", type=Path, default=[], metavar="PLAN", help="through plain transformers and TRL"
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON lines to append to")
    command.add_argument(
        "--steps", type=whole(1, 10_000), default=6, metavar="N", help="optimizer steps of each (default 6)"
    )
    command.add_argument("--work", type=Path, metavar="DIR", help="keeps the random models (default: a folder by FILE)")
    command.add_argument("--hold-to-plan", action="store_true", help="limit memory to the card each plan is for")
    command.add_argument(
        "--timeout", type=number(0, 10**6), default=600, metavar="S", help="seconds for one plan (default 600)"
    )
    command.add_argument("--profile", action="store_true", help="profile the last step of each into DIR/profile-N.txt")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `benchmark` command."""
    environment.require_packages()
    jobs = [Job(path, _loaded(path), "unsloth") for path in args.plans]
    jobs += [Job(path, _loaded(path), "hf") for path in args.trl]
    if not jobs:
        raise BadInput("benchmark needs a plan", hint="use: benchmark PLAN --output FILE")
    if args.steps <= WARM_UP_STEPS:
        raise BadInput(
            f"--steps {args.steps} is too few: the first {WARM_UP_STEPS} compile and are not timed",
            hint=f"use --steps {WARM_UP_STEPS + 1} or more",
        )
    outputs.refuse_overwriting(
        {"--output": args.output},
        files=[*args.plans, *args.trl],
        models=[job.parameters.model.name for job in jobs],
        data=[name for job in jobs for name in job.parameters.data.named],
    )
    if args.output.is_dir() or not args.output.name:
        raise BadInput(f"--output {args.output} is a folder, a file was expected", hint="name a .jsonl file")
    work = args.work or args.output.with_suffix(".work")
    found, failed = [], []
    for job, answer in _answers(jobs, work, args):
        if "error" in answer:
            failed.append({"plan": str(job.file), "stack": job.stack, "error": answer["error"]})
            terminal.say(f"{job.file.name} ({job.stack}): failed: {answer['error']}")
            continue
        from ..benchmarking import measurement_rows

        found.append(measurement_rows.append(args.output, answer))
        terminal.say(_told(found[-1]))
    if args.json:
        terminal.emit({"rows": found, "failed": failed})
    if failed or any("oom" in row for row in found):
        raise TrainingFailed(
            f"{len(failed)} of {len(jobs)} plans failed, {sum('oom' in row for row in found)} ran out of memory",
            hint=f"the rows that were measured are in {args.output}",
        )
    return 0


def _loaded(path: Path) -> Parameters:
    parameters = params.load(path)
    name = parameters.model.name
    if not os.path.isdir(name):
        catalogue.find_entry(name)  # refuses what cannot be made here
        return parameters
    model_folder.check_local(name)
    # Each plan is run in another folder.
    return dataclasses.replace(parameters, model=dataclasses.replace(parameters.model, name=os.path.abspath(name)))


def _told(row: dict[str, Any]) -> str:
    setting = f"{row['precision']} {row['optim']} {row['gc']} {row['bs']}x{row['ga']}"
    name = f"{row['id']}: {row['model']} {row['stack']} {setting}"
    if "oom" in row:
        return f"{name}: out of memory at {row['peak_res_gb']:.2f} GiB"
    predicted = f" (predicted {row['predicted_peak_gb']:.2f})" if "predicted_peak_gb" in row else ""
    expected = f" (predicted {row['predicted_tok_s']:,.0f})" if "predicted_tok_s" in row else ""
    return f"{name}: {row['peak_res_gb']:.2f} GiB{predicted}, {row['tok_s']:,.0f} tokens/s{expected}"


def _answers(jobs: Sequence[Job], work: Path, args: argparse.Namespace) -> Any:
    """Each job with its row or error. The next process imports while one runs, and waits for its turn."""
    with files.explained(work):
        work.mkdir(parents=True, exist_ok=True)
    waiting: list[subprocess.Popen[bytes]] = []
    # What the processes tell each other by files is this benchmark's own: another one may use the same folder.
    with staging_folders.beside(work / "run", "benchmark") as room:
        try:
            waiting += [_started(job, number, room, work, args) for number, job in enumerate(jobs[:AHEAD])]
            for number, job in enumerate(jobs):
                _make_model(job.parameters.model.name, work)
                (room / f"gate-{number}").touch()
                if number + AHEAD < len(jobs):
                    waiting.append(_started(jobs[number + AHEAD], number + AHEAD, room, work, args))
                yield (
                    job,
                    _answer(waiting[number], room / f"row-{number}.json", work / f"log-{number}.txt", args.timeout),
                )
        finally:
            for process in waiting:  # an error or Ctrl-C leaves none at its gate
                _end(process)


def _started(job: Job, number: int, room: Path, work: Path, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    count = job.parameters.distributed.gpus
    if job.parameters.distributed.nodes > 1:
        raise MissingHere("benchmark runs on one machine", hint="plan for one node")
    module = [sys.executable, "-m"]
    if count > 1:
        module += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "--module"]
    plan = (room / f"plan-{number}.json").absolute()
    files.write_json(plan, job.parameters.to_json())
    command = [*module, "unsloth_fft.benchmarking.one_plan", "--params", str(plan), "--stack", job.stack,
               "--model", str(_model_folder(job.parameters.model.name, work)), "--steps", str(args.steps),
               "--output", str((room / f"row-{number}.json").absolute()),
               "--gate", str((room / f"gate-{number}").absolute())]  # fmt: skip
    command += ["--hold-to-plan"] if args.hold_to_plan else []
    command += ["--profile", str((work / f"profile-{number}.txt").absolute())] if args.profile else []
    with (work / f"log-{number}.txt").open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment.for_children(),
            **children.APART,
            cwd=work,
        )


def _answer(process: subprocess.Popen[bytes], row: Path, log: Path, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if process.poll() is None:
        _end(process)
        return {"error": f"not done after {timeout:.0f} s"}
    if not row.exists():
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return {"error": plain_line(f"ended with {process.returncode} and no row: {' '.join(tail)[:300]}")}
    answer: dict[str, Any] = files.read_json(row, "measured row")
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        children.end(process)
        process.wait()


def _model_folder(name: str, work: Path) -> Path:
    local = Path(name)
    return local.absolute() if local.is_dir() else (work / name.replace("/", "--")).absolute()


def _make_model(name: str, work: Path) -> None:
    from ..benchmarking import random_model

    folder = _model_folder(name, work)
    if not folder.exists():
        terminal.say(f"making random weights of {name}")
        random_model.make_apart(name, folder)
