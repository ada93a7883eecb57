"""demo: the whole path on what is shipped: plan, init, train, audit, report. Asks nothing, uploads nothing."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

from ..core import files, quiet, terminal
from ..core.terminal import say
from ..training import run as training_run
from ..training import session
from . import finish, init

EPILOG = """examples:
  unsloth_fft_tool.py demo                                      trains a pretrained model on shipped questions
  unsloth_fft_tool.py demo --tiny                               the same in a minute, with a tiny random model
  unsloth_fft_tool.py demo --dataset rows.jsonl --session s     trains on your own rows"""
DEFAULT_SESSION = "demo-session"


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="the whole path on shipped data, on this machine's GPU or CPU",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("--session", type=Path, metavar="DIR", help="new session folder (default: demo-session)")
    command.add_argument("--dataset", type=Path, metavar="FILE", help="your own JSONL instead of the shipped data")
    command.add_argument("--tiny", action="store_true", help="a tiny random model instead of the pretrained one")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `demo` command."""
    from ..demo import run as demo_run
    from ..demo import samples

    began = time.perf_counter()
    root = args.session or _free_name()
    session.require_new(root)
    files.require_folder(root)
    prepared = demo_run.prepare(root, args.dataset, tiny=args.tiny)
    init.initialize(prepared.parameters, root)
    state = training_run.train(root, training_run.Options())
    folder = session.Folder(root)
    with quiet.stdout_to_stderr():
        compared = samples.compare(prepared.base, folder.model, prepared.questions)
    moved = finish.audit_and_report(root, compared)
    for sample in compared if prepared.is_real else compared[:1]:
        say(f"\nquestion   {sample.question}\nbefore     {_line(sample.before)}\nafter      {_line(sample.after)}")
    finish.tell(folder, state, moved)
    say(f"done       in {time.perf_counter() - began:.0f} s; nothing left this machine")
    if args.json:
        terminal.emit(
            {
                "session": dataclasses.asdict(state),
                "verdict": moved["verdict"],
                "changed_fraction": moved["changed_fraction"],
                "base": prepared.base.name,
                "samples": [dataclasses.asdict(sample) for sample in compared],
                "folder": str(folder.root),
                "report": str(folder.report),
                "loss_plot": str(folder.loss_plot),
            }
        )
    return 0


def _free_name() -> Path:
    """The default session folder, or the first numbered one that is free, so that a second demo runs too."""
    names = itertools.chain([DEFAULT_SESSION], (f"{DEFAULT_SESSION}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := Path(name)).exists() and not Path(f"{name}.demo").exists())


def _line(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= 320 else shown[:317] + "..."
