"""Rows from a file, a folder or the Hub, as examples ready to train on, split by seed into train and held-out.

Reading, caching and splitting are the `datasets` package's; the formats are planning/row_format.py's; which tokens
count is supervision.py's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..planning import row_format
from ..planning.parameters import Data
from ..planning.row_format import RowProblem
from .supervision import Supervisor

_READERS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text", ".md": "text"}
_JSON = {".jsonl", ".ndjson", ".json"}


@dataclass(frozen=True)
class Prepared:
    """Tokenized data. `train` and `held_out` are `datasets.Dataset`s with columns input_ids and labels."""

    train: Any
    held_out: Any | None
    format: str
    rows: int
    truncated: int
    dropped: int

    @property
    def supervised_tokens(self) -> int:
        """Tokens of the training part that count in the loss, one pass."""
        return sum(sum(label != -100 for label in labels) for labels in self.train["labels"])


def prepare(data: Data, tokenizer: Any, max_length: int) -> Prepared:
    """Read, tokenize and split. Raises BadInput naming the row, or when no row can be learned from."""
    assert data.dataset is not None
    rows = read_rows(data.dataset)
    form = recognised_format(rows, data)
    supervisor = Supervisor(
        tokenizer,
        loss_on=data.loss_on,
        max_length=max_length,
        conversations=form not in ("text", "prompt-completion"),
    )
    held_out_rows, train_rows = _split(rows, data)
    train = _tokenized(train_rows, form, supervisor, data.dataset)
    held_out = _tokenized(held_out_rows, form, supervisor, data.dataset) if held_out_rows is not None else None
    usable = _usable(train)
    if len(usable) == 0:
        raise BadInput(
            f"{data.dataset}: no row keeps a token to learn from after cutting to {max_length} tokens",
            hint="raise model.max_seq_length, or check that the assistant's turns are not empty",
        )
    return Prepared(
        train=usable.select_columns(["input_ids", "labels"]),
        held_out=None if held_out is None else _usable(held_out).select_columns(["input_ids", "labels"]),
        format=form,
        rows=len(rows),
        truncated=sum(train["truncated"]),
        dropped=len(train) - len(usable),
    )


def read_rows(source: str) -> Any:
    """The raw rows of `source` as a `datasets.Dataset`: a file, a folder that datasets knows, or a Hub name.

    JSON rows are kept as text in one column, so that rows of different shapes never clash in Arrow.
    """
    from datasets import Dataset, load_dataset

    path = Path(source)
    if path.suffix in _JSON and path.is_file():
        return Dataset.from_generator(_json_texts, gen_kwargs={"source": source}, cache_dir=_scratch(), split="train")
    try:
        if path.is_file():
            reader = _READERS.get(path.suffix)
            if reader is None:
                known = ", ".join(sorted({*_READERS, *_JSON}))
                raise BadInput(f"{source}: unknown kind of data file", hint=f"use one of: {known}")
            options = {"delimiter": "\t"} if path.suffix == ".tsv" else {}
            return load_dataset(reader, data_files=str(path), split="train", cache_dir=_scratch(), **options)
        return load_dataset(source, split="train")
    except BadInput:
        raise
    except Exception as error:  # datasets raises many kinds; each is about the user's data
        raise BadInput(
            f"{source} cannot be read as data: {_first_line(error)}", hint="check the path or name"
        ) from None


def recognised_format(rows: Any, data: Data) -> str:
    """The format asked for, or the one the first row is in. Raises BadInput when it is in none."""
    if data.format != "auto":
        return data.format
    try:
        return row_format.recognise(row_of(rows[0]))
    except RowProblem as problem:
        raise row_format.describe_problem(problem, 1, str(data.dataset)) from None


def row_of(stored: dict[str, Any]) -> dict[str, Any]:
    """One row as it was in the source, keys that are null left out."""
    row = json.loads(stored["json_row"]) if set(stored) == {"json_row"} else stored
    return {key: value for key, value in row.items() if value is not None}


def _json_texts(source: str) -> Iterator[dict[str, str]]:
    from ..planning.json_rows import read_json_rows

    for row in read_json_rows(Path(source)):
        yield {"json_row": json.dumps(row, ensure_ascii=False)}


def _split(rows: Any, data: Data) -> tuple[Any | None, Any]:
    held_out = round(len(rows) * data.eval_fraction)
    if data.eval_fraction > 0 and len(rows) > 1:
        held_out = max(1, held_out)
    if held_out == 0:
        return None, rows
    parts = rows.train_test_split(test_size=held_out, seed=data.seed)
    return parts["test"], parts["train"]


def _tokenized(rows: Any, form: str, supervisor: Supervisor, source: str) -> Any:
    def tokenize(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "truncated": []}
        for position, index in enumerate(indices):
            stored = {key: values[position] for key, values in batch.items()}
            try:
                examples = _examples(row_of(stored), form, supervisor)
            except RowProblem as problem:
                raise BadInput(
                    f"{source}: a {form} row {problem} (row {index + 1} after the split)",
                    hint="mend or remove that row: python unsloth_fft_tool.py data FILE names its line",
                ) from None
            for example in examples:
                columns["input_ids"].append(example.input_ids)
                columns["labels"].append(example.labels)
                columns["truncated"].append(example.truncated)
        return columns

    return rows.map(
        tokenize,
        batched=True,
        with_indices=True,
        remove_columns=rows.column_names,
        desc="tokenizing",
        new_fingerprint=None,
        load_from_cache_file=False,
    )


def _examples(row: dict[str, Any], form: str, supervisor: Supervisor) -> list[Any]:
    if form == "text":
        return supervisor.windows(row_format.text_of(row))
    if form == "prompt-completion":
        return [supervisor.pair(*row_format.prompt_and_completion_of(row))]
    return [supervisor.conversation(row_format.messages_of(row, form), row.get("tools"))]


def _usable(examples: Any) -> Any:
    keep = [index for index, labels in enumerate(examples["labels"]) if any(label != -100 for label in labels[1:])]
    return examples.select(keep)


def _scratch() -> str:
    return tempfile.mkdtemp(prefix="unsloth-fft-data-")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
