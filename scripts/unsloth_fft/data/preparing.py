"""Sources as examples ready to train on: read, split by seed, tokenized, mixed by weight.

Storage and caching are the `datasets` package's; which rows there are is scanning.py's, which tokens count is
supervision.py's.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..settings.parameters import Data
from . import scanning, sources, splitting
from .json_objects import Fault
from .row_format import Conversation, Pair, RowProblem
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

    `truncated` counts training examples cut at the length, `dropped` rows with nothing to learn (empty, or cut before
    the answer), `supervised_tokens` the tokens that count in the loss in one pass over `train`.
    """

    train: Any
    held_out: Any | None
    format: str
    rows: int
    truncated: int
    dropped: int
    supervised_tokens: int
    parts: tuple[SourcePart, ...]


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
        truncated=sum(map(bool, train["truncated"])),
        dropped=sum(part.dropped for part in found),
        supervised_tokens=sum(train["supervised"]),
        parts=tuple(part.summary for part in found),
    )


@dataclass(frozen=True)
class _Examples:
    train: Any
    held_out: Any | None
    dropped: int
    summary: SourcePart


def _source_examples(source: Source, data: Data, tokenizer: Any, max_length: int, folder: Path) -> _Examples:
    files = sources.files_of(source.dataset)
    train_rows, held_out_rows = (hub_rows(source), None) if files is None else _file_rows(files, data.sample_by, folder)
    if len(train_rows) == 0:
        raise BadInput(f"data file {source.dataset} is empty: it has no rows", hint="put at least one row into it")
    rows = len(train_rows) + len(held_out_rows or [])
    if held_out_rows is None:
        train_rows, held_out_rows = _split(train_rows, data)
    form = data.format if data.format != "auto" else scanning.format_of(_row(train_rows[0]))
    supervisor = Supervisor(tokenizer, loss_on=data.loss_on, max_length=max_length)
    every = _tokenized(train_rows, form, supervisor, folder)
    train = _usable(every)
    used = splitting.used_rows(len(train), source.weight, data.seed)
    held_out = None if held_out_rows is None else _usable(_tokenized(held_out_rows, form, supervisor, folder))
    return _Examples(
        train=train.select(used),
        held_out=held_out,
        dropped=len(every) - len(train),
        summary=SourcePart(source.dataset, form, source.weight, rows, len(used)),
    )


def _file_rows(files: Files, sample_by: str, folder: Path) -> tuple[Any, Any | None]:
    train = _stored(files.train, sample_by, folder)
    return train, _stored(files.held_out, sample_by, folder) if files.held_out else None


def _stored(files: Sequence[Path], sample_by: str, folder: Path) -> Any:
    """Rows as a `datasets.Dataset` of JSON texts with their places, so that rows of different shapes never clash.

    Raises BadInput at the first line that cannot be read.
    """
    from datasets import Dataset, Features, Value

    features = Features({"file": Value("string"), "line": Value("int64"), "json_row": Value("string")})
    names = [str(path) for path in files]
    try:
        return Dataset.from_generator(
            _json_texts,
            gen_kwargs={"names": names, "sample_by": sample_by},
            features=features,
            cache_dir=tempfile.mkdtemp(dir=folder),  # datasets goes by names alone and would miss a changed file
            split="train",
        )
    except BadInput:
        raise
    except Exception as error:  # datasets wraps what its generator raises
        if isinstance(error.__cause__, BadInput):
            raise error.__cause__ from None
        raise


def _json_texts(names: list[str], sample_by: str) -> Iterator[dict[str, Any]]:
    for row in scanning.scan([Path(name) for name in names], sample_by):
        if isinstance(row.value, Fault):
            raise BadInput(f"{scanning.place(row)} {row.value.message}", hint=row.value.hint)
        yield {"file": str(row.file), "line": row.line, "json_row": _as_json(row)}


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


def _row(stored: dict[str, Any]) -> Row:
    if set(stored) == {"file", "line", "json_row"}:
        value = json.loads(stored["json_row"])
        return Row(Path(stored["file"]), stored["line"], value)
    return Row(Path("the Hub data set"), 0, {key: value for key, value in stored.items() if value is not None})


def _split(rows: Any, data: Data) -> tuple[Any, Any | None]:
    held_out = splitting.held_out_rows(len(rows), data.eval_fraction, data.seed)
    if len(held_out) == 0:
        return rows, None
    import numpy

    return rows.select(numpy.setdiff1d(numpy.arange(len(rows)), held_out)), rows.select(held_out)


def _tokenized(rows: Any, form: str, supervisor: Supervisor, folder: Path) -> Any:
    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "truncated": [], "supervised": []}
        for values in zip(*batch.values(), strict=True):
            for example in _examples(_row(dict(zip(batch, values, strict=True))), form, supervisor):
                columns["input_ids"].append(example.input_ids)
                columns["labels"].append(example.labels)
                columns["truncated"].append(example.truncated)
                columns["supervised"].append(sum(label != IGNORED for label in example.labels[1:]))
        return columns

    return rows.map(
        tokenize,
        batched=True,
        remove_columns=rows.column_names,
        features=_features(),
        desc="tokenizing",
        load_from_cache_file=False,
        cache_file_name=str(Path(tempfile.mkdtemp(dir=folder)) / "examples.arrow"),
    )


def _features() -> Any:
    from datasets import Features, List, Value

    return Features(
        {
            "input_ids": List(Value("int32")),
            "labels": List(Value("int32")),
            "truncated": Value("bool"),
            "supervised": Value("int64"),
        }
    )


def _examples(row: Row, form: str, supervisor: Supervisor) -> list[Example]:
    content = scanning.content_of(row, form)
    if content is None:
        return [Example([], [], truncated=False)]
    try:
        if isinstance(content, Conversation):
            return [supervisor.conversation(content.messages, content.tools)]
        if isinstance(content, Pair):
            return [supervisor.pair(content.prompt, content.completion)]
        return supervisor.windows(content.text)
    except RowProblem as problem:
        raise BadInput(f"{scanning.place(row)} {problem}", hint="mend or remove that row") from None


def _usable(examples: Any) -> Any:
    """The examples with a token to learn; the first token is predicted from nothing, so it never counts."""
    import numpy

    return examples.select(numpy.flatnonzero(numpy.asarray(examples["supervised"], dtype="int64")))


def _first_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text[:300]
