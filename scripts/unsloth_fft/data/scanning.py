"""Rows of local files of every kind, one at a time, each with its place; a row that cannot be read is a Fault.

Memory is bounded by the largest row (for Parquet, by a batch of rows). Only Parquet needs a package, pyarrow.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..core import installing
from ..core.errors import BadInput
from . import row_format, sources
from .json_objects import MAX_ROW_BYTES, Fault
from .json_rows import encoding_fault, scan_json_rows
from .row_format import Content, EmptyRow, RowProblem
from .sources import Files, Source

_PARQUET_BATCH = 512  # rows decoded at once
# Columns that a table without nested columns holds as JSON text.
_NESTED = ("messages", "conversations", "tools")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was written. `line` is its line; for Parquet its row; both counted from 1."""

    file: Path
    line: int
    value: dict[str, Any] | Fault


def scan(files: Sequence[Path], sample_by: str = "line") -> Iterator[Row]:
    """Every row of `files`; nulls left out. `sample_by` says what a row of a text file is: line, paragraph, document.

    Raises BadInput when a file cannot be opened at all, MissingHere when a package to read it is not installed.
    """
    for path in files:
        try:
            for line, value in _reader(path, sample_by)(path):
                yield Row(path, line, value if isinstance(value, Fault) else _without_nulls(value))
        except OSError as error:
            raise BadInput(
                f"data file {path} cannot be read: {error.strerror or error}", hint="check its permissions"
            ) from None


def place(row: Row) -> str:
    """Where `row` stands, for an error message."""
    return f"{row.file}: {'row' if row.file.suffix.lower() == '.parquet' else 'line'} {row.line}"


def check(source: Source, row_format_asked: str, sample_by: str) -> tuple[int | None, str]:
    """Read every row of `source` once: how many there are, and in which format. (None, format) for a Hub name.

    Raises BadInput at the first row that training would refuse, naming its line.
    """
    files = sources.files_of(source.dataset)
    if files is None:
        return None, row_format_asked
    form, count = row_format_asked, 0
    for _, read_as in checked(source.dataset, files, row_format_asked, sample_by):
        form = read_as
        count += 1
    return count, form


def checked(dataset: str, files: Files, row_format_asked: str, sample_by: str) -> Iterator[tuple[Row, str]]:
    """Every row of `files`, which are those of `dataset`, with the format it was read as.

    Raises BadInput at the first row that training would refuse, and at the end where there was nothing to learn.
    """
    form, count, learnable = row_format_asked, 0, False
    for row in scan((*files.train, *files.held_out), sample_by):
        form = form if form != "auto" else format_of(row)
        count += 1
        learnable = content_of(row, form) is not None or learnable
        yield row, form
    if count == 0:
        raise BadInput(f"data file {dataset} is empty: it has no rows", hint="put at least one row into it")
    if not learnable:
        raise BadInput(f"{dataset}: every row is empty, so there is nothing to learn", hint="check its columns")


def format_of(row: Row) -> str:
    """The format `row` is in. Raises BadInput naming its line."""
    if isinstance(row.value, Fault):
        raise BadInput(f"{place(row)} {row.value.message}", hint=row.value.hint)
    try:
        return row_format.recognise(row.value)
    except RowProblem as problem:
        raise BadInput(f"{place(row)} {problem}", hint="rename its columns to one of these formats") from None


def content_of(row: Row, form: str) -> Content | None:
    """What `row` holds, None when it is empty. Raises BadInput naming its line when it cannot be used."""
    if isinstance(row.value, Fault):
        raise BadInput(f"{place(row)} {row.value.message}", hint=f"{row.value.hint}; {_all_faults(row)}")
    try:
        return row_format.read(row.value, form)
    except EmptyRow:
        return None
    except RowProblem as problem:
        raise BadInput(f"{place(row)} {problem}", hint=f"mend or remove that row; {_all_faults(row)}") from None


def _all_faults(row: Row) -> str:
    return f"all faults at once: unsloth_fft_tool.py data {row.file}"


_Reader = Callable[[Path], Iterator[tuple[int, dict[str, Any] | Fault]]]


def _reader(path: Path, sample_by: str) -> _Reader:
    suffix = path.suffix.lower()
    if suffix in sources.JSON:
        return scan_json_rows
    if suffix in sources.TABLES:
        return _scan_table
    if suffix == ".parquet":
        return _scan_parquet
    return {"line": _scan_lines, "paragraph": _scan_paragraphs, "document": _scan_document}[sample_by]


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    if None not in value.values():
        return value
    return {key: item for key, item in value.items() if item is not None}


def _scan_table(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Rows of a CSV or TSV file with a header. After a fault in the quoting there is nothing to go on by."""
    before = csv.field_size_limit(MAX_ROW_BYTES)
    number = 1
    try:
        with path.open("rb") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            table = csv.reader(_decoded_lines(file), strict=True, delimiter=delimiter)
            header = next(table, None)
            if header is None:
                return
            if fault := _header_fault(header):
                yield 1, fault
                return
            number = table.line_num + 1
            for cells in table:
                if cells:
                    yield number, _table_row(header, cells)
                number = table.line_num + 1
    except csv.Error as error:
        yield number, Fault(f"is not valid CSV: {error}", "quote fields that hold commas, quotes or line ends")
    except _BadLine as bad:
        yield bad.number, bad.fault
    finally:
        csv.field_size_limit(before)


class _BadLine(ValueError):
    def __init__(self, number: int, fault: Fault) -> None:
        super().__init__(fault.message)
        self.number = number
        self.fault = fault


def _decoded_lines(file: BinaryIO) -> Iterator[str]:
    """Lines with their ends. Raises _BadLine at the first that is no text or has no end in sight."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            raise _BadLine(number, Fault(f"is longer than {MAX_ROW_BYTES // 2**20} MiB", "break the text into lines"))
        text = _text(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        if isinstance(text, Fault):
            raise _BadLine(number, text)
        yield text


def _header_fault(header: list[str]) -> Fault | None:
    if any(not name.strip() for name in header):
        return Fault("has a column without a name", "name every column in the first line")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        return Fault(f"names the column '{twice[0]}' twice", "name each column once")
    return None


def _table_row(header: list[str], cells: list[str]) -> dict[str, Any] | Fault:
    if len(cells) != len(header):
        return Fault(f"has {len(cells)} fields, {len(header)} were expected", "quote fields that hold commas or quotes")
    row: dict[str, Any] = dict(zip(header, cells, strict=True))
    for key in _NESTED:
        if row.get(key, "").lstrip()[:1] in ("[", "{"):
            try:
                row[key] = json.loads(row[key])
            except (ValueError, RecursionError):
                return Fault(f"has a '{key}' that is not valid JSON")
    return row


def _scan_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise installing.missing("pyarrow", "it reads Parquet") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_PARQUET_BATCH):
                for value in batch.to_pylist():
                    number += 1
                    yield number, value
    except (ArrowException, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield number + 1, Fault(f"is not valid Parquet: {reason}", "write the file again")


def _scan_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    try:
        with path.open("rb") as file:
            for number, text in enumerate(_decoded_lines(file), start=1):
                if text.strip():
                    yield number, {"text": text.rstrip("\r\n")}
    except _BadLine as bad:
        yield bad.number, bad.fault


def _scan_paragraphs(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Runs of lines that are not blank, joined."""
    gathered: list[str] = []
    start = previous = 0
    for number, row in _scan_lines(path):
        if gathered and (isinstance(row, Fault) or number != previous + 1):
            yield start, {"text": "\n".join(gathered)}
            gathered = []
        if isinstance(row, Fault):
            yield number, row
            continue
        if not gathered:
            start = number
        gathered.append(row["text"])
        previous = number
    if gathered:
        yield start, {"text": "\n".join(gathered)}


def _scan_document(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    size = path.stat().st_size
    if size > MAX_ROW_BYTES:
        yield 1, Fault(f"starts a document longer than {MAX_ROW_BYTES // 2**20} MiB", "use paragraphs or lines as rows")
        return
    text = _text(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    if isinstance(text, Fault):
        yield 1, text
    elif text.strip():
        yield 1, {"text": text.replace("\r\n", "\n")}


def _text(line: bytes) -> str | Fault:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return encoding_fault(line, error)
    if "\0" in text:
        return Fault("holds a NUL byte, so it is not text", "save the file as UTF-8 text")
    return text
