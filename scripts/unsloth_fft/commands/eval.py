"""eval: what training changed, measured on held-out rows, on text that should not be forgotten, and in answers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core import outputs, terminal
from ..core.shell_words import word
from ..finishing import evaluate
from ..finishing.losses import CONFIDENCE, Comparison
from ..reporting import evaluation_section
from ..training import session
from . import session_folder

EPILOG = """examples:
  unsloth_fft_tool.py eval runs/first
  unsloth_fft_tool.py eval runs/first --prompts prompts.txt --text general.txt
  unsloth_fft_tool.py eval runs/first --lm-eval hellaswag,arc_easy"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "eval",
        help="loss before and after, answers side by side, what was forgotten",
        description=__doc__,
        epilog=EPILOG,
    )
    session_folder.add(command, "SESSION", "a completed session")
    command.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line, or JSON Lines with prompt")
    command.add_argument("--text", type=Path, metavar="FILE", help="text the model should still know")
    command.add_argument("--lm-eval", metavar="TASKS", help="tasks of lm-evaluation-harness, where it is installed")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `eval` command."""
    root = session_folder.of(args)
    found = evaluate.evaluate(root, prompts=args.prompts, text=args.text, tasks=args.lm_eval)
    path, value = evaluate.write(root, found), found.to_json()
    folder = session.Folder(root)
    in_report = evaluation_section.put_into(folder, value)
    if args.json:
        terminal.emit(value)
        return 0
    terminal.say(_words("held out", found.held_out) or "held out   no rows were held out")
    if found.forgetting is not None:
        terminal.say(_words("text", found.forgetting))
    terminal.say(f"all of it  {folder.report if in_report else path}")
    terminal.say(f"next: unsloth_fft_tool.py export {word(root)} --to {word(outputs.unused('my-model'))}")
    if not found.answers:
        terminal.say("note: with --prompts FILE it shows answers, before and after")
    for answer in found.answers:
        terminal.say(f"\n{answer.prompt}\n  before: {answer.before}\n  after:  {answer.after}")
    for task, metrics in (found.harness or {}).items():
        for metric, pair in metrics.items():
            terminal.say(f"{task} {metric}: {pair['before']:.4f} -> {pair['after']:.4f}")
    return 0


def _words(what: str, found: Comparison | None) -> str:
    """One comparison: the losses, and how sure their difference is; empty where nothing was compared."""
    if found is None:
        return ""
    bounds = "" if found.low is None else f", {CONFIDENCE:.0%} interval {found.low:+.4f} to {found.high:+.4f}"
    return (
        f"{what:<11}{found.verdict}: loss {found.before:.4f} -> {found.after:.4f}\n"
        f"{'':<11}change {found.after - found.before:+.4f}{bounds}, {found.rows:,} rows"
    )
