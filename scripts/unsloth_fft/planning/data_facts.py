"""Facts about local data that planning needs: how many rows, and how many tokens each.

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
from typing import TYPE_CHECKING

from ..core.errors import BadInput
from ..data.splitting import held_out_count
from ..models import hub_cache

if TYPE_CHECKING:
    from ..data.folders import Files
    from ..data.row_format import Reader
    from ..data_doctor.row_tokens import RowTokens


@dataclass(frozen=True, eq=False)
class DataFacts:
    """`lengths` are sorted tokens a row, before cutting to the sequence length.

    `basis` says how they were found: data_doctor.row_tokens counts, samples or estimates them.

    `form` is one of data.formats.FORMATS, or None where it is not known. `set_apart` counts the rows of files that a
    folder holds out by their names; nothing else is held out then. `empty` rows hold nothing, are left out, and are
    counted nowhere else. `described` says what was assumed of rows that a user described and nobody read; their
    `lengths` are a sample. `lacks_template` says of conversations that the model's own tokenizer has no chat template
    for them, so that init will refuse them. Compared by identity, and what takes a
    pass over all rows is cached by it: a search asks the same of every setting.
    """

    rows: int
    lengths: tuple[int, ...]
    form: str | None = None
    set_apart: int | None = None
    empty: int = 0
    described: str | None = None
    basis: str = "estimated"
    lacks_template: bool = False

    @property
    def each(self) -> float:
        """How many rows one of `lengths` stands for: 1 where every row was read."""
        return self.rows / len(self.lengths)

    @property
    def is_counted(self) -> bool:
        """Whether every row went through the model's own tokenizer and template."""
        return self.basis == "counted"

    def held_out(self, fraction: float) -> int:
        """How many rows are not learned, where `fraction` of them was asked for."""
        return held_out_count(self.rows, fraction) if self.set_apart is None else self.set_apart

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
    name: str,
    sample_by: str = "line",
    columns: Mapping[str, str] | None = None,
    ignored: Sequence[str] = (),
    *,
    form: str = "auto",
    model: str | None = None,
    template: str | None = None,
) -> DataFacts | None:
    """Facts about the local file or folder `name`, or None where it cannot be counted here (a Hub name).

    `sample_by` says what a row of a text file is, `form`, `columns` and `ignored` how rows are read; they go through
    the tokenizer of `model`, a folder or a downloaded one, unless `template` names another chat template. Raises
    BadInput for what is missing, of a kind that cannot be read, or has a row that training would refuse, named by its
    line.
    """
    if not looks_like_a_file(name):
        return None
    if not os.path.exists(os.path.expanduser(name)):
        raise BadInput(
            f"data file not found: {name}",
            hint="check the path; if it is on another machine, add --dataset-elsewhere and --rows N --tokens-per-row X,"
            " or --tokens N, or --max-steps N",
        )
    from ..data import opening, sources  # only a plan with data pays for it
    from ..data.folders import ARROW
    from ..data.row_format import Reader
    from ..data_doctor.row_tokens import RowTokens

    files = sources.files_of(name)
    if files is None:
        return None
    if importlib.util.find_spec("pyarrow") is None and any(opening.kind(path) in ARROW for path in files.all):
        return None
    folder = hub_cache.find(model) if model is not None else None
    return _counted(name, files, Reader(form, columns, ignored), sample_by, RowTokens(folder, template))


def _counted(name: str, files: Files, reader: Reader, sample_by: str, tokens: RowTokens) -> DataFacts:
    from ..data import scanning

    rows = set_apart = empty = 0
    for row, content in scanning.checked(name, files, reader, sample_by):
        if content is None:
            empty += 1
            continue
        rows += 1
        tokens.add(content)
        set_apart += row.file in files.held_out
    lengths = tuple(sorted(tokens.lengths()))
    return DataFacts(
        rows,
        lengths,
        reader.form,
        set_apart if files.held_out else None,
        empty,
        basis=tokens.basis,
        lacks_template=tokens.lacks_template,
    )
