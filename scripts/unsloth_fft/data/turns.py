"""Where a chat template puts the assistant's words, found by rendering a conversation of known words.

The same stretches that Unsloth's `train_on_responses_only` learns (unsloth_zoo 2026.10.9, dataset_utils.py), found in
text instead of tokens, so that they can be counted without torch; a test holds the two equal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..core.errors import BadInput

# Words no template or data set holds, and no template strips.
_USER, _ANSWER = "userprobe7q2", "answerprobe4z9"


@dataclass(frozen=True)
class Turns:
    """`response` stands before each answer; an answer runs through `end` (which it keeps) or up to one of `others`."""

    response: str
    end: str | None
    others: tuple[str, ...]

    @cached_property
    def _ends(self) -> re.Pattern[str]:
        parts = [f"(?P<kept>{re.escape(self.end)})"] if self.end else []
        parts.extend(re.escape(other) for other in self.others)
        return re.compile("|".join(parts))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each answer in `text`, in characters."""
        found: list[tuple[int, int]] = []
        at = text.find(self.response)
        while at >= 0:
            start = at + len(self.response)
            match = self._ends.search(text, start)
            if match is None:
                stop = len(text)
            elif self.end and match.group("kept"):
                stop = match.end()
            else:
                stop = match.start()
            if stop > start:
                found.append((start, stop))
            at = text.find(self.response, stop)
        return found


def find_turns(
    render: Callable[[list[dict[str, Any]], bool], str], specials: list[str], begin: str | None, end: str | None
) -> Turns:
    """The turns of the template behind `render`(messages, add_generation_prompt).

    Raises BadInput when the template does not show where an answer begins.
    """
    turns = [{"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}]
    whole = _rendered(render, turns * 3, False)
    before_answer = _between(whole, _USER, _ANSWER)
    before_question = _between(whole, _ANSWER, _USER)
    if before_answer is None or before_question is None:
        raise _no_turns()
    # A blank before the words is learned with them.
    before_answer, header = before_answer.rstrip(" \t"), _header(render, turns).rstrip(" \t")
    if header and before_answer.endswith(header) and header != before_answer:
        closing = before_answer[: -len(header)]
        response, instruction = header, before_question.removeprefix(closing)
    elif header == before_answer:
        shared = _shared_specials(before_answer, before_question, specials)
        response, instruction = before_answer[shared:], _stripped(before_question[shared:], end, begin)
    else:
        response, instruction = _stripped(before_answer, end, begin), _stripped(before_question, end, begin)
    if not response.strip():
        raise _no_turns()
    opener = response[: _shared_specials(response, instruction, specials)].rstrip()
    others = dict.fromkeys(part for part in (opener, begin, response, instruction) if part and part.strip())
    return Turns(response, end, tuple(others))


def _no_turns() -> BadInput:
    return BadInput(
        "the assistant's turns cannot be told apart in this chat template",
        hint='set data.loss_on to "all", or name a template with --chat-template',
    )


def _rendered(render: Callable[[list[dict[str, Any]], bool], str], messages: list[dict[str, Any]], ask: bool) -> str:
    try:
        return render(messages, ask)
    except Exception as error:  # a Jinja template may raise anything
        raise BadInput(
            f"the chat template cannot render a plain conversation: {error}", hint="name one with --chat-template"
        ) from None


def _between(text: str, left: str, right: str) -> str | None:
    """What stands between the second-last `left` and the `right` after it: the middle of the conversation."""
    pieces = re.findall(re.escape(left) + "(.*?)" + re.escape(right), text, flags=re.DOTALL)
    return pieces[1] if len(pieces) > 1 else None


def _header(render: Callable[[list[dict[str, Any]], bool], str], turns: list[dict[str, Any]]) -> str:
    """What asks the assistant to speak: the text that add_generation_prompt adds."""
    asked = _rendered(render, [*turns, turns[0]], True)
    plain = _rendered(render, [*turns, turns[0]], False)
    return asked.removeprefix(plain) if asked.startswith(plain) else ""


def _shared_specials(left: str, right: str, specials: list[str]) -> int:
    """How far both begin with the same special tokens and white space, in characters."""
    common, at = os.path.commonprefix([left, right]), 0
    while at < len(common):
        token = next((token for token in specials if common.startswith(token, at)), None)
        if token is None and not common[at].isspace():
            break
        at += len(token) if token else 1
    return at


def _stripped(text: str, *tokens: str | None) -> str:
    """`text` without blanks and the given tokens at its start; a line end stays, it sets the turn apart."""
    removable = [token for token in (*tokens, " ", "\t") if token]
    while token := next((token for token in removable if text.startswith(token)), None):
        text = text[len(token) :]
    return text
