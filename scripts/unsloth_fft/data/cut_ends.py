"""Rows whose last answer is cut before its end: of them a model learns to go on where it should stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import BadInput
from ..settings.parameters import Data

ALLOWED = 0.01  # share of rows that may lose their end; more is refused unless asked for
_STEP = 64


@dataclass(frozen=True)
class Ends:
    """How many tokens each row needs to keep the end of its last answer; 0 for raw text, which loses nothing.

    `limit` is the length at which rows are cut.
    """

    needed: Sequence[int]
    limit: int

    @property
    def rows(self) -> int:
        """Rows that have an end to lose."""
        return sum(end > 0 for end in self.needed)

    @property
    def lost(self) -> int:
        """Rows that lose it."""
        return sum(end > self.limit for end in self.needed)

    @property
    def too_many(self) -> bool:
        """Whether more rows lose it than are allowed to."""
        return is_too_many(self.lost, self.rows)

    def length_that_keeps_them(self) -> int:
        """The smallest multiple of 64 at which no more rows lose their end than are allowed to."""
        ends = sorted(end for end in self.needed if end > 0)
        return -(-ends[max(math.ceil(len(ends) * (1 - ALLOWED)) - 1, 0)] // _STEP) * _STEP


def is_too_many(lost: int, rows: int) -> bool:
    """Whether `lost` of `rows` is more than may lose their end."""
    return lost > ALLOWED * rows


def leaves(some: bool) -> str:
    """What a length that keeps enough ends does, where it still cuts `some` rows, and where none."""
    return f"leaves at most {ALLOWED:.0%} cut" if some else "cuts none"


def refuse(ends: Ends, data: Data, longest: int | None = None) -> None:
    """Raise BadInput when too many rows lose the end of their last answer and `data` does not allow it.

    `longest` is what the model itself takes, where it is known.
    """
    if data.allow_cut_ends or not ends.too_many:
        return
    length = ends.length_that_keeps_them()
    way = f"plan again with --seq-length {length}, which {leaves(any(end > length for end in ends.needed))}"
    if longest is not None and length > longest:
        way = f"the model takes no more than {longest} tokens: shorten or split the rows"
    raise BadInput(
        f"{ends.lost:,} of {ends.rows:,} rows lose the end of their last answer at {ends.limit} tokens: the model would"
        " learn not to stop",
        hint=f"{way}; or allow it: --allow-cut-ends (data.allow_cut_ends true)",
    )
