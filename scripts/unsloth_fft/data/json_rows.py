"""Rows of a JSON Lines or JSON file, one at a time, with the line named when one is wrong. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput
from .json_array import scan_array
from .json_objects import MAX_ROW_BYTES, Fault, Refused, parse_object
from .opening import DAMAGED, kind, opened

SUFFIXES = (".jsonl", ".ndjson", ".json")
_OF_A_ROW = ("tools", "functions")  # lists of objects that a row has
_BOM = b"\xef\xbb\xbf"
_ARRAY_START_BYTES = 4096
_ARRAY_OF_OBJECTS = re.compile(rb"\[\s*\{")


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
        if _first_character(path) == b"[" and kind(path) == ".json":
            yield from scan_array(path)
        elif _is_array_named_as_lines(path):
            yield 1, Fault("starts a JSON array, and this file is named as JSON lines", "name it .json")
        elif kind(path) == ".json" and (whole := _one_object(path)) is not None:
            yield 1, whole
        else:
            yield from _scan_lines(path)
    except DAMAGED:
        raise
    except OSError as error:
        raise BadInput(f"data file {path} cannot be read: {error.strerror}", hint="check its permissions") from None


def encoding_fault(line: bytes, error: UnicodeDecodeError) -> Fault:
    """The fault of a line that is not UTF-8, naming UTF-16 where it looks like it."""
    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Fault("starts a UTF-16 file; UTF-8 was expected", "save the file as UTF-8")
    return Fault(f"is not UTF-8 text (byte {error.start + 1} of the line)", "save the file as UTF-8")


def _first_character(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(64).removeprefix(_BOM).lstrip(b" \t\r\n")[:1]


def _one_object(path: Path) -> dict[str, Any] | Fault | None:
    """The row of a file that holds one object on several lines; None where its lines are to be read one by one."""
    with opened(path) as file:
        begun = b""
        while not begun and (line := file.readline(MAX_ROW_BYTES)):
            begun = line.removeprefix(_BOM).strip()
        if not begun.startswith(b"{") or begun.endswith(b"}"):
            return None  # rows line by line, as nearly always: the file is not read whole to see it
        text = (begun + b"\n" + files.read_at_most(file, MAX_ROW_BYTES + 1 - len(begun))).strip()
    first, _, rest = text.partition(b"\n")
    if not text.startswith(b"{") or not rest or len(text) > MAX_ROW_BYTES or first.rstrip().endswith(b"}"):
        return None
    try:
        value = parse_object(text.decode("utf-8"))
    except (UnicodeDecodeError, Refused):
        return None
    if inside := _list_of_rows(value):
        return Fault(
            f"starts one object with the keys {', '.join(map(str, value))[:100]}; its rows seem to stand under"
            f" '{inside}'",
            f"keep that list alone: [{{...}}, {{...}}], as jq '.{inside}' writes it",
        )
    return value


def _list_of_rows(value: dict[str, Any]) -> str | None:
    """The key of the list that holds rows, of an object that is no row itself."""
    for key, part in value.items():
        is_list = isinstance(part, list) and len(part) > 0 and all(isinstance(item, dict) for item in part)
        if is_list and not any({"role", "from", "human"} & item.keys() for item in part) and key not in _OF_A_ROW:
            return key
    return None


def _is_array_named_as_lines(path: Path) -> bool:
    """Whether the file is one array of objects, on one line or on many; lines that are an array each are not."""
    if kind(path) == ".json":
        return False
    with opened(path) as file:
        first = b""
        while not first.strip() and (line := file.readline(MAX_ROW_BYTES)):
            first = line.removeprefix(_BOM)
        rest = file.read(_ARRAY_START_BYTES).strip()
    is_whole = first.rstrip().endswith(b"]")
    return _ARRAY_OF_OBJECTS.match(first.lstrip() + rest) is not None and not (is_whole and rest)


def _scan_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    with opened(path) as file:
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
        if kind(path) == ".json" and line.strip() == b"{":
            return Fault(
                "starts one object that spans lines; expected an array of objects, or one object a line",
                "put the rows into one array: [{...}, {...}]",
            )
        if b"\0" in line:
            return Fault("holds a NUL byte, so it is not text", "save the file as UTF-8 text")
        return Fault(str(problem))
