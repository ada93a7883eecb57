"""One row from its JSON text, or why it is none. Standard library only.

Stricter than `json.loads`, because what it lets pass hurts later: a key given twice (the first value is lost), NaN,
half of a surrogate pair (no tokenizer takes it).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

# No row of text to train on comes near this; a file without line ends would otherwise fill the memory.
MAX_ROW_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be read, as a clause that follows "line N" ("is not valid JSON: ...")."""

    message: str
    hint: str = "mend or remove that line"


class Refused(ValueError):
    """Why one JSON value is refused; the caller adds where it stands."""


def parse_object(text: str) -> dict[str, Any]:
    """One row from its JSON text. Raises Refused saying why it is none."""
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Refused(f"is not valid JSON: {_broken(error)}") from None
    except RecursionError:
        raise Refused("is not valid JSON: nested too deeply") from None
    except Refused:
        raise
    except ValueError:  # a number of thousands of digits (sys.set_int_max_str_digits)
        raise Refused("holds a number too long to read") from None
    return checked_object(value, text)


def checked_object(value: Any, text: str) -> dict[str, Any]:
    """`value` when it is an object whose text can be encoded; `text` is the JSON it came from. Raises Refused."""
    if not isinstance(value, dict):
        raise Refused(f"is {_kind(value)}, an object was expected")
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(value)
    return value


def _broken(error: json.JSONDecodeError) -> str:
    """What breaks the JSON, and at which column counted from 1; of a text that was cut short, where it ends."""
    end = f"it ends after column {len(error.doc)}"
    if error.msg.startswith("Unterminated string"):
        return f"{end}, inside the string that begins at column {error.colno}"
    if error.pos >= len(error.doc):
        return f"{end} ({error.msg})"
    return f"{error.msg}, column {error.colno}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refused(f"has the key '{twice}' twice in one object")
    return value


def _constant(name: str) -> Any:
    raise Refused(f"is not valid JSON: {name} is no JSON number")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _refuse_lone_surrogates(value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused(f"holds half of a surrogate pair (\\u{ord(error.object[error.start]):04x})") from None


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
