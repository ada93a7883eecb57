"""train: run a session to its end, then audit it and write its report."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..core import terminal
from ..core.errors import BadInput
from ..training import run as training_run
from ..training import session
from ..training.session import Session
from ..training.stopping import interruptible
from . import finish, init

EPILOG = """examples:
  unsloth_fft_tool.py train runs/first
  unsloth_fft_tool.py train runs/first --resume             go on from the newest whole checkpoint
  unsloth_fft_tool.py train --params p.json --session runs/first      init and train in one go"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="run a session, then audit it and write its report",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="session folder that init made")
    command.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint")
    command.add_argument("--params", type=Path, metavar="F", help="with --session: init first")
    command.add_argument("--session", type=Path, metavar="DIR", help="new session folder, with --params")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `train` command."""
    root = _session_of(args)
    state = _completed_without_report(root) if args.resume else None
    if state is None:
        state = training_run.train(root, resume=args.resume)
    with interruptible(
        "training is complete, its audit and report were stopped",
        hint=f"make them with: unsloth_fft_tool.py train {root} --resume",
    ):
        moved = finish.audit_and_report(root)
    if args.json:
        terminal.emit({"session": dataclasses.asdict(state), "audit": moved})
    else:
        finish.tell(session.Folder(root), state, moved)
    return 0


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
        return Path(args.folder)
    if not (args.params and args.session):
        raise BadInput("train needs a session folder", hint="use: train DIR, or: train --params F --session DIR")
    init.initialize(args.params, args.session)
    return Path(args.session)
