"""Rows in an Arrow file that is written piece by piece and read from disk: memory holds a piece, however many rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core.terminal import say

ROWS_AT_ONCE = 1000
WEIGHT_AT_ONCE = 2**22  # characters or tokens held before they are written
_SAID_EVERY_S = 60.0


def written(path: Path, features: Any, rows: Iterable[tuple[int, dict[str, Any]]]) -> Any:
    """`rows` as a `datasets.Dataset` with `features` that reads them from the new file `path`, in their order.

    Each row comes with its weight: how many characters or tokens it holds.
    """
    import pyarrow
    from datasets import Dataset

    schema = features.arrow_schema
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as stream:
        for piece in _pieces(rows):
            columns = {name: [row[name] for row in piece] for name in schema.names}
            stream.write_batch(pyarrow.RecordBatch.from_pydict(columns, schema=schema))
    return Dataset.from_file(str(path))


def _pieces(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    piece: list[dict[str, Any]] = []
    held = 0
    for weight, row in rows:
        piece.append(row)
        held += weight
        if len(piece) == ROWS_AT_ONCE or held >= WEIGHT_AT_ONCE:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece


def column(dataset: Any, name: str) -> Any:
    """One column of numbers as a NumPy array. Of a `datasets.Dataset` no other column is read."""
    return _gathered(dataset, name, lambda values: values)


def lengths(dataset: Any, name: str) -> Any:
    """How long each list of a column is, as a NumPy array."""
    import pyarrow.compute

    return _gathered(dataset, name, pyarrow.compute.list_value_length)


def _gathered(dataset: Any, name: str, what: Callable[[Any], Any]) -> Any:
    import numpy

    pieces = dataset.select_columns([name]).with_format("arrow").iter(10_000)
    arrays = [what(piece[name]).to_numpy() for piece in pieces]
    return numpy.concatenate(arrays) if arrays else numpy.empty(0, dtype="int64")


def counted(rows: Any, doing: str) -> Iterator[dict[str, Any]]:
    """The rows of a `datasets.Dataset`; every minute a line says how far that is."""
    last = time.monotonic()
    for number, row in enumerate(rows, start=1):
        yield row
        if time.monotonic() - last >= _SAID_EVERY_S:
            last = time.monotonic()
            say(f"{doing}: {number:,} of {len(rows):,} rows")
