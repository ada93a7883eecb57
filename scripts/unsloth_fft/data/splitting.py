"""Which rows are held out, and how often each training row is used: numbers of rows only, decided by a seed.

The split comes before the mix, so a row that is used twice is never learned and held out at once.
"""

from __future__ import annotations

from typing import Any


def held_out_rows(rows: int, fraction: float, seed: int) -> Any:
    """The numbers of the held-out rows, sorted, as a NumPy array.

    The permutation is that of `datasets.Dataset.train_test_split` (datasets 4.8.5), which draws it the same way; it is
    drawn here so that the data doctor sees the same split without loading the rows.
    """
    import numpy

    count = held_out_count(rows, fraction)
    return numpy.sort(numpy.random.default_rng(seed).permutation(rows)[:count])


def held_out_count(rows: int, fraction: float) -> int:
    """How many rows are held out: at least one of two or more when asked for any, and never all."""
    if fraction > 0 and rows > 1:
        return min(max(round(rows * fraction), 1), rows - 1)
    return 0


def used_rows(rows: int, weight: float, seed: int) -> Any:
    """Row numbers in the order used in one pass, as a NumPy array: whole copies first, then a seeded part of one.

    `weight` 2.5 gives every row twice and half of them once more. At least one row is used when there is any.
    """
    import numpy

    whole = int(weight)
    part = round((weight - whole) * rows)
    if rows and not whole:
        part = max(part, 1)
    extra = numpy.sort(numpy.random.default_rng(seed).permutation(rows)[:part])
    return numpy.concatenate([numpy.tile(numpy.arange(rows), whole), extra]).astype("int64")
