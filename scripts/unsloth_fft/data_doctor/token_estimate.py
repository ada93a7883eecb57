"""How many tokens text has, without its tokenizer: estimated from the kinds of characters in it.

The weights were fitted on 2026-12-01 to the mean of three vocabularies of 128,000 tokens and more (Qwen's of dashscope
2.0.2, Mistral's Tekken of mistral-common, Llama 3's of llama3-tokenizer-js 1.2.0) over 780 texts of 25 kinds: English,
code, JSON, Markdown, and 20 other languages. Summed over a kind, true counts were 0.90 to 1.10 of the estimate in Latin
letters and code, 0.72 to 1.47 in other scripts. A vocabulary of 32,000 (Mistral's first) has about 1.2 times as many
tokens in Latin letters, and up to 2.3 times in other scripts. "Four characters a token" was off by up to 1.9 and 3.3.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ..data.row_format import Content, Conversation, Pair

WORDS = (
    "estimated from characters for a vocabulary of 128,000 tokens or more, within 15% in Latin letters and code, 50% in"
    " other scripts; one of 32,000 has a fifth more, in other scripts up to twice as many; exact with --model DIR"
)
ROLE_TOKENS = 5  # what a chat template puts around a turn: two markers, a role, a line break or two
# How true counts stood to the estimate: (lowest, highest) for Latin letters and code, and for other scripts.
LATIN_SPREAD, OTHER_SPREAD = (0.85, 1.15), (0.70, 1.50)
ALL_ROWS_TO, THEN_EVERY = 2000, 50  # rows looked at in full; of the others only the length is taken

_WORDS = re.compile(r"[A-Za-z]+")
_ACCENTED = re.compile("[\u00c0-\u024f]")
_SIGNS = re.compile(r"[!-/:-@\[-`{-~]+")
_DIGITS = re.compile(r"[0-9]")
_LINES = re.compile(r"\s*\n\s*")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
# Tokens a word, a letter of it from the fifth to the eighth, one beyond, and an accented letter: where these are less
# than one character in a hundred (English, code), and where they are more, in languages that vocabularies know less.
_PLAIN_TEXT, _ACCENTED_TEXT = (0.89, 0.06, 0.31, 0.98), (0.44, 0.49, 0.06, 0.98)
# Tokens a character: Greek, Cyrillic, Hebrew, Arabic, Indic, Thai, kana, Han, Hangul; Vietnamese
# letters are in their words' count.
_SCRIPTS = tuple(
    (re.compile(f"[{characters}]"), weight)
    for characters, weight in (
        ("\u0370-\u03ff", 0.59), ("\u0400-\u052f", 0.36), ("\u0590-\u05ff", 0.66), ("\u0600-\u06ff", 0.40),
        ("\u0900-\u0dff", 0.70), ("\u0e00-\u0e7f", 0.50), ("\u3040-\u30ff", 0.65), ("\u4e00-\u9fff", 0.78),
        ("\uac00-\ud7af", 0.65), ("\u1e00-\u1eff", 0.0),
    )
)  # fmt: skip
_OTHER_CHARACTER = 0.84


@dataclass(frozen=True)
class Estimate:
    """Tokens of all rows, and of the longest, cut nowhere; `least` to `most` is where the true number should lie."""

    tokens: int
    least: int
    most: int
    longest_row: int


def tokens_of(text: str) -> tuple[float, float]:
    """Estimated tokens of `text`: (in Latin letters, digits and ASCII signs; in everything else)."""
    accents = 0 if text.isascii() else len(_ACCENTED.findall(text))
    word, middle, end, accent = _ACCENTED_TEXT if accents * 100 > len(text) else _PLAIN_TEXT
    lengths = [len(found) for found in _WORDS.findall(text)]
    latin = word * len(lengths) + accent * accents
    latin += sum(middle * min(length - 4, 4) + end * max(length - 8, 0) for length in lengths if length > 4)
    signs = _SIGNS.findall(text)
    latin += 0.78 * len(signs) + 0.10 * sum(map(len, signs)) + 1.16 * len(_DIGITS.findall(text))
    latin += 1.41 * len(_LINES.findall(text))
    if text.isascii():
        return latin, 0.0
    beyond, other = len(_BEYOND_ASCII.findall(text)) - accents, 0.0
    for script, weight in _SCRIPTS:
        found = len(script.findall(text))
        beyond -= found
        other += weight * found
    return latin, other + _OTHER_CHARACTER * beyond


def texts_of(content: Content) -> tuple[list[str], int]:
    """What of a row becomes tokens, and how many turns it has."""
    if isinstance(content, Conversation):
        texts = [json.dumps(content.tools)] if content.tools else []
        for turn in content.messages:
            texts += [
                value if isinstance(value, str) else json.dumps(value) for key, value in turn.items() if key != "role"
            ]
        return texts, len(content.messages)
    return ([content.prompt, content.completion] if isinstance(content, Pair) else [content.text]), 0


class Estimator:
    """Takes rows and keeps sums alone: memory does not grow, and of many rows most are only measured."""

    def __init__(self) -> None:
        self._rows = self._characters = self._longest = 0
        self._sampled = self._around = 0
        self._latin = self._other = 0.0

    def add(self, content: Content) -> None:
        """Take one row."""
        texts, turns = texts_of(content)
        length = sum(map(len, texts))
        self._characters += length
        self._longest = max(self._longest, length)
        self._around += ROLE_TOKENS * turns
        if self._rows < ALL_ROWS_TO or self._rows % THEN_EVERY == 0:
            self._sampled += length
            for latin, other in map(tokens_of, texts):
                self._latin += latin
                self._other += other
        self._rows += 1

    def result(self) -> Estimate | None:
        """The estimate, or None where there was no text."""
        if not self._sampled:
            return None
        scale = self._characters / self._sampled
        latin, other = self._latin * scale + self._around, self._other * scale
        least, most = (latin * LATIN_SPREAD[end] + other * OTHER_SPREAD[end] for end in (0, 1))
        whole = latin + other
        longest = whole * self._longest / max(self._characters, 1)
        return Estimate(round(whole), round(least), round(most), round(longest))
