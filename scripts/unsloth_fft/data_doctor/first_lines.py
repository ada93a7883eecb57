"""What `data` says first: a few lines of at most 80 columns that answer whether training would take the rows."""

from __future__ import annotations

from ..core.terminal import fold
from .checking import Check, fault_lines
from .oddities import sentences
from .page import named_files
from .report import Report


def of_report(report: Report) -> list[str]:
    """Four lines on rows that were tokenized."""
    tokens, cut, epoch, repeats = report.tokens, report.truncation, report.epoch, report.duplicates
    recommended = report.recommended.max_seq_length
    enough = f" ({recommended:,} is enough)" if recommended < cut.at else ""
    rows = f"{report.rows:,} rows ({report.format}), {report.faults.count:,} faulty"
    cut_rows = f"{cut.share:.2%} cut at {cut.at:,}"
    return [
        _head(report.is_refused, "usable", rows, f"{report.supervision.share:.1%} of tokens learned"),
        f"tokens     median {tokens.median:,.0f}, longest {tokens.max:,}; {cut_rows}{enough}",
        f"repeats    {repeats.exact_rows:,} exact, {repeats.near_rows:,} near, {repeats.empty_rows:,} empty;"
        f" {report.leakage.leaked_rows:,} of {report.leakage.held_out_rows:,} held-out rows leaked",
        f"one epoch  {epoch.steps:,} steps of {epoch.effective_batch}, {epoch.tokens:,} tokens",
    ]


def of_check(found: Check) -> list[str]:
    """Three lines on files that were read without a tokenizer."""
    rows = f"{found.rows:,} rows ({found.format}), {found.faults.count:,} faulty, {found.empty_rows:,} empty"
    lines = [_head(found.is_refused, "readable", rows)]
    if found.tokens is not None:
        one = found.tokens
        lines.append(
            f"tokens     about {one.estimate:,} ({one.least:,} to {one.most:,}), longest row {one.longest_row:,}"
        )
    return [*lines, fold(f"not seen   {found.not_checked}", 11)]


def below(found: Report | Check) -> list[str]:
    """What is to be looked at: warnings, then every fault with its line."""
    warnings = found.warnings if isinstance(found, Report) else sentences(found.oddities)
    return [*_not_used(found), *(f"warning: {sentence}" for sentence in warnings), *fault_lines(found.faults)]


def _not_used(found: Report | Check) -> list[str]:
    lines = []
    if found.unused_keys:
        keys = ", ".join(f"{one.key} ({one.rows:,} rows)" for one in found.unused_keys[:12])
        lines.append(f"note: keys that are not used: {keys}")
    if found.skipped_files:
        lines.append(f"note: files that are not read: {named_files(found.skipped_files)}")
    return lines


def _head(refused: bool, good: str, *facts: str) -> str:
    return f"{'refused' if refused else good:<11}{', '.join(facts)}"
