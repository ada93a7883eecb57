"""Characters that are no text: they break lines, move a terminal, or cannot be encoded."""

from __future__ import annotations

import functools
import re

# C0 and C1 with DEL, the two separators that break lines, halves of surrogate pairs (how Python reads names that are
# not UTF-8), and the marks that turn the direction of what follows.
CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069"
CONTROL_BUT_LAYOUT = CONTROL.replace("\x00-\x1f", "\x00-\x08\x0b\x0c\x0e-\x1f").replace("\u2028\u2029", "")


def escaped(text: str) -> str:
    """`text` on one line: each control character as Python writes it in a string (\\n, \\x1b, \\u2028)."""
    return text if text.isprintable() else _any_of(CONTROL).sub(_escape, text)


def kept_on_page(text: str) -> str:
    """`text` of several lines for a terminal: line ends and tabs stay, all else is escaped."""
    return text if text.isprintable() else _any_of(CONTROL_BUT_LAYOUT).sub(_escape, text)


def first_control(text: str) -> str | None:
    """The first control character of `text` as Python writes it, or None."""
    found = None if text.isprintable() else _any_of(CONTROL).search(text)
    return None if found is None else _escape(found)


@functools.cache
def _any_of(characters: str) -> re.Pattern[str]:
    """Compiled when first needed: a plan shows no control character."""
    return re.compile(f"[{characters}]")


def _escape(found: re.Match[str]) -> str:
    return ascii(found.group())[1:-1]
