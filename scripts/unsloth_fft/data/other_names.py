"""Parts of a row under names that are not read: system words, history, tools, more of the question, media.

Each changes what would be learned, and is refused with the flag that says what it is. What the row's own words hold
already (a copy, or what a prompt was made of) is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .row_problems import RowProblem

_SYSTEM = re.compile(
    r"(sys|system)[-_ ]?(message|msg|prompt|instruction|text|content|turn|role)s?|sys|preamble", re.IGNORECASE
)
_HISTORY = re.compile(
    r"(chat|conversation|dialog|dialogue|message|prior|past|previous)[-_ ]?"
    r"(history|turns|messages|conversations?|dialogs?|dialogues?)",
    re.IGNORECASE,
)
_TOOLS = re.compile(
    r"((available|all|given|allowed|candidate)[-_ ]?)?(tool|function|api)s?"
    r"([-_ ]?(list|definition|def|schema|spec|description)s?)?",
    re.IGNORECASE,
)
# Of a picture, video or sound: the thing and, perhaps, how it is given.
MEDIA = re.compile(
    r"(input[-_ ]?)?(image|img|picture|photo|video|audio|wav|pixel[-_ ]?value)s?"
    r"([-_ ]?(url|uri|path|file|filename|name|id|data|bytes|b64|base64|list)s?)?",
    re.IGNORECASE,
)
_MEDIA_FILE = re.compile(r".{1,400}\.(png|jpe?g|webp|gif|bmp|tiff?|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg|m4a)", re.I)
_MORE_OF_THE_QUESTION = ("instruction", "input", "context", "question", "query", "passage")


def refuse(row: dict[str, Any], unused: list[str], row_format: str, ignore: str) -> None:
    """Raise RowProblem for the first of `unused` that is a part by another name. `ignore` takes the key."""
    if row_format == "text":
        return
    for key in unused:
        part = _part(key, row.get(key))
        if part and not _is_copied(row, key, unused):
            raise RowProblem(f"has '{key}' with words that are not read under that name ({part})",
                             f"say so: --columns {part}={key}; {ignore.format(key=key)}")  # fmt: skip
        if row_format != "prompt-completion" or key.lower() not in _MORE_OF_THE_QUESTION:
            continue
        words = row.get(key)
        if isinstance(words, str) and not any(words.strip() in text for text in _read(row, unused)):
            raise RowProblem(
                f"has '{key}' beside prompt and completion: it would be left out",
                "say which column is what: --columns instruction=PROMPT input=OTHER output=COMPLETION, or write all of"
                f" the question under one name; {ignore.format(key=key)}",
            )


def is_media(key: str, value: Any) -> bool:
    """Whether `key` belongs to a picture, a video or a sound: by its name, or by the files that it lists."""
    if value in (None, "", [], {}) or isinstance(value, bool | int | float):
        return False
    if MEDIA.fullmatch(key):
        return True
    files = value if isinstance(value, list) else []
    return bool(files) and all(isinstance(file, str) and _MEDIA_FILE.fullmatch(file) for file in files)


def refuse_in_turn(turn: dict[str, Any], number: int) -> None:
    """Raise RowProblem where a turn holds what belongs beside the turns, or words that are no answer."""
    for key in ("tools", "functions"):
        if turn.get(key):
            raise RowProblem(f"has a message {number} with '{key}'; tools are read beside the turns",
                             f"move them to the row: {{\"messages\": [...], \"tools\": [...]}}; or say that they mean"
                             f" nothing: --ignore-columns 'messages[].{key}'")  # fmt: skip
    channel = turn.get("channel")
    if turn.get("role") == "assistant" and channel not in (None, "", "final"):
        raise RowProblem(
            f"has a message {number} with 'channel' {channel!r:.40}, which would be learned as an answer",
            "write reasoning as 'thinking' of the answer after it, and calls as tool_calls",
        )


def _part(key: str, value: Any) -> str | None:
    """The part that `key` is another name of."""
    if value in (None, "", [], {}) or isinstance(value, bool | int | float):
        return None
    if _SYSTEM.fullmatch(key):
        return "system"
    if _HISTORY.fullmatch(key):
        return "history"
    listed = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    if _TOOLS.fullmatch(key) and (listed or (isinstance(value, str) and value.lstrip()[:2] in ("[{", '{"'))):
        return "tools"
    return None


def _read(row: dict[str, Any], unused: list[str]) -> list[str]:
    """Every text of the row that is read, without the space around it."""
    return [text.strip() for name, value in row.items() if name not in unused for text in _texts(value)]


def _is_copied(row: dict[str, Any], key: str, unused: list[str]) -> bool:
    """Whether each text under `key` is one of those that are read, too."""
    return {text.strip() for text in _texts(row[key])} <= {*_read(row, unused), ""}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
