"""Which tokens of a row are learned: the assistant's words and the token that ends them, or everything.

A chat template that marks the assistant's words ({% generation %}) gives the mask itself; for any other template
Unsloth's own `train_on_responses_only` finds the turns. Both are proved by tests that decode the learned tokens.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput
from . import templates
from .messages import REASONING
from .row_problems import RowProblem
from .turns import find_turns

_SYSTEM = ("system", "developer")
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_NAMES = {"system": "a system turn", "developer": "a system turn", "tool": "a tool's result", "assistant": "an answer"}
_END_OF_REASONING = "</think>"
LOST_REASONING = (
    "some templates keep the reasoning of the last answer alone: make one row for each answer, or mark earlier answers"
    " with weight 0"
)
IGNORED = -100  # the label that cross entropy leaves out (torch.nn.CrossEntropyLoss, ignore_index)


@dataclass(frozen=True)
class Example:
    """One training sequence; `labels` equals `input_ids` where a token is learned, else IGNORED.

    `end` is how many tokens keep all that is to be learned, before cutting; 0 where nothing is lost by cutting.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool
    end: int = 0

    @property
    def supervised(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class Supervisor:
    """Turns rows into examples for one tokenizer."""

    def __init__(self, tokenizer: Any, *, loss_on: str, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._learn_all = loss_on == "all"
        self._max_length = max_length

    def conversation(
        self,
        messages: list[dict[str, Any]],
        tools: list[Any] | None = None,
        unlearned: frozenset[int] = frozenset(),
    ) -> Example:
        """Messages through the chat template; answers at the positions `unlearned` are read and not learned.

        Raises RowProblem when the template refuses or drops a part of them, when a message holds the template's own
        markers or a turn's answer cannot be told apart, and BadInput when there is no template or its turns cannot be
        told apart.
        """
        self._require_template()
        messages = naming_reasoning_as(self._tokenizer.chat_template, messages)
        refuse_markers(messages, None, self._tokenizer.eos_token)
        input_ids, mask = self._render(messages, tools or [], unlearned)
        marked = _said(messages, unlearned)
        if self._learn_all and not marked:
            return self._cut(input_ids, list(input_ids))
        if mask is not None:
            answers = [token if learned else IGNORED for token, learned in zip(input_ids, mask, strict=True)]
        else:
            refuse_markers(messages, self._answer_marker, None)
            answers = self._mark_responses({"input_ids": [input_ids]})["labels"][0]
        stretches = _stretches(answers)
        kept = kept_stretches(stretches, messages, unlearned)
        labels = list(input_ids) if self._learn_all else answers
        for start, stop in set(stretches) - set(kept):
            labels[start:stop] = [IGNORED] * (stop - start)
        return self._cut(input_ids, labels)

    def pair(self, prompt: str, completion: str) -> Example:
        """A prompt and its completion as plain text, ended by the end-of-sequence token."""
        start = self._begun(prompt)
        answer = self._tokenizer(completion, add_special_tokens=False)["input_ids"] + self._end()
        labels = [*start, *answer] if self._learn_all else [IGNORED] * len(start) + answer
        return self._cut([*start, *answer], labels)

    def windows(self, text: str) -> list[Example]:
        """Raw text, all of it learned, in consecutive windows of at most `max_length` tokens."""
        tokens = self._begun(text) + self._end()
        pieces = [tokens[start : start + self._max_length] for start in range(0, len(tokens), self._max_length)]
        return [Example(piece, list(piece), truncated=False) for piece in pieces if len(piece) > 1]

    def _render(
        self, messages: list[dict[str, Any]], tools: list[Any], unlearned: frozenset[int]
    ) -> tuple[list[int], list[int] | None]:
        """The conversation's tokens, and which are the assistant's where the template marks them itself."""
        options: dict[str, Any] = {"tools": tools or None}
        marks = self._marks_generation()
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
            if marks:
                rendered = self._tokenizer.apply_chat_template(
                    messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **options
                )
            else:  # as apply_chat_template tokenizes what it rendered (transformers 5.17.0)
                rendered = self._tokenizer(text, add_special_tokens=False)
        except Exception as error:  # a Jinja template may raise anything; its words are the explanation
            raise refused_by_template(error, messages) from None
        refuse_losses(text, must_be_kept(messages, tools, unlearned))
        return rendered["input_ids"], rendered.get("assistant_masks")

    @functools.cached_property
    def _answer_marker(self) -> str | None:
        """What stands before each answer in this template, None where it does not show."""

        def render(messages: list[dict[str, Any]], ask: bool) -> str:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))

        specials = sorted(self._tokenizer.all_special_tokens, key=len, reverse=True)
        try:
            return find_turns(render, specials, self._tokenizer.bos_token, self._tokenizer.eos_token).response
        except BadInput:
            return None

    def _require_template(self) -> None:
        if self._tokenizer.chat_template is None:
            raise BadInput(
                "the tokenizer has no chat template, and the data are conversations",
                hint=f"set data.chat_template to one of: {', '.join(templates.known_names())}",
            )

    @functools.cached_property
    def _mark_responses(self) -> Any:
        from unsloth import train_on_responses_only

        try:
            return train_on_responses_only(None, tokenizer=self._tokenizer, return_function=True)
        except ValueError as error:
            raise BadInput(
                f"the assistant's turns cannot be told apart in this chat template ({error})",
                hint='set data.loss_on to "all", or data.chat_template to a named template',
            ) from None

    def _marks_generation(self) -> bool:
        return marks_generation(self._tokenizer.chat_template or "")

    def _begun(self, text: str) -> list[int]:
        """Tokens of `text` as the tokenizer starts a sequence, with one begin token where `text` has its own too."""
        tokens: list[int] = self._tokenizer(text)["input_ids"]
        begin = self._tokenizer.bos_token_id
        return tokens[1:] if begin is not None and tokens[:2] == [begin, begin] else tokens

    def _end(self) -> list[int]:
        end = self._tokenizer.eos_token_id
        return [] if end is None else [end]

    def _cut(self, input_ids: list[int], labels: list[int]) -> Example:
        limit = self._max_length
        end = next((place for place in range(len(labels), 0, -1) if labels[place - 1] != IGNORED), 0)
        return Example(input_ids[:limit], labels[:limit], truncated=len(input_ids) > limit, end=end)


def must_be_kept(
    messages: list[dict[str, Any]], tools: list[Any], unlearned: frozenset[int] = frozenset()
) -> list[tuple[str, str]]:
    """(what it is, its words) of every part that a template may leave out without a word.

    Of an answer that is not learned the reasoning may go, as some templates take it out of earlier turns.
    """
    parts = []
    for position, message in enumerate(messages):
        is_context = position in unlearned
        words = message["content"].rpartition(_END_OF_REASONING)[2] if is_context else message["content"]
        parts.append((_NAMES.get(message["role"], f"a turn of the {message['role']}"), words.strip()))
        for key in () if is_context else REASONING:
            parts.append((f"'{key}'", str(message.get(key, "")).strip()))
        parts.extend(("a tool call", call["function"]["name"]) for call in message.get("tool_calls", ()))
    names = (tool.get("function", tool).get("name") for tool in tools)
    parts.extend(("a tool", name) for name in names if isinstance(name, str))
    return [(what, words) for what, words in parts if words]


def refuse_losses(text: str, parts: list[tuple[str, str]]) -> None:
    """Raise RowProblem when `text`, a rendered conversation, lacks one of `parts`."""
    closed: str | None = None
    for what, words in parts:
        if words in text:
            continue
        # A template may put white space between the parts of an answer, or write a tool's result as JSON.
        closed = "".join(text.split()) if closed is None else closed
        if not any("".join(form.split()) in closed for form in _written_forms(words)):
            hint = LOST_REASONING if what.strip("'") in REASONING or _END_OF_REASONING in words else None
            raise RowProblem(f"has {what} that the chat template leaves out ({words[:60]!r})", hint)


def _written_forms(words: str) -> tuple[str, ...]:
    return (words, json.dumps(words)[1:-1], json.dumps(words, ensure_ascii=False)[1:-1])


def naming_reasoning_as(template: Any, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with their reasoning under the name that `template` reads, where it reads another than they have."""
    if not isinstance(template, str):
        return messages
    read = [key for key in REASONING if re.search(rf"\b{key}\b", template)]
    if not read:
        return messages
    renamed = []
    for message in messages:
        given = next((key for key in REASONING if key in message), None)
        if given is not None and given not in read and isinstance(message[given], str):
            message = {**{key: value for key, value in message.items() if key != given}, read[0]: message[given]}
        renamed.append(message)
    return renamed


def refused_by_template(error: Exception, messages: list[dict[str, Any]]) -> RowProblem:
    """What a template's refusal means for the row, with what to do about the usual ones."""
    words, hint = str(error).strip() or type(error).__name__, None
    if "system" in words.lower() and messages and messages[0]["role"] in _SYSTEM:
        hint = (
            "this template takes no system turn: put its words before the first question, or choose another template"
            " with --chat-template NAME (data.chat_template)"
        )
    elif "alternate" in words.lower():
        hint = (
            "this template takes questions and answers in turn, beginning with a question: drop an opening answer, join"
            " turns of one speaker, or choose another template with --chat-template NAME (data.chat_template)"
        )
    return RowProblem(f"is refused by the chat template: {words}", hint)


def refuse_markers(messages: list[dict[str, Any]], marker: str | None, end: str | None) -> None:
    """Raise RowProblem when words of a turn would be taken for the template's own.

    What follows `marker`, which stands before answers, would be learned as an answer; an answer that holds `end`, the
    token that ends the sequence, would be learned as far as that, and as a place to stop.
    """
    marker = (marker or "").strip()
    for number, message in enumerate(messages, start=1):
        if end and message["role"] == "assistant" and end in message["content"]:
            raise RowProblem(
                f"has a message {number} (assistant) that holds {end!r}, which ends a sequence for this tokenizer: the"
                " model would learn to stop there",
                "write it otherwise, or remove that row",
            )
    for number, message in enumerate(messages, start=1):
        if marker and message["role"] != "assistant" and marker in message["content"]:
            raise RowProblem(
                f"has a message {number} ({message['role']}) that holds the chat template's own marker {marker!r}: what"
                " follows it would be learned as an answer",
                "give its turns as messages, or remove that row",
            )


def kept_stretches(
    stretches: list[tuple[int, int]], messages: list[dict[str, Any]], unlearned: frozenset[int]
) -> list[tuple[int, int]]:
    """Those of `stretches` (start, end), which are the answers in order, that are to be learned.

    Raises RowProblem where an answer that is not to be learned cannot be told from the others.
    """
    if not unlearned:
        return stretches
    answers = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    if len(stretches) != len(answers):  # a template may leave out a turn without words
        answers = [position for position in answers if position not in unlearned or turn_is_said(messages[position])]
    if len(stretches) == len(answers):
        return [part for part, position in zip(stretches, answers, strict=True) if position not in unlearned]
    if not _said(messages, unlearned):
        return stretches
    raise RowProblem(
        f"has answers that are not to be learned, and this chat template does not set each apart ({len(stretches)}"
        f" stretches for {len(answers)} answers)",
        "make one row for each answer that is to be learned, or choose another template with --chat-template NAME",
    )


def _said(messages: list[dict[str, Any]], unlearned: frozenset[int]) -> bool:
    """Whether an answer that is not to be learned has words: an empty one is left out of itself."""
    return any(turn_is_said(messages[position]) for position in unlearned)


def turn_is_said(message: dict[str, Any]) -> bool:
    """Whether a turn has words or calls."""
    return bool(message["content"].strip()) or "tool_calls" in message


def _stretches(labels: list[int]) -> list[tuple[int, int]]:
    """(start, end) of each run of learned tokens."""
    found, start = [], None
    for place, label in enumerate([*labels, IGNORED]):
        if label == IGNORED:
            if start is not None:
                found.append((start, place))
            start = None
        elif start is None:
            start = place
    return found


def marks_generation(template: str) -> bool:
    """Whether a chat template marks the assistant's words itself."""
    return _GENERATION.search(template) is not None
