"""Stored elements as arrays, mapped from the file a window at a time or read a step at a time: memory does not grow."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from io import RawIOBase

import numpy as np

from ..core.errors import BadInput
from . import floats
from .checkpoint import Tensor
from .floats import Array

WINDOW = 1 << 24
"""Elements mapped at once, at most: 32 MiB of bfloat16."""


def window(tensor: Tensor, start: int, count: int) -> Array:
    """Elements [start, start + count) as stored (floats.RAW), read-only; the mapping lives as long as the array.

    Raises BadInput if the file is shorter than its header said when it was opened.
    """
    dtype = floats.RAW[tensor.dtype]
    begin = tensor.start + start * dtype.itemsize
    skipped = begin % mmap.ALLOCATIONGRANULARITY
    length = skipped + count * dtype.itemsize
    descriptor = os.open(tensor.file, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size < begin - skipped + length:
            raise _shortened(tensor)
        mapped = mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=begin - skipped)
    finally:
        os.close(descriptor)
    if hasattr(mmap, "MADV_SEQUENTIAL"):
        mapped.madvise(mmap.MADV_SEQUENTIAL)
    values: Array = np.frombuffer(mapped, dtype, count, skipped)
    return values


def blocks(tensor: Tensor, size: int) -> Iterator[Array]:
    """All elements of a tensor in order, `size` at a time (the last block may be shorter)."""
    step = max(WINDOW // size, 1) * size
    for start in range(0, tensor.elements, step):
        values = window(tensor, start, min(step, tensor.elements - start))
        for begin in range(0, values.size, size):
            yield values[begin : begin + size]


def read_in_steps(tensor: Tensor, start: int, count: int, step: int) -> Iterator[Array]:
    """Elements [start, start + count) as stored, `step` at a time in one buffer that the next step overwrites.

    Raises BadInput where another program cuts the file short meanwhile; under a mapping that would end the process.
    """
    room: Array = np.empty(min(step, count), floats.RAW[tensor.dtype])
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.start + start * room.itemsize)
        for begin in range(0, count, step):
            part = room[: min(step, count - begin)]
            _fill(memoryview(part.view(np.uint8)), file, tensor)
            yield part


def _fill(wanted: memoryview, file: RawIOBase, tensor: Tensor) -> None:
    while wanted.nbytes:
        taken = file.readinto(wanted)
        if not taken:
            raise _shortened(tensor)
        wanted = wanted[taken:]


def _shortened(tensor: Tensor) -> BadInput:
    return BadInput(f"{tensor.file} became shorter while it was read", hint="wait until it is written")
