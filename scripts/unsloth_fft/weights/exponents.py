"""Counting the exponents of a stored tensor, which is all that rounding depends on."""

from __future__ import annotations

import numpy as np

from ..estimates.survival import FRACTION_BITS, LOWEST_EXPONENT, ExponentCounts
from . import floats
from .checkpoint import Tensor
from .floats import Array
from .stored_elements import blocks

_SAFETENSORS_NAME = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


def count_exponents(tensor: Tensor, dtype: str) -> ExponentCounts:
    """The exponents of a tensor's values once they are rounded to `dtype`; NaN and infinite values are left out."""
    size = min(_BLOCK, max(tensor.elements, 1))
    room: Array = np.empty(size, np.float32)
    powers: Array = np.zeros(_BINS, np.int64)
    everything: Array = np.zeros(_BINS, np.int64)
    for raw in blocks(tensor, size):
        values = floats.widen(raw, tensor.dtype, room)
        if FRACTION_BITS[dtype] < floats.FRACTION_BITS[tensor.dtype]:
            values = floats.rounded(np.where(np.isfinite(values), values, 0), _SAFETENSORS_NAME[dtype])
        bits = np.abs(values.astype(np.float32, copy=False)).view(np.uint32)
        exponent = bits >> 23
        everything += np.bincount(exponent, minlength=_BINS)
        powers += np.bincount(exponent[(bits & 0x7FFFFF) == 0], minlength=_BINS)
    return _counts(dtype, everything, powers)


_BLOCK = 1 << 18
_BINS = 256
_BIAS = 127


def _counts(dtype: str, everything: Array, powers: Array) -> ExponentCounts:
    """Float32 exponent fields as ExponentCounts: field 0 (zeros and subnormals) counts as zeros, 255 is left out."""
    lowest = LOWEST_EXPONENT[dtype]
    fields: list[int] = (np.flatnonzero(everything[1:255]) + 1).tolist()
    in_range = {field: max(field - _BIAS, lowest) for field in fields}
    return ExponentCounts(
        dtype,
        int(everything[0]),
        {exponent: int(powers[field]) for field, exponent in in_range.items() if powers[field]},
        {exponent: int(everything[field] - powers[field]) for field, exponent in in_range.items()},
    )
