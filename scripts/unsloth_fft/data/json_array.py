"""Rows of one JSON array, read in pieces, so that a large .json file needs the memory of its largest row only."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .json_objects import DECODER, MAX_ROW_BYTES, Fault, Refused, checked_object
from .opening import opened

_PIECE = 2**20  # bytes read at once
_SPACE = " \t\r\n"


def scan_array(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Yield (line number, row or fault) for each item; a fault in the JSON itself is the last."""
    with opened(path) as file:
        window = _Window(file)
        try:
            yield from _items(window)
        except _Broken as fault:
            yield window.line, Fault(str(fault), "mend the JSON there")
        except Refused as problem:
            yield window.line, Fault(str(problem))


def _items(window: _Window) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    window.expect("[")
    first = True
    while window.another(first):
        first = False
        line, row = window.line, window.item()
        yield line, row


class _Broken(ValueError):
    """The text is not a JSON array from here on."""


class _Window:
    """The part of the file being parsed: text from `_at` on, and the number of the line it stands in."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def expect(self, character: str) -> None:
        """Pass over `character`, which must come next."""
        if self._next() != character:
            raise _Broken(f"expected '{character}'")
        self._at += 1

    def another(self, first: bool) -> bool:
        """Whether an item follows; passes over the comma before it, or over the bracket that ends the array."""
        character = self._next()
        if character == "]":
            self._at += 1
            if self._next() != "":
                raise _Broken("is not valid JSON: text after the array")
            return False
        if not first:
            if character != ",":
                raise _Broken("is not valid JSON: a comma or ']' was expected")
            self._at += 1
            if self._next() == "]":
                raise _Broken("is not valid JSON: a comma before ']'")
        return True

    def item(self) -> dict[str, Any] | Fault:
        """The object that starts here. An item that is readable but no object is a fault, and reading goes on."""
        value, end = self._decoded()
        text = self._text[self._at : end]
        self._at = end
        self.line += text.count("\n")
        try:
            return checked_object(value, text)
        except Refused as problem:
            return Fault(str(problem))

    def _decoded(self) -> tuple[Any, int]:
        while True:
            try:
                return DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Not the file's fault while the rest of the item may still be unread.
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - 16
                if not (unfinished and self._more()):
                    self.line += self._text.count("\n", self._at, error.pos)
                    raise _Broken(f"is not valid JSON: {error.msg}") from None
            except RecursionError:
                raise _Broken("is not valid JSON: nested too deeply") from None
            except Refused:
                raise
            except ValueError:
                raise _Broken("holds a number too long to read") from None

    def _next(self) -> str:
        """The next character that is no white space, not passed over; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self.line += self._text[self._at] == "\n"
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on; False at the end of the file. Raises _Broken for bytes that are no text and rows without end."""
        if self._ended:
            return False
        if len(self._text) - self._at > MAX_ROW_BYTES:
            raise _Broken(f"starts a row longer than {MAX_ROW_BYTES // 2**20} MiB")
        piece = self._file.read(max(_PIECE, len(self._text) - self._at))
        self._ended = not piece
        try:
            self._text = self._text[self._at :] + self._decoder.decode(piece, final=self._ended)
        except UnicodeDecodeError:
            raise _Broken("is followed by bytes that are not UTF-8 text") from None
        self._at = 0
        return bool(piece)
