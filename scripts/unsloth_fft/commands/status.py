"""status: where a run stands, in words and as one JSON object; loss and speed are those of the last step."""

from __future__ import annotations

import argparse
import sys
from typing import Any, TextIO

from ..core import files, terminal
from ..core.errors import BadInput
from ..core.shell_words import word
from ..planning import duration
from ..reporting import symptoms
from ..training import checkpoints, metrics, session, starting
from ..training.session import Folder, Session
from . import session_folder

EPILOG = """example:
  unsloth_fft_tool.py status runs/first --json"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "status",
        help="state, step, loss, speed of the last step, and time left of a run",
        description=__doc__,
        epilog=EPILOG,
    )
    session_folder.add(command, "DIR", "session folder")
    command.add_argument(
        "--json", action="store_true", help="one JSON object on stdout and no words (a pipe gets both)"
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `status` command."""
    folder, state, _ = session.load(session_folder.of(args))
    found = summary(folder, state)
    if not args.json:
        for line in told(found):
            terminal.say(line)
    if args.json or not _is_terminal(sys.stdout):  # a person has read it above
        terminal.emit(found)
    return 0


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def told(found: dict[str, Any]) -> list[str]:
    """The JSON `summary` in five lines, then what is to be looked at."""
    total = found["total_steps"]
    where = f", step {found['step']:,}" + (f" of {total:,}" if total else "") if found["step"] else ""
    left = f", {duration.short(found['seconds_left'] / 3600)} left" if found["seconds_left"] else ""
    lines = [f"state      {found['state']}{where}{left}"]
    if found["loss"] is not None:
        held_out = "" if found["eval_loss"] is None else f"; held out {found['eval_loss']:.4f}"
        lines.append(f"loss       {found['loss']:.4f}{held_out}")
    if found["tokens_per_second"] is not None:
        peak = "" if found["peak_gib"] is None else f"; peak {found['peak_gib']:.1f} GiB"
        lines.append(f"speed      {found['tokens_per_second']:,.0f} tokens/s{peak}")
    if found["error"] is not None:
        lines.append(terminal.fold(f"failed     {found['error']['message']}", 11))
    lines.append(f"next: {found['next']}")
    return [*lines, *(f"note: {one['seen']}: {one['advice']}" for one in found["advice"])]


def summary(folder: Folder, state: Session) -> dict[str, Any]:
    """State, progress, loss and speed (tokens/s) of the last step, time left (seconds) and what to look at.

    A run whose process died without a word is shown as interrupted: its lock is free while it says running.
    """
    lines = metrics.read(folder.metrics)
    steps = [line for line in lines if line.kind == "train"]
    evaluations = [line for line in lines if line.kind == "eval"]
    step = max(state.step, steps[-1].step if steps else 0)
    running = state.state == "running"
    return {
        "session": str(folder.root),
        "state": "interrupted" if running and not session.is_held(folder) else state.state,
        "step": step,
        "total_steps": state.total_steps,
        "loss": steps[-1].loss if steps else None,
        "eval_loss": evaluations[-1].loss if evaluations else None,
        "checkpoint": _newest_checkpoint(folder),
        "tokens": steps[-1].tokens if steps else 0,
        "tokens_per_second": steps[-1].tokens_per_second if steps else None,
        "seconds_left": _seconds_left(steps, step, state.total_steps) if running else None,
        "peak_gib": max((line.peak_gib for line in lines if line.peak_gib is not None), default=None),
        "advice": [finding.to_json() for finding in (*_of_data(folder), *symptoms.findings(lines))],
        "updated": state.updated,
        "error": None if state.error is None else {"code": state.error.code, "message": state.error.message},
        "next": terminal.pasteable(_next(folder, state)),
    }


def _of_data(folder: Folder) -> list[symptoms.Finding]:
    """What the report on the run's own rows shows, where there is one."""
    if not folder.data_report.is_file():
        return []
    from ..data_doctor import report

    try:
        return symptoms.of_data(report.from_json(files.read_json(folder.data_report, "data report"), "data report"))
    except BadInput:  # of another version of this bundle
        return []


def _newest_checkpoint(folder: Folder) -> int | None:
    """The step that `--resume` would go on from; None where it would start again."""
    newest = checkpoints.newest(folder.checkpoints)
    return None if newest is None else checkpoints.step_of(newest)


def _seconds_left(steps: list[metrics.Line], step: int, total: int | None) -> float | None:
    """Steps left at the mean pace of the last ten metrics lines, in seconds; None when the clock was set back."""
    import datetime

    recent = steps[-10:]
    if total is None or len(recent) < 2 or recent[-1].step <= recent[0].step:
        return None
    first, last = (datetime.datetime.fromisoformat(line.time) for line in (recent[0], recent[-1]))
    pace = (last - first).total_seconds() / (recent[-1].step - recent[0].step)
    return round(pace * max(total - step, 0), 1) if pace >= 0 else None


def _next(folder: Folder, state: Session) -> str:
    if state.state == "completed":
        return f"unsloth_fft_tool.py audit --session {word(folder.root)}"
    return starting.command(folder)
