"""What is wrong with data files as files: JSON, format and the parts of a row. No tokenizer and no package is needed.

The keys of a Check are those of schemas/data-check.schema.json.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import schema
from ..data import scanning
from ..data.row_format import Content
from ..settings.parameters import Data
from . import every_row, token_estimate
from .oddities import OddRows, sentences
from .report import Faults, Oddities, SourceSummary, UnusedKey

NOT_CHECKED = "the chat template, what is learned, and repeats need the model's tokenizer: --model DIR"


@dataclass(frozen=True)
class TokenEstimate:
    """An estimate of all rows' tokens, `least` to `most`, and of the longest row's; `basis` says how good it is."""

    estimate: int
    least: int
    most: int
    longest_row: int
    basis: str = token_estimate.WORDS


@dataclass(frozen=True)
class Check:
    """What was found. `rows` counts faulty and empty rows too."""

    sources: list[SourceSummary]
    format: str
    rows: int
    empty_rows: int
    faults: Faults
    tokens: TokenEstimate | None
    unused_keys: list[UnusedKey]
    skipped_files: list[str]
    oddities: Oddities
    not_checked: str = NOT_CHECKED
    schema_version: str = schema.SCHEMA_VERSION

    @property
    def is_refused(self) -> bool:
        """Whether training would refuse these files, whatever the tokenizer."""
        return self.faults.count > 0

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against the schema."""
        value = {"verdict": "refused" if self.is_refused else "readable", **dataclasses.asdict(self)}
        schema.check(value, "data-check", "the data check")
        return value


_HINTS_SHOWN = 5


class _Tally:
    """Counts rows, estimates their tokens, and sees what is odd about them as they stand."""

    def __init__(self) -> None:
        self.rows = self.empty = 0
        self.odd = OddRows()
        self._tokens = token_estimate.Estimator()

    def add(self, content: Content) -> None:
        self.rows += 1
        self.odd.add(content)
        self._tokens.add(content)

    def tokens(self) -> TokenEstimate | None:
        found = self._tokens.result()
        return None if found is None else TokenEstimate(found.tokens, found.least, found.most, found.longest_row)

    def add_empty(self) -> None:
        self.rows += 1
        self.empty += 1

    def flush(self) -> None:
        """There is nothing to flush."""


def check(data: Data) -> Check:
    """Read every row of `data` once. Raises BadInput when a file cannot be read, or has no rows but empty ones."""
    tally = _Tally()
    parts = every_row.read(data, tally)
    faults = every_row.faults_of(parts)
    if tally.rows == tally.empty and not faults.count:
        every_row.refuse_unusable(parts, faults)
    return Check(
        sources=[
            SourceSummary(part.source.dataset, part.format, part.stop - part.start, part.source.weight)
            for part in parts
        ],
        format=" + ".join(dict.fromkeys(part.format for part in parts)),
        rows=tally.rows + faults.count,
        empty_rows=tally.empty,
        faults=faults,
        tokens=tally.tokens(),
        unused_keys=every_row.unused_keys(parts),
        skipped_files=every_row.skipped_files(parts),
        oddities=tally.odd.result(),
    )


def table(found: Check) -> str:
    """The check as lines of text, every fault on its own."""
    usable = found.rows - found.empty_rows - found.faults.count
    lines = [
        f"format       {found.format}",
        f"rows         {found.rows:,}: {usable:,} can be read, {found.faults.count:,} faulty,"
        f" {found.empty_rows:,} empty and left out",
        f"tokens       {_tokens(found.tokens)}",
        f"not checked  {found.not_checked}",
    ]
    if found.unused_keys:
        lines.append("not used     " + ", ".join(f"{one.key} ({one.rows:,} rows)" for one in found.unused_keys[:12]))
    if found.skipped_files:
        lines.append(f"not read     {', '.join(Path(name).name for name in found.skipped_files[:6])}")
    lines += [f"warning: {sentence}" for sentence in sentences(found.oddities)]
    return "\n".join([*lines, *fault_lines(found.faults)])


def _tokens(found: TokenEstimate | None) -> str:
    if found is None:
        return "none"
    return (
        f"about {found.estimate:,} ({found.least:,} to {found.most:,}), the longest row about {found.longest_row:,}:"
        f" {found.basis}"
    )


def fault_lines(faults: Faults, most: int = every_row.FAULTS_SHOWN) -> list[str]:
    """One line a fault for the first `most` of them, and one that counts the others."""
    lines = [
        f"fault: {fault.file}: {scanning.counted_in(fault.file)} {fault.line} {fault.message}"
        for fault in faults.shown[:most]
    ]
    if faults.count > len(lines):
        lines.append(f"... and {faults.count - len(lines):,} more faults")
    hints = dict.fromkeys(fault.hint for fault in faults.shown if fault.hint)
    return [*lines, *(f"what to do: {hint}" for hint in list(hints)[:_HINTS_SHOWN])]
