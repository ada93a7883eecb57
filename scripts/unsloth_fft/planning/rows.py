"""Facts about local data that planning needs: how many rows, and about how many tokens each, without a tokenizer.

Reads .jsonl, .json, .csv and .txt with the standard library. Nothing is kept but lengths.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from .json_rows import read_json_rows

# "1 token ~= 4 characters in English" (OpenAI, Tokenizer page, read 2026-11-23); bytes are counted here, so other
# scripts come out longer, which is the safe side. A plan says that its token counts are estimates.
BYTES_PER_TOKEN = 4.0
# What a chat template adds to a turn: role markers and separators.
TOKENS_PER_TURN = 4

TEXT = (".txt", ".md")
READABLE = (".jsonl", ".ndjson", ".json", ".csv", *TEXT)
NEEDS_AMOUNT = "say how much to train instead: --max-steps N or --tokens N"


@dataclass(frozen=True)
class DataFacts:
    """`lengths` are sorted estimates of tokens a row, before cutting to the sequence length.

    `form` is the format of the first row, one of row_format.FORMATS, or None where it was not recognised.
    """

    rows: int
    lengths: tuple[int, ...]
    form: str | None = None

    def mean_length(self, limit: int) -> float:
        """Mean tokens a row when rows are cut at `limit`."""
        return sum(min(length, limit) for length in self.lengths) / self.rows

    def padded_length(self, limit: int, micro_batch: int) -> float:
        """Mean length of the longest of `micro_batch` rows drawn at random: what a row costs once padded."""
        longest, below = 0.0, 0.0
        for index, length in enumerate(self.lengths, 1):
            share = (index / self.rows) ** micro_batch
            longest += min(length, limit) * (share - below)
            below = share
        return longest


def looks_like_a_file(name: str) -> bool:
    """Whether `name` means a path rather than a data set on the Hub."""
    path = Path(name)
    return path.exists() or bool(path.suffix) or name.startswith((".", "/", "~")) or name.count("/") > 1


def read_facts(name: str, sample_by: str = "line") -> DataFacts | None:
    """Facts about the local file `name`, or None where it cannot be read here (a Hub name, parquet, a folder).

    `sample_by` says what a row of a text file is, as data/scanning.py reads it. Raises BadInput for a missing, empty or
    malformed file; malformed JSON lines are named by number.
    """
    path = Path(name)
    if not looks_like_a_file(name) or path.is_dir():
        return None
    if not path.exists():
        raise BadInput(
            f"data file not found: {name}",
            hint="check the path; if it is on another machine, add --dataset-elsewhere and --tokens N or --max-steps N",
        )
    if path.suffix.lower() not in READABLE:
        return None
    try:
        rows = _rows(path, sample_by)
        first = next(rows, None)
        lengths = () if first is None else tuple(sorted(map(_tokens, itertools.chain([first], rows))))
    except UnicodeDecodeError as error:
        raise BadInput(f"data file {name} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"data file {name} cannot be read: {error.strerror}", hint="check its permissions") from None
    if not lengths:
        raise BadInput(f"data file {name} holds no rows", hint="put at least one row into it")
    return DataFacts(len(lengths), lengths, _form(first))


def _form(row: Any) -> str | None:
    from . import row_format  # only a plan with data pays for it

    try:
        return row_format.recognise(row) if isinstance(row, dict) else "text"
    except row_format.RowProblem:  # `data` and `init` say what is wrong with it
        return None


def _rows(path: Path, sample_by: str) -> Iterator[Any]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_rows(path)
    elif suffix in TEXT:
        yield from _text_rows(path, sample_by)
    else:
        yield from read_json_rows(path)


def _csv_rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from csv.DictReader(file)
        except csv.Error as error:
            raise BadInput(
                f"{path} is not valid CSV: {error}", hint="quote fields that hold commas or quotes"
            ) from None


def _text_rows(path: Path, sample_by: str) -> Iterator[str]:
    """Lines, runs of lines that are not blank, or the whole file; blank ones are no rows."""
    with path.open(encoding="utf-8-sig") as file:
        if sample_by == "document":
            parts: Iterable[str] = [file.read()]
        elif sample_by == "paragraph":
            groups = itertools.groupby(file, key=lambda line: bool(line.strip()))
            parts = ("".join(lines) for filled, lines in groups if filled)
        else:
            parts = file
        yield from (part.strip() for part in parts if part.strip())


def _tokens(row: Any) -> int:
    turns = row.get("messages") or row.get("conversations") if isinstance(row, dict) else None
    overhead = TOKENS_PER_TURN * (len(turns) if isinstance(turns, list) else 1)
    return max(round(_text_bytes(row) / BYTES_PER_TOKEN), 1) + overhead


def _text_bytes(value: Any) -> int:
    """Bytes of all strings in `value`, keys not counted."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(map(_text_bytes, value.values()))
    if isinstance(value, list):
        return sum(map(_text_bytes, value))
    return 0
