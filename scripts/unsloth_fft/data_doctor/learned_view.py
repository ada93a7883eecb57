"""A row as the model reads it, with the part that is learned marked: what people look at before they train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from .report import Stretch

SAMPLES = 2  # rows shown
OPEN, CLOSE = "⟦", "⟧"
LEGEND = f"learned is what stands between {OPEN} and {CLOSE}"
_MOST = 600  # characters of a stretch that are shown


def of_text(text: str, spans: Sequence[tuple[int, int]]) -> list[Stretch]:
    """The stretches of `text`, of which `spans` (start, end) in characters are learned."""
    found, at = [], 0
    for start, stop in spans:
        found += [(text[at:start], False), (text[start:stop], True)]
        at = stop
    return [_shortened(words, learned) for words, learned in (*found, (text[at:], False)) if words]


def of_tokens(
    input_ids: Sequence[int], labels: Sequence[int], ignored: int, decode: Callable[[list[int]], str]
) -> list[Stretch]:
    """The stretches of a training sequence; the first token is predicted from nothing and never learned."""
    pairs = zip(input_ids, labels, strict=True)
    marked = [(token, place > 0 and label != ignored) for place, (token, label) in enumerate(pairs)]
    runs = groupby(marked, key=lambda pair: pair[1])
    return [_shortened(decode([token for token, _ in run]), learned) for learned, run in runs]


def line(stretches: Sequence[Stretch]) -> str:
    """The row as text with its marks; line ends are written as \\n, so that it stays one line."""
    marked = "".join(f"{OPEN}{part.text}{CLOSE}" if part.learned else part.text for part in stretches)
    return marked.replace("\r", "\\r").replace("\n", "\\n")


def _shortened(text: str, learned: bool) -> Stretch:
    if len(text) <= _MOST:
        return Stretch(text, learned)
    left_out = len(text) - _MOST
    return Stretch(f"{text[: _MOST // 2]} [... {left_out:,} characters ...] {text[-_MOST // 2 :]}", learned, True)
