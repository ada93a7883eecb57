"""Rows of local files of every kind, one at a time, each with its place; a row that cannot be read is a Fault.

Memory is bounded by the largest row (for Parquet and Arrow, by a batch of rows). Only these two need a package,
pyarrow.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..core import files, installing
from ..core.errors import BadInput
from ..core.shell_words import word
from ..settings.parameters import Data
from . import folders
from .json_objects import MAX_ROW_BYTES, Fault, Refused, parse_object
from .json_rows import encoding_fault, scan_json_rows
from .opening import DAMAGED, PACKED, kind, misnamed, opened
from .row_format import Content, Reader
from .row_problems import EmptyRow, RowProblem
from .sources import Files, Source

_ARROW_BATCH = 512  # rows decoded at once


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was written. `line` is its line; for Parquet and Arrow its row; both counted from 1."""

    file: Path
    line: int
    value: dict[str, Any] | Fault


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows a source has, how many of them are empty, and in which format they are.

    `unused` counts rows by the key that was not looked at, `skipped` are files of a folder that were not read.
    """

    rows: int | None
    empty: int
    form: str
    unused: dict[str, int] = field(default_factory=dict)
    skipped: tuple[Path, ...] = ()


def scan(files: Sequence[Path], sample_by: str = "line") -> Iterator[Row]:
    """Every row of `files`; nulls left out. `sample_by` says what a row of a text file is: line, paragraph, document.

    Raises BadInput when a file cannot be opened at all, MissingHere when a package to read it is not installed.
    """
    for path in files:
        last = 0
        try:
            if (wrong := misnamed(path)) is not None:
                yield Row(path, 1, Fault(*wrong))
                continue
            for line, value in _reader(path, sample_by)(path):
                last = line
                yield Row(path, line, value if isinstance(value, Fault) else _without_nulls(value))
        except DAMAGED as error:
            reason = str(error).strip() or type(error).__name__
            yield Row(path, last + 1, Fault(f"cannot be unpacked: {reason[:200]}", "pack the file again"))
        except OSError as error:
            hint = "check its permissions" if error.errno else "write the file again: it is cut or damaged"
            raise BadInput(f"data file {path} cannot be read: {error.strerror or error}", hint=hint) from None


def place(row: Row) -> str:
    """Where `row` stands, for an error message."""
    return f"{row.file}: {counted_in(row.file)} {row.line}"


def counted_in(file: Path | str) -> str:
    """What the number of a row in `file` counts: lines, or rows of what has no lines."""
    return "row" if kind(Path(file)) in folders.ARROW else "line"


def check(source: Source, data: Data) -> Counts:
    """Read every row of `source` once. The rows of a Hub name are not counted.

    Raises BadInput at the first row that training would refuse, naming its line.
    """
    files = source.files()
    if files is None:
        return Counts(None, 0, data.format)
    reader = source.reader(data)
    count = empty = 0
    for _, content in checked(source.dataset, files, reader, data.sample_by):
        count += 1
        empty += content is None
    return Counts(count, empty, reader.form, dict(reader.unused), files.skipped)


def checked(dataset: str, files: Files, reader: Reader, sample_by: str) -> Iterator[tuple[Row, Content | None]]:
    """Every row of `files`, which are those of `dataset`, with what it holds; None for an empty one.

    Raises BadInput at the first row that training would refuse, and at the end where there was nothing to learn.
    """
    count, learnable = 0, False
    for row in scan((*files.train, *files.held_out), sample_by):
        content = content_of(row, reader)
        count += 1
        learnable = content is not None or learnable
        yield row, content
    if count == 0:
        raise BadInput(f"data file {dataset} is empty: it has no rows", hint="put at least one row into it")
    if not learnable:
        raise BadInput(f"{dataset}: every row is empty, so there is nothing to learn", hint="check its columns")


def content_of(row: Row, reader: Reader) -> Content | None:
    """What `row` holds, None when it is empty. Raises BadInput naming its line when it cannot be used."""
    if isinstance(row.value, Fault):
        raise BadInput(f"{place(row)} {row.value.message}", hint=f"{row.value.hint}; {_all_faults(row)}")
    try:
        return reader.read(row.value)
    except EmptyRow:
        return None
    except RowProblem as problem:
        hint = problem.hint or "mend or remove that row"
        raise BadInput(f"{place(row)} {problem}", hint=f"{hint}; {_all_faults(row)}") from None


def _all_faults(row: Row) -> str:
    return f"all faults at once: unsloth_fft_tool.py data {word(row.file)}"


_Reader = Callable[[Path], Iterator[tuple[int, dict[str, Any] | Fault]]]


def _reader(path: Path, sample_by: str) -> _Reader:
    suffix = kind(path)
    if suffix in folders.JSON:
        return scan_json_rows
    if suffix in folders.TABLES:
        return _scan_table
    if suffix in folders.ARROW:
        return _scan_arrow
    return {"line": _scan_lines, "paragraph": _scan_paragraphs, "document": _scan_document}[sample_by]


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    if None not in value.values():
        return value
    return {key: item for key, item in value.items() if item is not None}


def without_filled_nulls(value: Any) -> Any:
    """`value` without the nulls that Arrow fills in where rows of one column have different keys.

    The same rule as trl.trainer.utils.remove_none_values (trl 1.15.0), here without torch: keys go, list items stay.
    """
    if isinstance(value, dict):
        return {key: without_filled_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_filled_nulls(item) for item in value]
    return value


def _scan_table(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Rows of a CSV or TSV file with a header. After a fault in the quoting there is nothing to go on by."""
    before = csv.field_size_limit(MAX_ROW_BYTES)
    number = 1
    try:
        with opened(path) as file:
            delimiter = "\t" if kind(path) == ".tsv" else ","
            table = csv.reader(_decoded_lines(file), strict=True, delimiter=delimiter)
            header = next(table, None)
            if header is None:
                return
            if fault := _header_fault(header, delimiter):
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


_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


def _header_fault(header: list[str], delimiter: str) -> Fault | None:
    if any(not name.strip() for name in header):
        return Fault(
            "has a column without a name", "name every column in the first line; pandas: to_csv(FILE, index=False)"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        return Fault(f"names the column '{twice[0]}' twice", "name each column once")
    other = next((mark for mark in _SEPARATORS if mark != delimiter and mark in "".join(header[:1])), None)
    if other is not None and len(header) == 1:
        return Fault(
            f"sets its columns apart by {_SEPARATORS[other]} ({header[0][:60]!r}), not by {_SEPARATORS[delimiter]}",
            _resaved(other, delimiter),
        )
    return None


def _resaved(other: str, delimiter: str) -> str:
    """How to write a table anew with `delimiter`."""
    if other == "\t":
        return "name the file .tsv"
    kept = "" if delimiter == "," else f", sep={delimiter!r}"
    return (
        f"save it with {_SEPARATORS[delimiter]}, as pandas does:"
        f" read_csv(FILE, sep={other!r}).to_csv(FILE, index=False{kept})"
    )


def _table_row(header: list[str], cells: list[str]) -> dict[str, Any] | Fault:
    if len(cells) != len(header):
        return Fault(f"has {len(cells)} fields, {len(header)} were expected", "quote fields that hold commas or quotes")
    return dict(zip(header, cells, strict=True))


def _scan_arrow(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    try:
        from pyarrow import ArrowException
    except ModuleNotFoundError:
        raise installing.missing("pyarrow", f"it reads {path.name}") from None
    name = "Parquet" if kind(path) == ".parquet" else "Arrow"
    number = 0
    try:
        with opened(path) as file:
            for batch in _arrow_batches(path, file):
                for value in batch.to_pylist():
                    number += 1
                    yield number, without_filled_nulls(value)
    except (ArrowException, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield number + 1, Fault(f"is not valid {name}: {reason}", "write the file again")


def _arrow_batches(path: Path, file: BinaryIO) -> Iterator[Any]:
    """Batches of rows of Parquet, or of Arrow in either of its two forms: stream (`datasets`) and file (Feather)."""
    if kind(path) == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(_seekable(path, file)) as table:
            yield from table.iter_batches(batch_size=_ARROW_BATCH)
        return
    from pyarrow import ipc

    source = _seekable(path, file)
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if is_file:
        found = ipc.open_file(source)
        batches = (found.get_batch(number) for number in range(found.num_record_batches))
    else:
        batches = iter(ipc.open_stream(source))
    for batch in batches:
        for start in range(0, batch.num_rows, _ARROW_BATCH):
            yield batch.slice(start, _ARROW_BATCH)


def _seekable(path: Path, file: BinaryIO) -> BinaryIO:
    """`file`, or what it holds in memory where the file is packed."""
    return io.BytesIO(file.read()) if path.suffix.lower() in PACKED else file


def _scan_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    try:
        with opened(path) as file:
            first = True
            for number, text in enumerate(_decoded_lines(file), start=1):
                if first and _is_json_row(text):
                    yield number, Fault("is a JSON row in a file that is named as text", "name the file .jsonl")
                    return
                if text.strip():
                    first = False
                    yield number, {"text": text.rstrip("\r\n")}
    except _BadLine as bad:
        yield bad.number, bad.fault


def _is_json_row(text: str) -> bool:
    """Whether a line of a text file is an object: it would be learned with its braces and keys."""
    try:
        return text.lstrip().startswith('{"') and bool(parse_object(text.strip()))
    except Refused:
        return False


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
    with opened(path) as file:
        whole = files.read_at_most(file, MAX_ROW_BYTES + 1)
    if len(whole) > MAX_ROW_BYTES:
        yield 1, Fault(f"starts a document longer than {MAX_ROW_BYTES // 2**20} MiB", "use paragraphs or lines as rows")
        return
    text = _text(whole.removeprefix(b"\xef\xbb\xbf"))
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
