"""Rows of one data set, split as the seed says, and tokenized."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import BadInput
from ...data import row_format
from ...data.row_format import Conversation, EmptyRow, Pair, RowProblem
from ...data.splitting import held_out_rows
from ...data.supervision import IGNORED, Example, Supervisor

READERS = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".txt": "text", ".md": "text",
}  # fmt: skip


def read_rows(source: str) -> Any:
    """The rows of a file or a Hub data set; JSON rows stay text, so that different shapes never clash."""
    from datasets import Dataset, load_dataset

    path = Path(source)
    if READERS.get(path.suffix) == "json" and path.is_file():
        rows = [{"json_row": json.dumps(row)} for row in json_rows(path)]
        if not rows:
            raise BadInput(f"{source} has no rows", hint="expected one JSON object a line")
        return Dataset.from_list(rows)
    if path.is_file():
        options = {"delimiter": "\t"} if path.suffix == ".tsv" else {}
        rows = load_dataset(READERS[path.suffix], data_files=source, split="train", **options)
        return rows.filter(lambda row: row["text"].strip()) if READERS[path.suffix] == "text" else rows
    return load_dataset(source, split="train")


def json_rows(path: Path) -> list[Any]:
    """One JSON value a line, or for a .json file one array."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json" and text.lstrip()[:1] == "[":
        return list(json.loads(text))
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise BadInput(f"{path}: line {number} is not valid JSON: {error.msg}", hint="mend it") from None
    return rows


def row_of(stored: dict[str, Any]) -> dict[str, Any]:
    """One row as it was in the source, keys that are null left out."""
    row = json.loads(stored["json_row"]) if set(stored) == {"json_row"} else stored
    return {key: value for key, value in row.items() if value is not None}


def examples_of(row: dict[str, Any], form: str, supervisor: Supervisor) -> list[Example]:
    """Training sequences of one row; none when it is empty. Raises RowProblem when it cannot be used."""
    try:
        content = row_format.read(row, form)
    except EmptyRow:
        return []
    if isinstance(content, Conversation):
        return [supervisor.conversation(content.messages, content.tools)]
    if isinstance(content, Pair):
        return [supervisor.pair(content.prompt, content.completion)]
    return supervisor.windows(content.text)


@dataclass(frozen=True)
class Split:
    """Rows as they were read, their format, and the numbers of those to train on and of those held out."""

    rows: Any
    form: str
    train: list[int]
    held_out: list[int]

    def has_conversations(self) -> bool:
        """Whether the first training row goes through the chat template."""
        try:
            return isinstance(row_format.read(row_of(self.rows[self.train[0]]), self.form), Conversation)
        except RowProblem:  # said when the rows are tokenized
            return False


def split(data: dict[str, Any]) -> Split:
    """The rows of the data set, split as the seed says."""
    rows = read_rows(data["dataset"])
    held_out = held_out_rows(len(rows), data["eval_fraction"], data["seed"]).tolist()
    train = sorted(set(range(len(rows))) - set(held_out))
    form = data["format"] if data["format"] != "auto" else recognised(row_of(rows[train[0]]), data["dataset"])
    return Split(rows, form, train, held_out)


def learn(found: Split, data: dict[str, Any], tokenizer: Any, limit: int) -> tuple[Any, Any]:
    """(training rows, held-out rows or None) with columns input_ids and labels; rows with nothing to learn left out."""
    supervisor = Supervisor(tokenizer, loss_on=data["loss_on"], max_length=limit)
    learned = tokenized(found.rows, found.train, found.form, supervisor)
    if len(learned) == 0:
        raise BadInput(f"no row keeps a token to learn after cutting to {limit} tokens", hint="raise max_seq_length")
    return learned, tokenized(found.rows, found.held_out, found.form, supervisor) if found.held_out else None


def recognised(row: dict[str, Any], source: str) -> str:
    """The format of the first training row."""
    try:
        return row_format.recognise(row)
    except RowProblem as problem:
        raise BadInput(f"{source}: a row {problem}", hint="rename its columns to one of these formats") from None


def tokenized(rows: Any, numbers: list[int], form: str, supervisor: Supervisor) -> Any:
    """The rows of these numbers as a `datasets.Dataset`."""
    from datasets import Dataset

    found = []
    for number in numbers:
        try:
            found += examples_of(row_of(rows[number]), form, supervisor)
        except RowProblem as problem:
            raise BadInput(f"row {number + 1} {problem}", hint="mend or remove that row") from None
    # The first token is predicted from nothing, so it never counts.
    kept = [example for example in found if any(label != IGNORED for label in example.labels[1:])]
    return Dataset.from_list([{"input_ids": example.input_ids, "labels": example.labels} for example in kept])
