"""What follows every completed run: the audit, a look at its data, the report and a few words. For train and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core import files
from ..core.terminal import say
from ..data_doctor.report import Report
from ..training import session
from ..training.session import Folder, Session


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
    """The end of a run in a few lines on stderr."""
    result = state.result
    assert result is not None
    say()
    say(f"moved      {moved['moved_fraction']:.4%} of {moved['elements']:,} weights: verdict {moved['verdict']}")
    before, after = result.eval_loss_before, result.eval_loss_after
    if before is not None and after is not None:
        fall = f"({(after - before) / before:+.0%})"
        say(f"held out   loss {before:.4f} -> {after:.4f} {fall}, mean over the tokens of {result.eval_rows} rows")
    if result.eval_loss_master is not None and result.eval_loss_bfloat16 is not None:
        given_up = result.eval_loss_bfloat16 - result.eval_loss_master
        stored = f"stored as bfloat16 {result.eval_loss_bfloat16:.4f} ({given_up:+.4f})"
        say(f"           in float32 {result.eval_loss_master:.4f}; {stored}")
    if result.master_missing is not None:
        say(f"master     not kept: {result.master_missing}")
    whole = f"{result.tokens:,} tokens in {result.seconds:.1f} s"
    say(f"speed      {result.tokens_per_second:,.0f} tokens/s over the whole run: {whole}")
    say(f"model      {folder.model}")
    say(f"report     {folder.report}")
    say(f"plot       {folder.loss_plot}")
