"""A sample of a model's weights, small enough for a plan: what share of its updates will survive rounding.

Only the exponents matter (estimates/survival.py). Every tensor gives runs of neighbouring elements, as many as its
size asks for, at places that spread evenly however early the reading stops. Standard library only.
"""

from __future__ import annotations

import struct
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from ..core.errors import BadInput
from ..estimates.survival import FRACTION_BITS, LOWEST_EXPONENT, ExponentCounts, merged
from ..models import hub_cache
from .checkpoint import Checkpoint, Tensor, open_checkpoint

RUN: Final = 128
"""Elements read from one place: few enough to be spread widely, enough that a place is worth its seek."""
RUNS: Final = 4_000
"""Places in all, at least one a tensor. Of SmolLM2-135M (134,515,008 weights) the share was within 0.2 points of the
full count at ten rates from 1e-6 to 1e-3."""
SECONDS: Final = 0.7
"""When reading stops, on a disk too slow for all places."""

_ODD: Final = 0.6180339887498949  # of the golden section: multiples of it, less their whole part, spread evenly
_READ: Final = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class Sample:
    """Exponents of a model's weights in one type, as shares of all its weights; `elements` of `total` were read."""

    counts: ExponentCounts
    elements: int
    total: int


def at_hand(model: str, revision: str | None = None) -> Path | None:
    """The weights of `model` on this machine: a folder that has some, a file of them, or a downloaded Hub name."""
    found = hub_cache.find(model, revision)
    if found is None or not (found.is_dir() or found.name.endswith((".safetensors", ".safetensors.index.json"))):
        return None
    whole = found.is_file() or (found / "snapshots").is_dir() or any(found.glob("*.safetensors"))
    return found if whole else None


@cache
def sample(path: Path, dtype: str) -> Sample:
    """The weights of the checkpoint at `path` once they are rounded to `dtype` (a key of FRACTION_BITS).

    Raises BadInput where the checkpoint is damaged or holds no floating-point weights of 16 or 32 bits.
    """
    tensors = [one for one in _weights(open_checkpoint(path)) if one.elements]
    total = sum(tensor.elements for tensor in tensors)
    if not total:
        raise BadInput(f"{path} holds no 16 or 32-bit weights", hint="name a folder with the model's own weights")
    runs: dict[str, list[bytes]] = {}
    with _Files() as opened:
        for tensor, start in _until(time.perf_counter() + SECONDS, _places(tensors, total)):
            runs.setdefault(tensor.name, []).append(opened.read(tensor, start, min(RUN, tensor.elements - start)))
    parts, elements = [], 0
    for tensor in tensors:
        if tensor.name in runs:
            raw = b"".join(runs[tensor.name])
            elements += len(raw) // _READ[tensor.dtype]
            parts.append(_weighted(_counted(raw, tensor.dtype, dtype), tensor.elements))
    return Sample(_weighted(merged(parts), 1), elements, total)


def _weights(checkpoint: Checkpoint) -> Iterator[Tensor]:
    """Every trained tensor once: a head that is stored and tied is its embedding."""
    names = set(checkpoint.tensors)
    tied = checkpoint.config.get("tie_word_embeddings") is True
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype in _READ and not (tied and name == "lm_head.weight" and len(names) > 1):
            yield tensor


def _places(tensors: list[Tensor], total: int) -> list[tuple[Tensor, int]]:
    """(tensor, first element) of each run: all tensors' first runs first, then on in proportion to size."""
    found = []
    for tensor in tensors:
        runs = max(1, min(round(RUNS * tensor.elements / total), tensor.elements // RUN))
        room = max(tensor.elements - RUN, 0)
        for number in range(runs):
            found.append((number / runs, tensor, int((number + 0.5) * _ODD % 1 * room)))
    found.sort(key=lambda place: place[0])
    return [(tensor, start) for _, tensor, start in found]


def _until(end: float, places: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, int]]:
    for number, place in enumerate(places):
        if number and time.perf_counter() > end:
            return
        yield place


class _Files:
    """The shards, each opened once."""

    def __init__(self) -> None:
        self._open: dict[Path, BinaryIO] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def read(self, tensor: Tensor, start: int, count: int) -> bytes:
        """`count` elements from `start` on, as they are stored."""
        size = _READ[tensor.dtype]
        try:
            if tensor.file not in self._open:
                self._open[tensor.file] = tensor.file.open("rb", buffering=0)  # type: ignore[assignment]
            file = self._open[tensor.file]
            file.seek(tensor.start + start * size)
            raw = file.read(count * size)
        except OSError as error:
            raise BadInput(f"{tensor.file} cannot be read: {error.strerror}", hint="check the disk") from None
        if len(raw) != count * size:
            raise BadInput(f"{tensor.file} became shorter while it was read", hint="wait until it is written")
        return raw


_FIELD: Final = 0xFF
_BIAS: Final = 127


def _counted(raw: bytes, stored: str, dtype: str) -> ExponentCounts:
    """The exponents of elements stored as `stored`, rounded to `dtype`; NaN and infinite ones are left out."""
    fraction = FRACTION_BITS[dtype] if dtype in ("bfloat16", "float16") else 23
    zeros, lowest = 0, LOWEST_EXPONENT[dtype]
    powers: Counter[int] = Counter()
    others: Counter[int] = Counter()
    for bits, times in _rounded(raw, stored, fraction).items():
        field = bits >> fraction & _FIELD
        if field == 0:  # zero, or too small for a normal float32
            zeros += times
        elif field < _FIELD:
            kind = others if bits & ((1 << fraction) - 1) else powers
            kind[max(field - _BIAS, lowest)] += times
    return ExponentCounts(dtype, zeros, powers, others)


def _rounded(raw: bytes, stored: str, fraction: int) -> Counter[int]:
    """How often each float32 bit pattern occurs, of which the sign and `fraction` bits of the fraction are left."""
    if stored == "BF16":
        shift, values = 16, _array("H", raw)
    else:
        if stored == "F16":
            count = len(raw) // 2
            raw = struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", raw))
        shift, values = 0, _array("I", raw)
    lost = 23 - fraction - shift
    if lost > 0:
        half = 1 << (lost - 1)
        return Counter([value + half >> lost for value in values])  # a tie, once in 65,536, is rounded up
    return Counter([value << -lost for value in values]) if lost else Counter(values)


def _array(code: str, raw: bytes) -> array[int]:
    values = array(code, raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _weighted(counts: ExponentCounts, weight: float) -> ExponentCounts:
    """`counts` scaled to a sum of `weight`."""
    factor = weight / counts.total if counts.total else 0.0
    return ExponentCounts(
        counts.dtype,
        counts.zeros * factor,
        {exponent: count * factor for exponent, count in counts.powers.items()},
        {exponent: count * factor for exponent, count in counts.others.items()},
    )
