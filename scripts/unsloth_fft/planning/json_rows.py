"""Rows of a JSON Lines or JSON file, one at a time, with the line named when one is wrong. Standard library only.

Stricter than `json.loads`, because what it lets pass hurts later: a key given twice (the first value is lost), NaN,
half of a surrogate pair (no tokenizer takes it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json")
# No row of text to train on comes near this; a file without line ends would otherwise fill the memory.
MAX_ROW_BYTES = 64 * 2**20
_BOM = b"\xef\xbb\xbf"
_ARRAY_START_BYTES = 4096
_ARRAY_OF_OBJECTS = re.compile(rb"\[\s*\{")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be read, as a clause that follows "line N" ("is not valid JSON: ...")."""

    message: str
    hint: str = "mend or remove that line"


class Refused(ValueError):
    """Why one JSON value is refused; the caller adds where it stands."""


def read_json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every row of `path`: one object a line, or for a .json file one array of objects.

    Raises BadInput naming the line when it is not a JSON object, and when the file is missing or has no rows.
    """
    found = False
    for line, row in scan_json_rows(path):
        if isinstance(row, Fault):
            raise BadInput(f"{path}: line {line} {row.message}", hint=row.hint)
        found = True
        yield row
    if not found:
        raise BadInput(f"data file {path} is empty: it has no rows", hint="expected one JSON object a line")


def scan_json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield (line number, row or what is wrong there) without stopping at a fault.

    Raises BadInput when the file is missing or cannot be opened.
    """
    if not path.is_file():
        raise BadInput(f"data file not found: {path}", hint="check the path")
    try:
        if _is_array(path):
            from .json_array import scan_array

            yield from scan_array(path)
        elif _is_array_named_as_lines(path):
            yield 1, Fault("starts a JSON array, and this file is named as JSON lines", "name it .json")
        else:
            yield from _scan_lines(path)
    except OSError as error:
        raise BadInput(f"data file {path} cannot be read: {error.strerror}", hint="check its permissions") from None


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


def encoding_fault(line: bytes, error: UnicodeDecodeError) -> Fault:
    """The fault of a line that is not UTF-8, naming UTF-16 where it looks like it."""
    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Fault("starts a UTF-16 file; UTF-8 was expected", "save the file as UTF-8")
    return Fault(f"is not UTF-8 text (byte {error.start + 1} of the line)", "save the file as UTF-8")


def _is_array(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        return file.read(64).removeprefix(_BOM).lstrip(b" \t\r\n")[:1] == b"["


def _is_array_named_as_lines(path: Path) -> bool:
    """Whether the file is one array of objects, on one line or on many; lines that are an array each are not."""
    if path.suffix.lower() == ".json":
        return False
    with path.open("rb") as file:
        first = b""
        while not first.strip() and (line := file.readline(MAX_ROW_BYTES)):
            first = line.removeprefix(_BOM)
        rest = file.read(_ARRAY_START_BYTES).strip()
    is_whole = first.rstrip().endswith(b"]")
    return _ARRAY_OF_OBJECTS.match(first.lstrip() + rest) is not None and not (is_whole and rest)


def _scan_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                yield number, Fault(f"is longer than {MAX_ROW_BYTES // 2**20} MiB", "write one JSON object a line")
                return
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.strip():
                yield number, _row_or_fault(line, path)


def _row_or_fault(line: bytes, path: Path) -> dict[str, Any] | Fault:
    try:
        # Without its line end: in a line that was cut short, that would be the first thing not expected.
        return parse_object(line.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError as error:
        return encoding_fault(line, error)
    except Refused as problem:
        if path.suffix.lower() == ".json" and line.strip() == b"{":
            return Fault(
                "starts one object that spans lines; expected an array of objects, or one object a line",
                "put the rows into one array: [{...}, {...}]",
            )
        if b"\0" in line:
            return Fault("holds a NUL byte, so it is not text", "save the file as UTF-8 text")
        return Fault(str(problem))


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
