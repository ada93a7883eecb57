"""What row lengths mean for a run: how much is cut, padded or packed, and which length to train at.

Lengths are NumPy arrays of tokens a row; the functions are pure.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

# A length is worth its memory while it saves more than this share of rows from being cut.
CUT_ROWS_ALLOWED = 0.01
_STEP = 64  # lengths recommended are multiples: matrix products like them, and the exact value hardly matters
_BINS = 20
# TRL packs each run of this many rows by itself (datasets' batch size in `map`; trl 1.15.0, data_utils.pack_dataset).
PACK_TOGETHER = 1000
_PACK_RUNS = 64  # runs simulated; a share settles long before all of a large file


@dataclass(frozen=True)
class Tokens:
    """Tokens a row over rows that hold something, and how many rows fall in each bin [start, stop)."""

    min: int
    median: float
    p95: float
    p99: float
    max: int
    mean: float
    total: int
    histogram: list[Bin]


@dataclass(frozen=True)
class Bin:
    """Rows of `start` to `stop` tokens, `stop` not included; None means without an upper end."""

    start: int
    stop: int | None
    rows: int


@dataclass(frozen=True)
class Recommended:
    """The length to train at, in tokens, and why."""

    max_seq_length: int
    why: str


def describe(lengths: Any) -> Tokens:
    """Statistics of `lengths`, which must not be empty."""
    import numpy

    median, p95, p99 = numpy.percentile(lengths, [50, 95, 99])
    return Tokens(
        min=int(lengths.min()),
        median=float(median),
        p95=float(p95),
        p99=float(p99),
        max=int(lengths.max()),
        mean=round(float(lengths.mean()), 2),
        total=int(lengths.sum(dtype="int64")),
        histogram=_histogram(lengths, float(p99)),
    )


def _histogram(lengths: Any, p99: float) -> list[Bin]:
    """Bins of equal width up to the 99th percentile, and one for what is longer."""
    import numpy

    width = _round_up(max(int(p99) + 1, _BINS) / _BINS)
    edges = [width * index for index in range(_BINS + 1)]
    counts, _ = numpy.histogram(numpy.minimum(lengths, edges[-1] + 1), bins=[*edges, edges[-1] + 2])
    # numpy closes the last bin on the right; every other is half-open, and so is the last one here.
    stops = [*edges[1:], None]
    found = [Bin(start, stop, int(rows)) for start, stop, rows in zip(edges, stops, counts, strict=True)]
    while len(found) > 1 and found[-1].rows == 0:
        found.pop()
    return found


def _round_up(width: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 ... that is at least `width`."""
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale >= width:
                return step * scale
        scale *= 10


def windows(lengths: Any, limit: int) -> Any:
    """Lengths of the windows that raw texts of `lengths` are cut into; a window of one token is left out."""
    import numpy

    full, rest = numpy.divmod(lengths.astype("int64"), limit)
    rest = rest[rest > 1]
    return numpy.concatenate([numpy.full(int(full.sum()), limit), rest])


def padding_waste(lengths: Any, micro_batch: int, seed: int) -> float:
    """Share of positions that are padding when shuffled rows are padded to the longest of each micro-batch."""
    import numpy

    order = numpy.random.default_rng(seed).permutation(lengths).astype("int64")
    whole = order[: len(order) - len(order) % micro_batch].reshape(-1, micro_batch)
    rest = order[whole.size :]
    positions = int(whole.max(axis=1).sum()) * micro_batch + (int(rest.max()) * len(rest) if len(rest) else 0)
    return 1 - int(order.sum()) / positions if positions else 0.0


def packed(lengths: Any, limit: int, seed: int) -> tuple[int, float]:
    """(sequences, share of positions left empty) when rows are packed into sequences of `limit` tokens.

    Best-fit decreasing within runs of PACK_TOGETHER shuffled rows, as TRL's "bfd" does; of a larger file, _PACK_RUNS
    runs are packed and the number of sequences is scaled up.
    """
    import numpy

    order = numpy.minimum(numpy.random.default_rng(seed).permutation(lengths), limit)
    taken = order[: PACK_TOGETHER * _PACK_RUNS]
    runs = range(0, len(taken), PACK_TOGETHER)
    bins = sum(_best_fit_decreasing(taken[start : start + PACK_TOGETHER], limit) for start in runs)
    tokens = int(taken.sum(dtype="int64"))
    scaled = round(bins * len(order) / len(taken)) if len(taken) else 0
    return scaled, 1 - tokens / (bins * limit) if bins else 0.0


def _best_fit_decreasing(lengths: Any, limit: int) -> int:
    """How many sequences of `limit` tokens the rows need."""
    spaces: list[int] = []  # what is left in each open sequence, sorted
    bins = 0
    for length in sorted((int(length) for length in lengths if length), reverse=True):
        at = bisect_left(spaces, length)
        if at == len(spaces):
            bins += 1
            left = limit - length
        else:
            left = spaces.pop(at) - length
        if left:
            insort(spaces, left)
    return bins


def recommend(lengths: Any, longest: int | None, windowed: Any = None) -> Recommended:
    """The smallest multiple of 64 that leaves at most 1% of rows cut, within the model's own limit `longest`.

    `windowed` says which rows are raw text, of which a limit cuts nothing off; None means that none is.
    """
    import numpy

    wanted = int(numpy.quantile(lengths, 1 - CUT_ROWS_ALLOWED, method="higher"))
    length = -(-wanted // _STEP) * _STEP
    capped = longest is not None and length > longest
    if longest is not None:
        length = min(length, longest)
    whole = numpy.zeros(len(lengths), dtype=bool) if windowed is None else windowed
    cut = float(((lengths > length) & ~whole).mean())
    if whole.all():
        why = (
            f"texts are cut into windows of up to {length:,} tokens, and nothing of them is lost; the longest text has"
            f" {int(lengths.max()):,} tokens"
        )
    else:
        kept = numpy.where(whole, lengths, numpy.minimum(lengths, length)).sum(dtype="float64")
        share = float(kept / lengths.sum(dtype="float64"))
        why = (
            f"keeps {1 - cut:.2%} of rows whole and {share:.2%} of tokens; the longest row has"
            f" {int(lengths.max()):,} tokens"
        )
    if capped:
        why += f"; the model itself takes no more than {longest:,}"
    elif cut:
        why += ", and a longer limit would cost memory for the rest alone"
    return Recommended(length, why)
