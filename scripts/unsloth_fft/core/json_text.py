"""JSON text into values, stricter than `json.loads`: what it lets pass would hurt later.

No schema bounds NaN, infinities or a number of 400 digits, and no JSON that is written here holds them.
"""

from __future__ import annotations

import json
from typing import Any

LONGEST_INTEGER = 20  # digits: every 64-bit number, and none that a float could not hold


class Refused(ValueError):
    """Why a text is no JSON that can be used, in a few words."""


def parse(text: str, *, keys_once: bool = False) -> Any:
    """The value of `text`. With `keys_once` a key given twice is refused, of which a parser silently drops one.

    Raises Refused.
    """
    hook = _each_key_once if keys_once else None
    try:
        return json.loads(
            text, parse_constant=_no_number, parse_float=_finite, parse_int=_bounded, object_pairs_hook=hook
        )
    except json.JSONDecodeError as error:
        raise Refused(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Refused("nested too deeply") from None


def _no_number(text: str) -> Any:
    raise Refused(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Refused(f"the number {text[:40]} is too large")
    return number


def _bounded(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise Refused(f"the number {text[:40]}{'...' * (len(text) > 40)} is too large")
    return int(text)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refused(f"the key '{twice}' is given twice")
    return found
