"""train: run a session to its end, then audit it and write its report."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..core import files, outputs, terminal
from ..core.arguments import whole
from ..core.errors import BadInput
from ..core.shell_words import word
from ..settings import parameters
from ..training import environment, session, starting
from ..training import run as training_run
from ..training.run import Options
from ..training.session import Session
from ..training.stopping import interruptible
from . import finish, init

EPILOG = """examples:
  unsloth_fft_tool.py train runs/first
  unsloth_fft_tool.py train runs/first --resume             go on from the newest whole checkpoint
  unsloth_fft_tool.py train --params p.json --session runs/first      init and train in one go
  unsloth_fft_tool.py train runs/first --dry-run-steps 2    two steps on the longest rows: memory measured, nothing kept
  unsloth_fft_tool.py train runs/first --dry-run-steps 2 --hold-to-plan    a small card's plan, tried on a larger card

A plan for several GPUs starts one process for each through torchrun. For several machines run this on each of them, in
a folder they share: train DIR --rendezvous FIRST_MACHINE:29500, with --follow on all but one."""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="run a session, then audit it and write its report",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="session folder that init made")
    command.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint")
    command.add_argument("--params", type=Path, metavar="F", help="with --session: init first")
    command.add_argument("--session", type=Path, metavar="DIR", help="with --params: new folder; alone: as DIR")
    command.add_argument(
        "--dry-run-steps", type=whole(1, 1000), metavar="N", help="take N steps, say what they needed, and keep nothing"
    )
    command.add_argument(
        "--hold-to-plan", action="store_true", help="use no more GPU memory than the card that was planned for has"
    )
    command.add_argument("--rendezvous", metavar="HOST:PORT", help="where several machines meet: on the first of them")
    command.add_argument("--follow", action="store_true", help="this is not the first of several machines")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `train` command."""
    root = _session_of(args)
    options = Options(args.resume, args.hold_to_plan, args.rendezvous, args.follow)
    if args.dry_run_steps is not None:
        return try_out(root, args.dry_run_steps, options, as_json=args.json)
    to_the_end(root, options, as_json=args.json)
    return 0


def to_the_end(root: Path, options: Options, *, as_json: bool) -> None:
    """Train the session `root`, audit it, write its report, and say what came of it."""
    state = _completed_without_report(root) if options.resume else None
    if state is None:
        state = training_run.train(root, options)
    if options.follows:
        return
    with interruptible(
        "training is complete, its audit and report were stopped",
        hint=f"make them with: unsloth_fft_tool.py train {word(root)} --resume",
    ):
        moved = finish.audit_and_report(root)
    if as_json:
        terminal.emit({"session": dataclasses.asdict(state), "audit": moved})
    else:
        finish.tell(session.Folder(root), state, moved)


def try_out(root: Path, steps: int, options: Options, *, as_json: bool = False, next_command: str | None = None) -> int:
    """Take a few steps of the session `root`, say what they needed, and keep nothing."""
    measured = training_run.dry_run(root, steps, options)
    folder, state, parameters = session.load(root)
    predicted = None if parameters.plan is None else parameters.plan.predicted
    if as_json:
        expected = predicted and {
            "peak_vram_gib": predicted.peak_vram_gib,
            "tokens_per_second": predicted.tokens_per_second,
        }
        terminal.emit({"measured": dataclasses.asdict(measured), "predicted": expected})
        return 0
    peak = f"{measured.peak_reserved_gib:.2f} GiB" if measured.peak_reserved_gib else "not measured without a GPU"
    terminal.say(f"peak       {peak}" + (f" (predicted {predicted.peak_vram_gib:.2f} GiB)" if predicted else ""))
    if measured.tokens_per_second is not None:
        expectation = f" (predicted {predicted.tokens_per_second:,.0f} tokens/s)" if predicted else ""
        terminal.say(f"speed      {measured.tokens_per_second:,.0f} tokens/s{expectation}")
    terminal.say(f"steps      {steps}, the first in {measured.first_step_s:.1f} s; loss {measured.losses[-1]:.3f}")
    terminal.say("saving     tried: the model was written and removed again")
    if measured.allocation_retries:
        terminal.say(
            f"warning: memory was nearly out, which costs speed: {measured.allocation_retries} allocation(s) retried"
        )
    terminal.say(f"next: {next_command or _after_dry_run(folder, state)}")
    return 0


def _after_dry_run(folder: session.Folder, state: Session) -> str:
    """The command that trains with these settings; a completed session is not trained again, but its settings are."""
    if state.state == "completed":
        another = outputs.unused(folder.root)
        return f"unsloth_fft_tool.py train --params {word(folder.parameters)} --session {word(another)}"
    return starting.command(folder)


def _completed_without_report(root: Path) -> Session | None:
    """The state of a run that was stopped after its end but before its report, which is then all that is missing."""
    folder, state, _ = session.load(root)
    return state if state.state == "completed" and not folder.report.exists() else None


def _session_of(args: argparse.Namespace) -> Path:
    if args.folder is not None:
        if args.params or args.session:
            raise BadInput(
                "train got both DIR and --params/--session", hint="use: train DIR, or: train --params F --session DIR"
            )
        return _existing(args.folder)
    if args.session is None:
        raise BadInput("train needs a session folder", hint="use: train DIR, or: train --params F --session DIR")
    if args.params is None:
        return _existing(args.session)
    session.require_new(args.session)
    environment.begin(parameters.load(args.params), args.session)
    init.initialize(args.params, args.session)
    return Path(args.session)


def _existing(root: Path) -> Path:
    """`root`, which must not be a file: whoever names one means the parameters."""
    with files.explained(root):
        is_file = root.is_file()
    if is_file:
        raise BadInput(
            f"{root} is a file; train takes a session folder",
            hint=f"make a session from it and train: unsloth_fft_tool.py train --params {word(root)} --session"
            f" {word(outputs.unused('run-1'))}",
        )
    return root
