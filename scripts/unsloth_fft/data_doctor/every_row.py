"""Every row of every source, handed on once: usable rows to whoever counts them, faults with their lines to the caller.

Shared by the check that needs no tokenizer (checking.py) and the data doctor (doctor.py). Memory is bounded by a batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from ..core.errors import BadInput, FFTError
from ..data import scanning, sources
from ..data.formats import EXPECTED
from ..data.json_objects import Fault
from ..data.row_format import Content, Reader
from ..data.row_problems import EmptyRow, RowProblem
from ..data.scanning import Row
from ..data.sources import Source
from ..settings.parameters import Data
from .report import Faults, ShownFault, UnusedKey

BATCH = 1000  # rows handed on together
_KEYS_SHOWN, _FILES_SHOWN = 100, 100
FAULTS_SHOWN = 1000  # faults kept with their lines; what is beyond is counted


class RowReceiver(Protocol):
    """What takes rows: `rows` says how many it has, `flush` ends a batch."""

    @property
    def rows(self) -> int: ...

    def add(self, content: Content) -> None: ...

    def add_empty(self) -> None: ...

    def flush(self) -> None: ...


class OutOfTime(Exception):
    """Reading took longer than was allowed."""


@dataclass(frozen=True)
class Part:
    """What one source gave: its rows are `start` to `stop` of the receiver's, the last `set_apart` of them held out.

    `unused` counts rows by the key that was not looked at, `skipped` are files of a folder that hold no rows.
    """

    source: Source
    format: str
    start: int
    stop: int
    set_apart: int
    faults: int
    shown: list[ShownFault]
    unused: dict[str, int]
    skipped: tuple[Path, ...]


def read(data: Data, receiver: RowReceiver, seconds: float | None = None) -> list[Part]:
    """Hand every usable row of `data` to `receiver`.

    Raises BadInput when a file cannot be read at all, and OutOfTime after `seconds`, looked at once a batch.
    """
    until = None if seconds is None else time.monotonic() + seconds
    return [_read_source(source, data, receiver, until) for source in sources.sources_of(data)]


def faults_of(parts: list[Part]) -> Faults:
    """The faults of all parts, the first of them with their lines."""
    shown = [fault for part in parts for fault in part.shown][:FAULTS_SHOWN]
    return Faults(sum(part.faults for part in parts), shown)


def refuse_unusable(parts: list[Part], faults: Faults) -> None:
    """Raise BadInput for data without one usable row: the first fault, or that there are no rows or only empty ones."""
    names = ", ".join(part.source.dataset for part in parts)
    if faults.shown:
        first = faults.shown[0]
        raise BadInput(
            f"{names}: not one row can be used; the first fault:"
            f" {scanning.counted_in(first.file)} {first.line} {first.message}",
            hint=first.hint or f"expected rows like {EXPECTED}",
        )
    if all(part.stop == part.start for part in parts):
        raise BadInput(f"data file {names} is empty: it has no rows", hint="put at least one row into it")
    raise BadInput(f"{names}: every row is empty, so there is nothing to learn", hint="check its columns")


def unused_keys(parts: list[Part]) -> list[UnusedKey]:
    """Rows by the key that was not looked at, over all parts, the most frequent first."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.unused)
    return [UnusedKey(key, rows) for key, rows in total.most_common(_KEYS_SHOWN)]


def skipped_files(parts: list[Part]) -> list[str]:
    """Files in folders that were not read."""
    return [str(path) for part in parts for path in part.skipped][:_FILES_SHOWN]


def _read_source(source: Source, data: Data, receiver: RowReceiver, until: float | None) -> Part:
    found, reader = source.files(), source.reader(data)
    start = receiver.rows
    shown: list[ShownFault] = []
    faults = 0
    stream = _hub_rows(source) if found is None else scanning.scan(found.train, data.sample_by)
    set_apart = iter(()) if found is None else scanning.scan(found.held_out, data.sample_by)
    boundary = None
    for phase, rows in enumerate((stream, set_apart)):
        if phase == 1:
            boundary = receiver.rows
        while batch := list(islice(rows, BATCH)):
            for fault in _hand_on(batch, reader, receiver):
                faults += 1
                if len(shown) < FAULTS_SHOWN:
                    shown.append(fault)
            if until is not None and time.monotonic() > until:
                raise OutOfTime
    held = receiver.rows - (boundary if boundary is not None else receiver.rows)
    skipped = () if found is None else found.skipped
    return Part(source, reader.form, start, receiver.rows, held, faults, shown, dict(reader.unused), skipped)


def _hand_on(batch: list[Row], reader: Reader, receiver: RowReceiver) -> Iterator[ShownFault]:
    """Hand the usable rows of `batch` to `receiver`; yield what is wrong with the others."""
    for row in batch:
        try:
            if isinstance(row.value, Fault):
                raise RowProblem(row.value.message, row.value.hint)
            receiver.add(reader.read(row.value))
        except EmptyRow:
            receiver.add_empty()
        except RowProblem as problem:
            yield ShownFault(str(row.file), row.line, str(problem)[:500], problem.hint)
    receiver.flush()


def _hub_rows(source: Source) -> Iterator[Row]:
    try:
        from datasets import load_dataset

        stream = load_dataset(source.dataset, source.subset, split=source.split, streaming=True)
        for number, value in enumerate(stream, start=1):
            yield Row(Path(source.dataset), number, scanning.without_filled_nulls(value))
    except FFTError:
        raise
    except Exception as error:  # datasets raises many kinds; each is about the name or the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise BadInput(
            f"{source.dataset} cannot be read from the Hub: {reason}", hint="check the name, subset, split and network"
        ) from None
