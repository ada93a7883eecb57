"""Rows that are read as they stand and that somebody may not have meant so, counted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..data.row_format import Content, Conversation, Pair
from .report import Oddities

# {{name}} somewhere, or nothing but what pandas, Python and JavaScript write for a value that is missing.
_PLACEHOLDER = re.compile(r"\{\{\s*[A-Za-z_][\w .\-]*\}\}|\A\s*(nan|NaN|<NA>|None|null|undefined)\s*\Z")


class OddRows:
    """Counts as rows go by; `markers` are what this chat template sets turns apart with."""

    def __init__(self, markers: Sequence[str] = ()) -> None:
        self._markers = [marker for marker in markers if marker.strip()]
        self._templated = self._placeholders = self._unlearned = 0

    def add(self, content: Content) -> None:
        """Look at one row."""
        if isinstance(content, Conversation):
            self._unlearned += sum(_speaks(content, position) for position in content.unlearned)
            answers = [
                turn["content"]
                for position, turn in enumerate(content.messages)
                if turn["role"] == "assistant" and position not in content.unlearned
            ]
            self._placeholders += any(map(_PLACEHOLDER.search, answers))
            return
        words = f"{content.prompt}{content.completion}" if isinstance(content, Pair) else content.text
        self._templated += any(marker in words for marker in self._markers)
        if isinstance(content, Pair):
            self._placeholders += _PLACEHOLDER.search(content.completion) is not None

    def result(self) -> Oddities:
        """What was counted."""
        return Oddities(self._templated, self._placeholders, self._unlearned)


def _speaks(content: Conversation, position: int) -> bool:
    turn = content.messages[position]
    return bool(turn["content"].strip()) or "tool_calls" in turn


def sentences(found: Oddities) -> list[str]:
    """What to look at, in sentences that end with what to do."""
    said = []
    if found.templated_text:
        said.append(
            f"{found.templated_text:,} rows are plain text that holds this chat template's own markers: questions and"
            " headers are learned as well, and the end comes twice. Give the turns as messages."
        )
    if found.placeholders:
        said.append(
            f"{found.placeholders:,} rows have answers with unfilled placeholders like {{{{name}}}}, or none but a"
            " nan or null, which would be learned as they stand: fill them in."
        )
    return said
