"""Which tokens of a row are learned: the assistant's words and the token that ends them, or everything.

A chat template that marks the assistant's words ({% generation %}) gives the mask itself; for any other template
Unsloth's own `train_on_responses_only` finds the turns. Both are proved by tests that decode the learned tokens.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput
from . import templates
from .row_format import RowProblem

_SYSTEM = ("system", "developer")
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
IGNORED = -100  # the label that cross entropy leaves out (torch.nn.CrossEntropyLoss, ignore_index)


@dataclass(frozen=True)
class Example:
    """One training sequence; `labels` equals `input_ids` where a token is learned, else IGNORED."""

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def supervised(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class Supervisor:
    """Turns rows into examples for one tokenizer."""

    def __init__(self, tokenizer: Any, *, loss_on: str, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._learn_all = loss_on == "all"
        self._max_length = max_length

    def conversation(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> Example:
        """Messages through the chat template.

        Raises RowProblem when the template refuses or drops a part of them, and BadInput when there is no template or
        its turns cannot be told apart.
        """
        self._require_template()
        input_ids, mask = self._render(messages, tools)
        if self._learn_all:
            labels = list(input_ids)
        elif mask is not None:
            labels = [token if learned else IGNORED for token, learned in zip(input_ids, mask, strict=True)]
        else:
            labels = self._mark_responses({"input_ids": [input_ids]})["labels"][0]
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

    def _render(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> tuple[list[int], list[int] | None]:
        options = {"tools": tools or None}
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=self._marks_generation(),
                **options,
            )
            fragile = must_be_kept(messages, tools or [])
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, **options) if fragile else ""
        except Exception as error:  # a Jinja template may raise anything; its words are the explanation
            raise RowProblem(f"is refused by the chat template: {error}") from None
        refuse_losses(text, fragile)
        return rendered["input_ids"], rendered.get("assistant_masks")

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
        return Example(input_ids[:limit], labels[:limit], truncated=len(input_ids) > limit)


def must_be_kept(messages: list[dict[str, Any]], tools: list[Any]) -> list[tuple[str, str]]:
    """(what it is, its words) of the parts that some templates leave out without a word: system turns, tool calls."""
    parts = [("a system turn", message["content"].strip()) for message in messages if message["role"] in _SYSTEM]
    for message in messages:
        for call in message.get("tool_calls", ()):
            parts.append(("a tool call", call["function"]["name"]))
    names = (tool.get("function", tool).get("name") for tool in tools)
    parts.extend(("a tool", name) for name in names if isinstance(name, str))
    return [(what, words) for what, words in parts if words]


def refuse_losses(text: str, parts: list[tuple[str, str]]) -> None:
    """Raise RowProblem when `text`, a rendered conversation, lacks one of `parts`."""
    for what, words in parts:
        if words not in text:
            raise RowProblem(f"has {what} that the chat template leaves out ({words[:60]!r})")


def marks_generation(template: str) -> bool:
    """Whether a chat template marks the assistant's words itself."""
    return _GENERATION.search(template) is not None
