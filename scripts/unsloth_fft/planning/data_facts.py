"""Facts about local data that planning needs: how many rows, and about how many tokens each, without a tokenizer.

Rows are read as training reads them (data/scanning.py), and nothing is kept but lengths.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput
from ..data.splitting import held_out_count

if TYPE_CHECKING:
    from ..data.folders import Files
    from ..data.row_format import Content, Reader

# "1 token ~= 4 characters in English" (OpenAI, Tokenizer page, read 2026-11-23); bytes are counted here, so other
# scripts come out longer, which is the safe side. A plan says that its token counts are estimates.
BYTES_PER_TOKEN = 4.0
# What a chat template adds to a turn: role markers and separators.
TOKENS_PER_TURN = 4


@dataclass(frozen=True, eq=False)
class DataFacts:
    """`lengths` are sorted estimates of tokens a row, before cutting to the sequence length.

    `form` is one of row_format.FORMATS, or None where it is not known. `set_apart` counts the rows of files that a
    folder holds out by their names; nothing else is held out then. `empty` rows hold nothing, are left out, and are
    counted nowhere else. `described` says what was assumed of rows that a user described and nobody read; their
    `lengths` are a sample. Compared by identity, and what takes a
    pass over all rows is cached by it: a search asks the same of every setting.
    """

    rows: int
    lengths: tuple[int, ...]
    form: str | None = None
    set_apart: int = 0
    empty: int = 0
    described: str | None = None

    @property
    def each(self) -> float:
        """How many rows one of `lengths` stands for: 1 where every row was read."""
        return self.rows / len(self.lengths)

    def held_out(self, fraction: float) -> int:
        """How many rows are not learned, where `fraction` of them was asked for."""
        return self.set_apart or held_out_count(self.rows, fraction)

    def examples(self, limit: int) -> tuple[int, ...]:
        """Sorted tokens of what training sees unpacked: rows cut at `limit`; raw text goes on in the next example."""
        return _examples(self, limit)

    def mean_length(self, limit: int) -> float:
        """Mean tokens of an example."""
        return _mean(self, limit)

    def padded_length(self, limit: int, micro_batch: int) -> float:
        """Mean length of the longest of `micro_batch` examples drawn at random: what one costs once padded."""
        return _mean_longest(self, limit, micro_batch)

    def mean_row(self, limit: int) -> float:
        """Mean tokens of a row: of a whole text, or of a row that is cut at `limit`."""
        return sum(self.lengths) / len(self.lengths) if self.form == "text" else self.mean_length(limit)


@functools.lru_cache(maxsize=8)
def _examples(facts: DataFacts, limit: int) -> tuple[int, ...]:
    if facts.form != "text":
        return tuple(min(length, limit) for length in facts.lengths)
    full = sum(length // limit for length in facts.lengths)
    rests = sorted(length % limit for length in facts.lengths if length % limit)
    return (*rests, *repeat(limit, full))


@functools.lru_cache(maxsize=8)
def _mean(facts: DataFacts, limit: int) -> float:
    examples = _examples(facts, limit)
    return sum(examples) / len(examples)


@functools.lru_cache(maxsize=64)
def _mean_longest(facts: DataFacts, limit: int, count: int) -> float:
    examples = _examples(facts, limit)
    longest, below = 0.0, 0.0
    for index, length in enumerate(examples, 1):
        share = (index / len(examples)) ** count
        longest += length * (share - below)
        below = share
    return longest


def looks_like_a_file(name: str) -> bool:
    """Whether `name` means a path rather than a data set on the Hub."""
    # os.path, which takes a name too long for any file as one that is not there; Path raises.
    return os.path.exists(name) or bool(Path(name).suffix) or name.startswith((".", "/", "~")) or name.count("/") > 1


def read_facts(
    name: str, sample_by: str = "line", columns: Mapping[str, str] | None = None, ignored: Sequence[str] = ()
) -> DataFacts | None:
    """Facts about the local file or folder `name`, or None where it cannot be counted here (a Hub name, Parquet).

    `sample_by` says what a row of a text file is, `columns` and `ignored` what its columns are. Raises BadInput for
    what is missing, of a kind that cannot be read, or has a row that training would refuse, named by its line.
    """
    if not looks_like_a_file(name):
        return None
    if not os.path.exists(os.path.expanduser(name)):
        raise BadInput(
            f"data file not found: {name}",
            hint="check the path; if it is on another machine, add --dataset-elsewhere and --tokens N or --max-steps N",
        )
    from ..data import opening, sources  # only a plan with data pays for it
    from ..data.folders import ARROW
    from ..data.row_format import Reader

    files = sources.files_of(name)
    if files is None:
        return None
    if importlib.util.find_spec("pyarrow") is None and any(opening.kind(path) in ARROW for path in files.all):
        return None
    return _counted(name, files, Reader("auto", columns, ignored), sample_by)


def _counted(name: str, files: Files, reader: Reader, sample_by: str) -> DataFacts:
    from ..data import scanning

    lengths: list[int] = []
    set_apart = empty = 0
    for row, content in scanning.checked(name, files, reader, sample_by):
        if content is None:
            empty += 1
            continue
        lengths.append(_tokens(content))
        set_apart += row.file in files.held_out
    return DataFacts(len(lengths), tuple(sorted(lengths)), reader.form, set_apart, empty)


def _tokens(content: Content) -> int:
    """About how many tokens `content` has, its turns set apart."""
    turns = len(getattr(content, "messages", ())) or 1
    return max(round(_text_bytes(_words(content)) / BYTES_PER_TOKEN), 1) + TOKENS_PER_TURN * turns


def _words(content: Content) -> Any:
    return [getattr(content, name) for name in content.__dataclass_fields__ if name != "unlearned"]


def _text_bytes(value: Any) -> int:
    """Bytes of all strings in `value`, keys and roles not counted."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(_text_bytes(part) for key, part in value.items() if key != "role")
    if isinstance(value, list):
        return sum(map(_text_bytes, value))
    return 0
