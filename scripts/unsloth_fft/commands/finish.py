"""What follows every completed run: the audit, a look at its data, the report and a few words. For train and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core import files
from ..core.shell_words import word
from ..core.terminal import say
from ..data_doctor.report import Report
from ..reporting.audit_table import share
from ..training import session
from ..training.session import Folder, Result, Session

SHOWS = 5e-5  # nats: half of the last digit that is shown


def audit_and_report(root: Path, samples: list[Any] | None = None) -> dict[str, Any]:
    """Audit the session against its base and write audit.json, data-report.json, loss.png and report.html.

    Returns the audit as JSON.
    """
    from ..auditing.audit import audit_session
    from ..reporting import report, session_data

    folder, state, parameters = session.load(root)
    moved: dict[str, Any] = audit_session(root).to_json()
    files.write_json(folder.audit, moved)
    data = session_data.examine(folder, state, parameters)
    if isinstance(data, Report):
        files.write_json(folder.data_report, data.to_json())
    report.write(root, samples or [], data)
    return moved


def tell(folder: Folder, state: Session, moved: dict[str, Any]) -> None:
    """The end of a run in five lines on stderr, the next command among them."""
    result = state.result
    assert result is not None
    say()
    say(_held_out(result) or "held out   no rows: eval_fraction is 0")
    say(f"moved      {share(moved['moved_fraction'])} of {moved['elements']:,} weights: verdict {moved['verdict']}")
    say(f"speed      {result.tokens_per_second:,.0f} tokens/s: {result.tokens:,} tokens in {result.seconds:,.1f} s")
    say(f"written    {folder.model.name}/, {folder.report.name} and {folder.loss_plot.name} in {folder.root}")
    say(f"next: unsloth_fft_tool.py eval {word(folder.root)}")


def _held_out(result: Result) -> str | None:
    """The held-out loss before and after, and what storing it as bfloat16 gives up where that shows."""
    before, after = result.eval_loss_before, result.eval_loss_after
    if before is None or after is None:
        return None
    wide, narrow = result.eval_loss_master, result.eval_loss_bfloat16
    stored = "" if wide is None or narrow is None or abs(narrow - wide) < SHOWS else f" (bfloat16: {narrow:.4f})"
    change = (after - before) / before if before else 0.0
    end = after if not stored or wide is None else wide
    return f"held out   loss {before:.4f} -> {end:.4f} ({change:+.0%}){stored}, {result.eval_rows:,} rows"
