"""Rows of a JSON Lines or JSON file, one at a time, with the line named when one is wrong. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json")


def read_json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every row of `path`: one object a line, or for a .json file one array of objects.

    Raises BadInput naming the line when it is not a JSON object, and when the file is missing or has no rows.
    """
    if not path.is_file():
        raise BadInput(f"data file not found: {path}", hint="check the path")
    found = False
    rows = _array_rows(path) if _is_array(path) else _line_rows(path)
    for row in rows:
        found = True
        yield row
    if not found:
        raise BadInput(f"data file {path} is empty: it has no rows", hint="expected one JSON object a line")


def _is_array(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def _array_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(files.read_json(path, "data file"), start=1):
        if not isinstance(row, dict):
            raise BadInput(f"{path}: row {number} is {_kind(row)}, an object was expected", hint="mend that row")
        yield row


def _line_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parsed(line, number, path)


def _parsed(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: line {number} is not UTF-8 text (byte {error.start} of the line)", hint="save the file as UTF-8"
        ) from None
    except (json.JSONDecodeError, RecursionError) as error:
        reason = (
            f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        )
        raise BadInput(f"{path}: line {number} is not valid JSON: {reason}", hint=f"mend line {number}") from None
    if not isinstance(row, dict):
        raise BadInput(
            f"{path}: line {number} is {_kind(row)}, an object was expected", hint="write one JSON object a line"
        )
    return row


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
