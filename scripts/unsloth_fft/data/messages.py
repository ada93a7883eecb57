"""Dialogue as [{"role", "content", ...}], whatever the format they were written in, and which of them are learned.

What OpenAI, ShareGPT, LLaMA-Factory and ms-swift write differently is one thing here: tool calls, their results,
reasoning, parts of text, and marks that say which answers count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import other_names
from .row_keys import TEXT_ONLY, TURN_KEYS, is_one, is_unknown_mark, refuse_placeholders
from .row_problems import RowProblem

ROLES = ("system", "developer", "user", "assistant", "tool")
_ALIASES = {"function": "tool", "observation": "tool", "tool_response": "tool", "function_response": "tool"}
_CALLS = ("function_call", "tool_call")  # roles whose words are a call
_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
# Marks of a turn that say whether it is learned: OpenAI and mistral-finetune (weight), axolotl (train), ms-swift
# (loss), LLaMA-Factory (loss_weight), slime (step_loss_mask).
MARKS = ("weight", "train", "loss", "loss_weight", "loss_scale", "trainable", "loss_mask", "step_loss_mask")
REASONING = ("reasoning_content", "thinking", "reasoning")
_WORDS_OF_PART = ("text", "value", "content", "thinking", "reasoning")
_REASONING_PARTS = ("reasoning", "thinking")
_AS_TEXT = 'write the content as text, or as parts [{"type": "text", "text": "..."}]'
_MEDIA_PARTS = ("image", "image_url", "input_image", "video", "video_url", "audio", "audio_url", "input_audio", "file")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """`messages` as chat templates take them; `unlearned` are positions of answers that are context only."""

    messages: list[dict[str, Any]]
    unlearned: frozenset[int] = frozenset()

    def without_answers(self) -> Dialogue:
        """The same turns, none of them learned."""
        return Dialogue(self.messages, frozenset(range(len(self.messages))))

    def then(self, other: Dialogue) -> Dialogue:
        """These turns and those of `other` after them."""
        shifted = {len(self.messages) + position for position in other.unlearned}
        return Dialogue([*self.messages, *other.messages], self.unlearned | shifted)


def checked(turns: Any) -> Dialogue:
    """`turns` of any of these formats. Raises RowProblem when one cannot be used, with its number counted from 1."""
    if not isinstance(turns, list) or not turns:
        raise RowProblem("has no messages")
    messages: list[dict[str, Any]] = []
    unlearned = set()
    for number, turn in enumerate(_unpaired(turns), start=1):
        message, is_learned = _checked_turn(turn, number)
        if not is_learned:
            unlearned.add(len(messages))
        messages.append(message)
    return Dialogue(messages, frozenset(unlearned))


def _unpaired(turns: list[Any]) -> list[Any]:
    """Pairs {"human", "assistant"} (ms-swift) as two turns each; anything else as it is."""
    if not all(isinstance(turn, dict) and set(turn) == {"human", "assistant"} for turn in turns):
        return turns
    return [
        {"role": role, "content": pair[key]}
        for pair in turns
        for key, role in (("human", "user"), ("assistant", "assistant"))
    ]


def from_sharegpt(turns: list[Any]) -> list[Any]:
    """Dialogue with from and value as turns with role and content; their other keys are kept."""
    return [_from_sharegpt_turn(turn) for turn in turns]


def _from_sharegpt_turn(turn: Any) -> Any:
    if not isinstance(turn, dict) or "role" in turn:
        return turn
    speaker = turn.get("from")
    kept = {key: value for key, value in turn.items() if key not in ("from", "value")}
    role = _SHAREGPT_ROLES.get(speaker.lower(), speaker.lower()) if isinstance(speaker, str) else speaker
    known = role in (*ROLES, *_ALIASES, *_CALLS)
    return {**kept, "role": role if known else speaker, "content": turn.get("value")}


def from_history(history: Any) -> list[dict[str, Any]]:
    """Earlier questions and answers [[question, answer], ...] as turns. Raises RowProblem when they are none."""
    turns = []
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(words, str) for words in pair):
            raise RowProblem("has a history that is no list of [question, answer]")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _checked_turn(turn: Any, number: int) -> tuple[dict[str, Any], bool]:
    """The turn, and whether it is learned where it is an answer."""
    if not isinstance(turn, dict):
        raise RowProblem(f"has a message {number} that is not an object")
    if "role" not in turn and "from" in turn:
        keys = ", ".join(map(str, turn))
        raise RowProblem(
            f"has a message {number} with the keys {keys:.60}; expected role and content, or ShareGPT's from and"
            " value under 'conversations' in place of 'messages'"
        )
    kept = {key: value for key, value in turn.items() if value is not None}
    role = kept.get("role")
    role = _ALIASES.get(role, role) if isinstance(role, str) else role
    if role in _CALLS:
        kept["role"], kept["tool_calls"] = "assistant", _called(kept.pop("content", None), str(role))
    elif role in ROLES:
        kept["role"] = role
    else:
        raise RowProblem(
            f"has a message {number} with the role {role!r:.60}; expected one of {', '.join(ROLES)}", _role_hint(role)
        )
    is_learned = _take_marks(kept, number)
    _refuse_media(kept, number)
    other_names.refuse_in_turn(kept, number)
    _take_calls(kept, number)
    _take_content(kept, number)
    if kept["role"] != "assistant":
        refuse_placeholders(kept["content"], f"a message {number}")
    return kept, is_learned


def _role_hint(role: Any) -> str | None:
    if not isinstance(role, str):
        return 'write each turn as {"role": "user", "content": "..."}'
    meant = _SHAREGPT_ROLES.get(role.lower(), role.lower())
    return f"write '{meant}' for it" if meant in ROLES else None


def _called(words: Any, role: str) -> list[Any]:
    calls = read_json(words, f"a {role} turn") if isinstance(words, str) else words
    return calls if isinstance(calls, list) else [calls]


def _take_marks(turn: dict[str, Any], number: int) -> bool:
    """Whether the turn's own marks let it be learned; they are taken out, for they are no words."""
    learned = set()
    for key in MARKS:
        if key not in turn:
            continue
        value = turn.pop(key)
        if not isinstance(value, int | float) or value not in (0, 1):
            raise RowProblem(
                f"has a message {number} with '{key}' {value!r:.40}; a turn is learned (1) or not (0) here",
                f"write 0 or 1, or remove '{key}'",
            )
        if is_one(value) and turn["role"] != "assistant":
            raise RowProblem(
                f"has a message {number} ({turn['role']}) that is to be learned ('{key}' {value!r}); of single turns"
                " only the assistant's are",
                f"remove that '{key}', or learn every token: data.loss_on \"all\" (--loss-on all)",
            )
        learned.add(is_one(value))
    if len(learned) > 1:
        raise RowProblem(f"has a message {number} whose marks contradict each other", "leave one of them")
    for key in turn:
        unknown = key not in TURN_KEYS and (is_unknown_mark(key, turn[key]) or _is_judgement(key, turn[key]))
        if unknown and turn["role"] == "assistant":
            raise RowProblem(
                f"has a message {number} with '{key}' {turn[key]!r:.40}, which looks like a mark of what is learned and"
                " is not read here",
                f"write it as weight 0 or 1, or say that it means nothing: --ignore-columns 'messages[].{key}'",
            )
    if "train_detail" in turn:
        raise RowProblem(f"has a message {number} with 'train_detail'; a turn is learned whole or not at all here",
                         "remove it, or mark the whole turn with train false")  # fmt: skip
    return learned != {False}


def _is_judgement(key: str, value: Any) -> bool:
    return key == "label" and isinstance(value, bool | int)


def _refuse_media(turn: dict[str, Any], number: int) -> None:
    for key, value in turn.items():
        if key not in TURN_KEYS and other_names.is_media(key, value):
            raise RowProblem(f"has a message {number} with '{key}'; only text is trained on", TEXT_ONLY)


def _take_calls(turn: dict[str, Any], number: int) -> None:
    """tool_calls in one shape, from OpenAI's earlier function_call as well."""
    legacy = turn.pop("function_call", None)
    if legacy:
        if turn.get("tool_calls"):
            raise RowProblem(f"has a message {number} with both tool_calls and function_call", "leave one of them")
        turn["tool_calls"] = [legacy]
    if turn.get("tool_calls"):
        turn["tool_calls"] = tool_calls(turn["tool_calls"], number)
    else:
        turn.pop("tool_calls", None)


def _take_content(turn: dict[str, Any], number: int) -> None:
    """Content as one string; of parts, reasoning and tool calls become what they are elsewhere."""
    content = turn.get("content")
    if isinstance(content, list):
        _take_parts(turn, content, number)
    elif not isinstance(content, str):
        has_calls = turn["role"] == "assistant" and "tool_calls" in turn
        if not has_calls or content is not None:
            raise RowProblem(
                f"has a message {number} ({turn['role']}) without text content{_instead(content)}",
                "write its words as text; a turn that says nothing may go" if content is None else _AS_TEXT,
            )
        turn["content"] = ""


def _instead(content: Any) -> str:
    return "" if content is None else f": it is {type(content).__name__}"


def _take_parts(turn: dict[str, Any], parts: list[Any], number: int) -> None:
    texts, reasoning, calls = [], [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        words = next((part[key] for key in _WORDS_OF_PART if isinstance(part.get(key), str)), None) if kind else None
        if kind in ("text", "input_text", "output_text") and words is not None:
            _refuse_marked_part(part, number)
            texts.append(words)
        elif kind in _REASONING_PARTS and words is not None and turn["role"] == "assistant":
            reasoning.append(words)
        elif kind == "tool_call" and words is not None and turn["role"] == "assistant":
            calls += _called(words, "tool_call")
        else:
            raise RowProblem(f"has a message {number} with {_part_name(kind)}; only text is trained on",
                             TEXT_ONLY if kind in _MEDIA_PARTS else _AS_TEXT)  # fmt: skip
    if not parts:
        raise RowProblem(f"has a message {number} with parts that are not text; only text is trained on", _AS_TEXT)
    if calls:
        turn["tool_calls"] = [*turn.get("tool_calls", []), *tool_calls(calls, number)]
    if reasoning:
        turn["reasoning_content"] = "".join(reasoning)
    turn["content"] = "".join(texts)


def _refuse_marked_part(part: dict[str, Any], number: int) -> None:
    for key in MARKS:
        if part.get(key) is not None and not is_one(part[key]):
            raise RowProblem(f"has a message {number} with '{key}' beside a part of it; a turn is learned whole or not"
                             " at all here", "mark the whole turn, or make two turns of it")  # fmt: skip


def _part_name(kind: Any) -> str:
    return f"a part of the type {kind!r:.40}" if isinstance(kind, str) else "parts that are not text"


def tool_calls(calls: Any, number: int) -> list[dict[str, Any]]:
    """The calls of message `number`, each as {"type", "function": {"name", "arguments": object}}, other keys kept.

    Arguments written as JSON text, as the OpenAI API does, become the object: chat templates write them as JSON
    themselves, and would quote the text a second time.
    """
    if not isinstance(calls, list):
        raise RowProblem(f"has a message {number} with tool_calls that are no list")
    return [_tool_call(call, number) for call in calls]


def _tool_call(call: Any, number: int) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem(f"has a message {number} with a tool call that names no function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = read_json(arguments, f"the arguments of message {number}'s tool call") if arguments.strip() else {}
    arguments = {} if arguments is None else arguments  # a call without arguments, written as null by some servers
    if not isinstance(arguments, dict):
        raise RowProblem(f"has a message {number} with tool call arguments that are no object")
    kept = {key: value for key, value in call.items() if key not in ("name", "arguments", "function")}
    return {"type": "function", **kept, "function": {**function, "arguments": arguments}}


def read_json(text: str, what: str) -> Any:
    """The value that `text` is. Raises RowProblem when it cannot be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowProblem(f"has JSON in {what} that cannot be read") from None
