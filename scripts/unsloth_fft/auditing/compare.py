"""Comparing two tensors on disk block by block, in a fixed amount of memory, with what moved counted exactly.

Both files are mapped or read and compared in blocks whose float32 values stay in the processor's cache;
equal blocks cost one comparison of their bytes and one sum. Large checkpoints are shared between processes: threads
would spend longer on handing each other the interpreter, around numpy's short calls, than on comparing. "Changed"
means the value differs: 0.0 and -0.0 are equal, and so are two NaNs. Sums of squares run in float32 within a block
(float64 where that over- or underflows) and in float64 across blocks, so relative changes are good to four digits;
counts are exact.
"""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

import numpy as np

from ..core.errors import MissingHere
from ..weights import floats
from ..weights.checkpoint import Tensor
from ..weights.floats import Array
from ..weights.stored_elements import WINDOW, read_in_steps, window

BLOCK: Final = 1 << 17
"""Elements compared at once: large enough that calling numpy costs little, small enough for the caches.

Two float32 buffers and the stored values are 1.5 MiB. On an AMD EPYC half as many took an eighth longer, a quarter as
many two thirds; on an Intel Xeon four times as many were slower again (both 2026-11-27).
"""

SPAN: Final = WINDOW
"""Elements of one piece of work; a tensor of more is shared between workers."""

SAMPLE: Final = 1 << 14
"""Elements whose exponents are counted at the start of a sampled block: all of a small tensor, 1/512 of a large one."""

SAMPLE_EVERY: Final = 64
"""Every how many blocks of a span one is sampled."""

_PEEK: Final = 1 << 8
"""Elements that tell in nearly every case whether a block moved at all, before the rest is compared for it."""

WORKERS: Final = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

PROCESSES_FROM: Final = 1 << 30
"""Bytes of both files from which other processes are worth the fifth of a second that it takes to start them."""

EXPONENT_BINS: Final = 256
"""Float32's exponent field: bin b counts weights in [2**(b - 127), 2**(b - 126)); bin 0 holds zeros and subnormals."""


@dataclass(frozen=True)
class Pair:
    """Two tensors whose first `elements` elements, in rows of `row_length`, are the same weights.

    `parts` is the number of equal parts, one an expert, of which is told whether they moved at all; 0 where none are.
    """

    name: str
    base: Tensor
    trained: Tensor
    elements: int
    row_length: int
    count_rows: bool
    parts: int = 0

    @property
    def part_length(self) -> int:
        """Elements of a part."""
        return self.elements // self.parts


@dataclass(frozen=True)
class Moves:
    """How far some elements moved: `squares` is the sum of squared changes."""

    changed: int = 0
    largest: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Moves) -> Moves:
        return Moves(self.changed + other.changed, max(self.largest, other.largest), self.squares + other.squares)


@dataclass(frozen=True)
class NotFinite:
    """NaN and infinite values on one side; `first` is the index of the first in the flattened tensor."""

    nan: int = 0
    infinite: int = 0
    first: int | None = None

    def __add__(self, other: NotFinite) -> NotFinite:
        known = [index for index in (self.first, other.first) if index is not None]
        return NotFinite(self.nan + other.nan, self.infinite + other.infinite, min(known, default=None))

    @property
    def count(self) -> int:
        return self.nan + self.infinite


@dataclass(frozen=True)
class Comparison:
    """What was found in some elements of a tensor.

    `rounded` is None unless the stored types differ; then it holds the moves after rounding both to the narrower.
    `sampled` and `sampled_changed` count exponents of the base's sampled weights, all and those that moved (moved as
    `rounded` has it where the trained type cannot hold every base value).
    """

    elements: int = 0
    moves: Moves = Moves()
    rounded: Moves | None = None
    base_squares: float = 0.0
    unchanged_rows: int = 0
    base_not_finite: NotFinite = NotFinite()
    trained_not_finite: NotFinite = NotFinite()
    sampled: Array = field(default_factory=lambda: np.zeros(EXPONENT_BINS, np.int64))
    sampled_changed: Array = field(default_factory=lambda: np.zeros(EXPONENT_BINS, np.int64))
    moved_parts: frozenset[int] = frozenset()

    def __add__(self, other: Comparison) -> Comparison:
        both = [moves for moves in (self.rounded, other.rounded) if moves is not None]
        return Comparison(
            self.elements + other.elements,
            self.moves + other.moves,
            sum(both, Moves()) if both else None,
            self.base_squares + other.base_squares,
            self.unchanged_rows + other.unchanged_rows,
            self.base_not_finite + other.base_not_finite,
            self.trained_not_finite + other.trained_not_finite,
            self.sampled + other.sampled,
            self.sampled_changed + other.sampled_changed,
            self.moved_parts | other.moved_parts,
        )

    def moves_of(self, pair: Pair) -> Moves:
        """The moves that count: after rounding where the trained type cannot hold every value of the base."""
        if self.rounded is None or floats.holds(pair.trained.dtype, pair.base.dtype):
            return self.moves
        return self.rounded


def compare(pairs: Sequence[Pair], progress: Callable[[int, int], None] | None = None) -> dict[str, Comparison]:
    """Compare every pair; `progress(done, total)` counts bytes of both files. Raises BadInput if a file shrank."""
    total = sum(_bytes(pair, pair.elements) for pair in pairs)
    results = {pair.name: Comparison() for pair in pairs}
    done = 0
    for pair, result in _runs(_spans(pairs), total):
        results[pair.name] = results[pair.name] + result
        done += _bytes(pair, result.elements)
        if progress:
            progress(done, total)
    return results


def same_values(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same bytes, as a tied head written twice does; stops at the first difference."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    step = BLOCK * 8
    with first.file.open("rb") as one, second.file.open("rb") as other:
        one.seek(first.start)
        other.seek(second.start)
        return all(
            one.read(size) == other.read(size)
            for size in (min(step, first.bytes - begin) for begin in range(0, first.bytes, step))
        )


@dataclass(frozen=True)
class _Span:
    pair: Pair
    start: int
    stop: int


def _bytes(pair: Pair, elements: int) -> int:
    return elements * (floats.RAW[pair.base.dtype].itemsize + floats.RAW[pair.trained.dtype].itemsize)


def _spans(pairs: Sequence[Pair]) -> Iterator[_Span]:
    """Pieces of work in the order of the base's bytes, each a whole number of blocks, none reaching over two parts."""
    for pair in sorted(pairs, key=lambda pair: (pair.base.file, pair.base.start)):
        block = _block_of(pair)
        step = max(SPAN // block, 1) * block
        length = pair.part_length if pair.parts else pair.elements
        for begin in range(0, pair.elements, max(length, 1)):
            for start in range(begin, begin + length, step):
                yield _Span(pair, start, min(start + step, begin + length))


def _block_of(pair: Pair) -> int:
    """Elements a block: BLOCK, or the most whole rows in it where rows are counted."""
    if pair.count_rows:
        return max(BLOCK // pair.row_length, 1) * pair.row_length
    return BLOCK


def _runs(spans: Iterator[_Span], total: int) -> Iterator[tuple[Pair, Comparison]]:
    """The result of every span, in their order; `total` bytes decide whether other processes help.

    Threads would not: on two cores of an Intel Xeon 8 GiB took two of them 2.6 to 3.4 s and two processes 1.2 s
    (2026-11-27; numpy lets go of the interpreter in each call, and takes it back).
    """
    if total < PROCESSES_FROM or WORKERS == 1:
        yield from ((span.pair, _read_span(span)) for span in spans)
        return
    # Spawned, not forked: the process that trained has threads and a GPU, which a fork may not touch.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(WORKERS - 1, mp_context=context, initializer=_begin_work) as pool:
            yield from _in_order(pool, spans)
    except BrokenProcessPool:
        raise MissingHere(
            "a process of the audit was ended from outside: memory ran out, or a file was cut short while it was read",
            hint="wait until the checkpoints are written, free a GiB of memory, and run the audit again",
        ) from None


def _begin_work() -> None:
    """What a worker does first: leave Ctrl-C to the process that started it, and end when that one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _in_order(pool: Executor, spans: Iterator[_Span]) -> Iterator[tuple[Pair, Comparison]]:
    """Run the spans in the pool and, instead of waiting for it, here; yield their results in the order of the spans.

    Added in any other order, sums would differ in their last digits from one audit to the next.
    """
    begun: deque[tuple[Pair, Future[Comparison]]] = deque()
    while True:
        in_pool = sum(not future.done() for _, future in begun)
        for span in islice(spans, max(2 * (WORKERS - 1) - in_pool, 0)):
            begun.append((span.pair, pool.submit(_compare_span, span)))
        if not begun:
            return
        here = None if begun[0][1].done() else next(spans, None)
        if here is not None:
            begun.append((here.pair, _done(_compare_span(here))))
            continue
        pair, future = begun.popleft()
        yield pair, future.result()


def _done(result: Comparison) -> Future[Comparison]:
    future: Future[Comparison] = Future()
    future.set_result(result)
    return future


def _compare_span(span: _Span) -> Comparison:
    """Compare one span, mapped: a fifth quicker than read, but a file that is cut short meanwhile ends the process."""
    count, block = span.stop - span.start, _block_of(span.pair)
    base, trained = window(span.pair.base, span.start, count), window(span.pair.trained, span.start, count)
    return _tallied(span, ((base[at : at + block], trained[at : at + block]) for at in range(0, count, block)))


def _read_span(span: _Span) -> Comparison:
    """Compare one span of a small checkpoint, read: a file that is cut short meanwhile is told of."""
    count, block = span.stop - span.start, _block_of(span.pair)
    sides = (read_in_steps(side, span.start, count, block) for side in (span.pair.base, span.pair.trained))
    return _tallied(span, zip(*sides, strict=True))


def _tallied(span: _Span, blocks: Iterable[tuple[Array, Array]]) -> Comparison:
    block, count = _block_of(span.pair), span.stop - span.start
    tally = _Tally(span.pair, min(block, count))
    with np.errstate(over="ignore", invalid="ignore"):  # both are looked for in the results, block by block
        for index, (base, trained) in enumerate(blocks):
            tally.take(base, trained, span.start + index * block, sample=index % SAMPLE_EVERY == 0)
    found = tally.result(count)
    if span.pair.parts and found.moves_of(span.pair).changed:
        return replace(found, moved_parts=frozenset({span.start // span.pair.part_length}))
    return found


def _room(elements: int) -> tuple[Array, Array, Array]:
    """Two float32 buffers and a mask of that many elements."""
    rows: Array = np.empty((3, elements), np.float32)
    return rows[0], rows[1], rows[2].view(np.bool_)


class _Tally:
    """What a span's blocks add up to. Plain numbers for what every block has, so that a block costs little."""

    def __init__(self, pair: Pair, elements: int) -> None:
        self.pair = pair
        self.dtype = pair.base.dtype
        self.same_type = pair.base.dtype == pair.trained.dtype
        self.old_room, self.new_room, self.mask = _room(elements)
        self.changed = 0
        self.largest = 0.0
        self.squares = 0.0
        self.base_squares = 0.0
        self.rest = Comparison()

    def result(self, elements: int) -> Comparison:
        quick = Comparison(0, Moves(self.changed, self.largest, self.squares), base_squares=self.base_squares)
        return replace(self.rest + quick, elements=elements)

    def take(self, base: Array, trained: Array, start: int, *, sample: bool) -> None:
        """Add one block, given as stored."""
        if not self.pair.base.is_weight:
            self.changed += int(np.count_nonzero(base != trained))
        elif not self.same_type or not self._take_quickly(base, trained):
            self.rest += _careful_block(self.pair, base, trained, start)
        elif sample or self.pair.count_rows:
            self.rest += _sampled(self.pair, base, trained, sample)

    def _take_quickly(self, base: Array, trained: Array) -> bool:
        """Add a block of finite values of one type; False, and nothing added, where it is not one."""
        old = floats.widen_shuffled(base, self.dtype, self.old_room)
        base_squares = _squares(old)
        if not math.isfinite(base_squares):
            return False
        if base[:_PEEK].tobytes() == trained[:_PEEK].tobytes() and np.array_equal(base, trained):
            self.base_squares += base_squares
            return True
        new = floats.widen_shuffled(trained, self.dtype, self.new_room)
        change = np.subtract(new, old, out=self.new_room[: new.size]) if new.dtype == np.float32 else new - old
        squares = _squares(change)
        if not math.isfinite(squares):
            return False
        self.base_squares += base_squares
        self.squares += squares
        self.changed += int(np.count_nonzero(np.not_equal(change, 0, out=self.mask[: change.size])))
        self.largest = max(self.largest, float(np.maximum.reduce(change)), -float(np.minimum.reduce(change)))
        return True


def _sampled(pair: Pair, base: Array, trained: Array, sample: bool) -> Comparison:
    """The exponents of a block's first weights, and its unchanged rows where they are counted."""
    count = min(base.size if pair.count_rows else SAMPLE, base.size)
    room: Array = np.empty((2, count), np.float32)
    old = floats.widen(base[:count], pair.base.dtype, room[0])
    changed = old != floats.widen(trained[:count], pair.trained.dtype, room[1])
    found = Comparison(unchanged_rows=_unchanged_rows(pair, changed))
    if not sample:
        return found
    first = old[:SAMPLE]
    return replace(found, sampled=_exponents(first), sampled_changed=_exponents(first[changed[:SAMPLE]]))


def _careful_block(pair: Pair, base: Array, trained: Array, start: int) -> Comparison:
    """Any block at all, slower: types that differ, NaN or infinite values, squares that overflow."""
    old = floats.widen(base, pair.base.dtype, np.empty(base.size, np.float32))
    new = floats.widen(trained, pair.trained.dtype, np.empty(trained.size, np.float32))
    if not math.isfinite(_squares(old) + _squares(new)) or np.float64 in (old.dtype, new.dtype):
        old, new = old.astype(np.float64), new.astype(np.float64)
    finite = np.isfinite(old) & np.isfinite(new)
    differs = (old != new) & ~(np.isnan(old) & np.isnan(new))
    broken = differs & ~finite
    old_finite, new_finite = np.where(finite, old, 0.0), np.where(finite, new, 0.0)
    moves, counted, rounded = _moves(new_finite - old_finite, broken), differs, None
    if pair.base.dtype != pair.trained.dtype:
        narrow = floats.narrower(pair.base.dtype, pair.trained.dtype)
        change = floats.rounded(new_finite, narrow) - floats.rounded(old_finite, narrow)
        rounded = _moves(change, broken)
        if not floats.holds(pair.trained.dtype, pair.base.dtype):
            counted = (change != 0) | broken
    visible = np.where(np.isfinite(old), old, 0.0)
    return Comparison(
        moves=moves,
        rounded=rounded,
        base_squares=_squares(visible),
        unchanged_rows=_unchanged_rows(pair, counted),
        base_not_finite=_not_finite(old, start),
        trained_not_finite=_not_finite(new, start),
        sampled=_exponents(visible[:SAMPLE]),
        sampled_changed=_exponents(visible[:SAMPLE][counted[:SAMPLE]]),
    )


def _moves(change: Array, broken: Array) -> Moves:
    """Moves of finite values, and a change for each value that became or ceased to be NaN or infinite."""
    changed = int(np.count_nonzero(change)) + int(np.count_nonzero(broken))
    return Moves(changed, float(np.abs(change).max(initial=0.0)), _squares(change))


def _unchanged_rows(pair: Pair, changed: Array) -> int:
    if not pair.count_rows:
        return 0
    return int(np.count_nonzero(~changed.reshape(-1, pair.row_length).any(axis=1)))


def _not_finite(values: Array, start: int) -> NotFinite:
    bad = np.flatnonzero(~np.isfinite(values))
    if not bad.size:
        return NotFinite()
    nan = int(np.count_nonzero(np.isnan(values)))
    return NotFinite(nan, int(bad.size) - nan, start + int(bad[0]))


def _exponents(values: Array) -> Array:
    """How many of `values` have each float32 exponent field."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.bincount((bits >> 23) & 0xFF, minlength=EXPONENT_BINS)


def _squares(values: Array) -> float:
    """The sum of squares; in float64 where float32 would lose it. Not finite if a value is not."""
    total = float(np.dot(values, values))
    if values.dtype == np.float32 and (total < _SMALL or not math.isfinite(total)) and values.any():
        wide = values.astype(np.float64)
        total = float(np.dot(wide, wide))
    return total


_SMALL = 1e-30  # squares of float32 numbers below 1e-19 begin to vanish
