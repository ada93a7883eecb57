"""Sources as examples ready to train on: read, split by seed, tokenized, mixed by weight.

Storage is arrow_rows.py's; which rows there are is scanning.py's, which tokens count is supervision.py's.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..settings.parameters import Data
from . import arrow_rows, cut_ends, scanning, sources, splitting
from .json_objects import Fault
from .row_format import Conversation, Pair, Reader
from .row_problems import RowProblem
from .scanning import Row
from .sources import Files, Source
from .supervision import IGNORED, Example, Supervisor

_SCRATCH = ".data-"


@dataclass(frozen=True)
class SourcePart:
    """What became of one source: rows read, rows used in a pass, and the format it was recognised as."""

    dataset: str
    format: str
    weight: float
    rows: int
    used: int


@dataclass(frozen=True)
class Prepared:
    """Tokenized data. `train` and `held_out` are `datasets.Dataset`s with columns input_ids and labels.

    `rows` were read; of them `empty` hold nothing and were left out before the split, and `dropped` in all were left
    out, those cut before their answer as well. `truncated` counts training examples cut at the length, `ends` says
    where the last answer of each row ends, `supervised_tokens` counts the tokens of the loss in a pass over `train`.
    """

    train: Any
    held_out: Any | None
    format: str
    rows: int
    truncated: int
    dropped: int
    supervised_tokens: int
    parts: tuple[SourcePart, ...]
    empty: int = 0
    ends: cut_ends.Ends = cut_ends.Ends((), 0)


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A folder inside `root` for the Arrow files behind prepared data, gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Remove the scratch folders that killed runs left in `root`. Only for the process that holds the session."""
    for folder in root.glob(f"{_SCRATCH}*"):
        shutil.rmtree(folder, ignore_errors=True)


def prepare(data: Data, tokenizer: Any, max_length: int, folder: Path) -> Prepared:
    """Read, split, tokenize and mix every source of `data`, with Arrow files in `folder`.

    Raises BadInput naming the line of a row that cannot be used, and when no row can be learned from.
    """
    from datasets import concatenate_datasets

    found = [_source_examples(source, data, tokenizer, max_length, folder) for source in sources.sources_of(data)]
    train = concatenate_datasets([part.train for part in found])
    if len(train) == 0:
        names = ", ".join(part.summary.dataset for part in found)
        raise BadInput(
            f"{names}: no row keeps a token to learn from after cutting to {max_length} tokens",
            hint="raise model.max_seq_length, or check that the assistant's turns are not empty",
        )
    held_out = [part.held_out for part in found if part.held_out is not None and len(part.held_out)]
    return Prepared(
        train=train.select_columns(["input_ids", "labels"]),
        held_out=concatenate_datasets(held_out).select_columns(["input_ids", "labels"]) if held_out else None,
        format=" + ".join(dict.fromkeys(part.summary.format for part in found)),
        rows=sum(part.summary.rows for part in found),
        truncated=int(arrow_rows.column(train, "truncated").sum()),
        dropped=sum(part.empty + part.cut_away for part in found),
        supervised_tokens=int(arrow_rows.column(train, "supervised").sum()),
        parts=tuple(part.summary for part in found),
        empty=sum(part.empty for part in found),
        ends=cut_ends.Ends(array("q", b"".join(part.ends for part in found)), max_length),
    )


@dataclass(frozen=True)
class _Examples:
    train: Any
    held_out: Any | None
    empty: int
    cut_away: int
    ends: bytes
    summary: SourcePart


@dataclass(frozen=True)
class _Rows:
    """Rows that hold something, and how many others there were."""

    rows: Any
    empty: int


def _source_examples(source: Source, data: Data, tokenizer: Any, max_length: int, folder: Path) -> _Examples:
    files, reader = source.files(), source.reader(data)
    read, apart = _filled(source, reader) if files is None else _file_rows(files, data.sample_by, reader, folder)
    count = len(read.rows) + read.empty + (len(apart.rows) + apart.empty if apart else 0)
    if count == 0:
        raise BadInput(f"data file {source.dataset} is empty: it has no rows", hint="put at least one row into it")
    train_rows, held_out_rows = split(read.rows, data) if apart is None else (read.rows, apart.rows)
    supervisor = Supervisor(tokenizer, loss_on=data.loss_on, max_length=max_length)
    every = _tokenized(train_rows, reader, supervisor, folder)
    train = _usable(every)
    used = splitting.used_rows(len(train), source.weight, data.seed)
    all_held_out = None if held_out_rows is None else _tokenized(held_out_rows, reader, supervisor, folder)
    held_out = None if all_held_out is None else _usable(all_held_out)
    cut_away = len(every) - len(train) + len(all_held_out or ()) - len(held_out or ())
    return _Examples(
        train=train.select(used),
        held_out=held_out,
        empty=read.empty + (apart.empty if apart else 0),
        cut_away=cut_away,
        ends=b"".join(
            arrow_rows.column(examples, "end").astype("int64").tobytes()
            for examples in (every, all_held_out)
            if examples is not None
        ),
        summary=SourcePart(source.dataset, reader.form, source.weight, count, len(used)),
    )


def _file_rows(files: Files, sample_by: str, reader: Reader, folder: Path) -> tuple[_Rows, _Rows | None]:
    train = _stored(files.train, sample_by, reader, folder)
    return train, _stored(files.held_out, sample_by, reader, folder) if files.held_out else None


def _stored(files: Sequence[Path], sample_by: str, reader: Reader, folder: Path) -> _Rows:
    """Rows as a `datasets.Dataset` of JSON texts with their places, so that rows of different shapes never clash.

    Raises BadInput at the first row that cannot be used.
    """
    from datasets import Features, Value

    features = Features({"file": Value("string"), "line": Value("int64"), "json_row": Value("string")})
    empty = 0

    def texts() -> Iterator[tuple[int, dict[str, Any]]]:
        nonlocal empty
        for row in scanning.scan(files, sample_by):
            if isinstance(row.value, Fault):
                raise BadInput(f"{scanning.place(row)} {row.value.message}", hint=row.value.hint)
            if scanning.content_of(row, reader) is None:
                empty += 1
            else:
                text = _as_json(row)
                yield len(text), {"file": str(row.file), "line": row.line, "json_row": text}

    rows = arrow_rows.written(new_file(folder), features, texts())
    return _Rows(rows, empty)


def new_file(folder: Path) -> Path:
    """A path in `folder` where nothing is yet."""
    return Path(tempfile.mkdtemp(dir=folder)) / "rows.arrow"


def _as_json(row: Row) -> str:
    try:
        return json.dumps(row.value, ensure_ascii=False)
    except (TypeError, ValueError):  # Parquet may hold bytes and dates
        return json.dumps(row.value, ensure_ascii=False, default=str)


def hub_rows(source: Source) -> Any:
    """Rows of a data set on the Hub, cached where `datasets` caches them. Raises BadInput when it cannot be had."""
    from datasets import load_dataset

    try:
        rows = load_dataset(source.dataset, source.subset, split=source.split)
    except Exception as error:  # datasets raises many kinds; each is about the name or the network
        raise BadInput(
            f"{source.dataset} cannot be read from the Hub: {_first_line(error)}",
            hint="check the name, data.sources subset and split, and the network; a local file needs no network",
        ) from None
    return rows


def _filled(source: Source, reader: Reader) -> tuple[_Rows, None]:
    """Rows on the Hub that hold something. Raises BadInput at one that cannot be used."""
    rows = hub_rows(source)
    filled = [number for number, row in enumerate(rows) if scanning.content_of(_row(row), reader) is not None]
    return _Rows(rows.select(filled), len(rows) - len(filled)), None


def _row(stored: dict[str, Any]) -> Row:
    if set(stored) == {"file", "line", "json_row"}:
        value = json.loads(stored["json_row"])
        return Row(Path(stored["file"]), stored["line"], value)
    return Row(Path("the Hub data set"), 0, scanning.without_filled_nulls(stored))


def split(rows: Any, data: Data) -> tuple[Any, Any | None]:
    """(training rows, held-out rows or None) of a `datasets.Dataset`, by the seed."""
    held_out = splitting.held_out_rows(len(rows), data.eval_fraction, data.seed)
    if len(held_out) == 0:
        return rows, None
    import numpy

    return rows.select(numpy.setdiff1d(numpy.arange(len(rows)), held_out)), rows.select(held_out)


def _tokenized(rows: Any, reader: Reader, supervisor: Supervisor, folder: Path) -> Any:
    import numpy

    def examples() -> Iterator[tuple[int, dict[str, Any]]]:
        for stored in arrow_rows.counted(rows, "tokenizing"):
            for example in _examples(_row(stored), reader, supervisor):
                yield (
                    len(example.input_ids),
                    {
                        "input_ids": numpy.asarray(example.input_ids, dtype="int32"),
                        "labels": numpy.asarray(example.labels, dtype="int32"),
                        "truncated": example.truncated,
                        "end": example.end,
                        "supervised": sum(label != IGNORED for label in example.labels[1:]),
                    },
                )

    return arrow_rows.written(new_file(folder), _features(), examples())


def _features() -> Any:
    from datasets import Features, List, Value

    return Features(
        {
            "input_ids": List(Value("int32")),
            "labels": List(Value("int32")),
            "truncated": Value("bool"),
            "end": Value("int64"),
            "supervised": Value("int64"),
        }
    )


def _examples(row: Row, reader: Reader, supervisor: Supervisor) -> list[Example]:
    content = scanning.content_of(row, reader)
    assert content is not None, "rows without content are left out before"
    try:
        if isinstance(content, Conversation):
            return [supervisor.conversation(content.messages, content.tools, content.unlearned)]
        if isinstance(content, Pair):
            return [supervisor.pair(content.prompt, content.completion)]
        return supervisor.windows(content.text)
    except RowProblem as problem:
        hint = problem.hint or "mend or remove that row"
        raise BadInput(f"{scanning.place(row)} {problem}", hint=hint) from None


def _usable(examples: Any) -> Any:
    """The examples with a token to learn; the first token is predicted from nothing, so it never counts."""
    import numpy

    return examples.select(numpy.flatnonzero(arrow_rows.column(examples, "supervised")))


def _first_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text[:300]
