"""Stored floats as numpy numbers: widening each safetensors type exactly, and rounding to a narrower one.

numpy has no bfloat16 and no 8-bit floats, and importing torch would take longer than auditing a small model, so the
few conversions are here. Layouts: bfloat16 is the upper half of a float32; E4M3 (no infinities) and E5M2 as in
"FP8 Formats for Deep Learning" (arXiv 2209.05433, table 1).
"""

from __future__ import annotations

import functools
from typing import Any, Final, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A numpy array; its element type is said in words where it matters."""

FRACTION_BITS: Final = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7, "F8_E4M3": 3, "F8_E5M2": 2}
_LOWEST_EXPONENT: Final = {"F64": -1022, "F32": -126, "F16": -14, "BF16": -126, "F8_E4M3": -6, "F8_E5M2": -14}
_HIGHEST_EXPONENT: Final = {"F64": 1023, "F32": 127, "F16": 15, "BF16": 127, "F8_E4M3": 8, "F8_E5M2": 15}

RAW: Final = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"), "F8_E5M2": np.dtype("u1"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U64": np.dtype("<u8"), "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"), "U8": np.dtype("u1"), "BOOL": np.dtype("u1"),
}  # fmt: skip
"""How the bytes of each safetensors type are held in numpy."""


def holds(dtype: str, other: str) -> bool:
    """Whether every finite value of type `other` is also a value of `dtype`."""
    lowest, others_lowest = (_LOWEST_EXPONENT[name] - FRACTION_BITS[name] for name in (dtype, other))
    return (
        FRACTION_BITS[dtype] >= FRACTION_BITS[other]
        and _HIGHEST_EXPONENT[dtype] >= _HIGHEST_EXPONENT[other]
        and lowest <= others_lowest
    )


def narrower(first: str, second: str) -> str:
    """The one of two types with fewer fraction bits."""
    return min(first, second, key=lambda name: FRACTION_BITS[name])


def widen_shuffled(raw: Array, dtype: str, room: Array) -> Array:
    """`widen`, but the values may come in another order, the same for every `raw` of that size and type.

    Two bfloat16 are taken apart as one 32-bit word, which is nearly twice as quick: all even ones come first.
    """
    if dtype != "BF16" or raw.size % 2:
        return widen(raw, dtype, room)
    half = raw.size // 2
    words = raw.view(np.uint32)
    bits = room[: raw.size].view(np.uint32)
    np.left_shift(words, 16, out=bits[:half])
    np.bitwise_and(words, 0xFFFF0000, out=bits[half:])
    return room[: raw.size]


def widen(raw: Array, dtype: str, room: Array) -> Array:
    """The values of `raw` (as RAW[dtype]) in float32, or float64 for F64; uses `room` (float32) where it needs some."""
    if dtype == "BF16":
        bits = room[: raw.size].view(np.uint32)
        bits[:] = raw
        np.left_shift(bits, 16, out=bits)
        return room[: raw.size]
    if dtype == "F16":
        room[: raw.size] = raw
        return room[: raw.size]
    if dtype in ("F8_E4M3", "F8_E5M2"):
        np.take(_table(dtype), raw, out=room[: raw.size])
        return room[: raw.size]
    return raw


def rounded(values: Array, dtype: str) -> Array:
    """Finite float32 or float64 `values` rounded to nearest, ties to even, at the fraction bits of `dtype`.

    Returned in the type of `values`, in a new array. Values beyond the range of `dtype` stay finite.
    """
    if dtype == "BF16" and values.dtype == np.float32:
        bits = values.view(np.uint32)
        bits = bits + (((bits >> 16) & 1) + 0x7FFF)
        bits &= 0xFFFF0000
        return bits.view(np.float32)
    _, exponent = np.frexp(values)  # values = fraction * 2**exponent with a fraction in [0.5, 1)
    unit = np.maximum(exponent - 1, _LOWEST_EXPONENT[dtype]) - FRACTION_BITS[dtype]
    wide = values.astype(np.float64)
    result: Array = np.ldexp(np.rint(np.ldexp(wide, -unit)), unit).astype(values.dtype)
    return result


@functools.cache
def _table(dtype: str) -> Array:
    """The float32 value of each of the 256 bit patterns of an 8-bit float."""
    fraction_bits = FRACTION_BITS[dtype]
    bias = 1 - _LOWEST_EXPONENT[dtype]
    bits = np.arange(256)
    sign = np.where(bits & 0x80, -1.0, 1.0)
    exponent = (bits & 0x7F) >> fraction_bits
    fraction = (bits & ((1 << fraction_bits) - 1)) / (1 << fraction_bits)
    normal = (1 + fraction) * 2.0 ** (exponent - bias)
    subnormal = fraction * 2.0 ** (1 - bias)
    values = sign * np.where(exponent == 0, subnormal, normal)
    if dtype == "F8_E4M3":
        values[(bits & 0x7F) == 0x7F] = np.nan
    else:
        top = exponent == 31
        values[top & (fraction == 0)] = sign[top & (fraction == 0)] * np.inf
        values[top & (fraction != 0)] = np.nan
    return values.astype(np.float32)
