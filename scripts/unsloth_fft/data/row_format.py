"""Which format a data row is in, and the same row as a conversation, a prompt with its completion, or text.

Formats are recognised by content, never by file name. Pure functions over plain dictionaries, so the planner, the
data doctor and the trainer all see a row the same way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput

FORMATS = ("messages", "sharegpt", "alpaca", "prompt-completion", "text")
EXPECTED = (
    '{"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]}, {"instruction", "output"}, '
    '{"prompt", "completion"} or {"text"}'
)
ROLES = ("system", "developer", "user", "assistant", "tool")
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


class RowProblem(ValueError):
    """Why one row cannot be used, as a clause that follows "row N"; the caller adds which row it was."""


class EmptyRow(RowProblem):
    """The row is well-formed and holds nothing to learn: training leaves it out and counts it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns as [{"role", "content", ...}], and the tools the assistant may call."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and what follows it, both plain text."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Text:
    """Raw text, all of it to be learned."""

    text: str


Content = Conversation | Pair | Text


def recognise(row: dict[str, Any]) -> str:
    """The format of `row`, one of FORMATS. Raises RowProblem when it has the keys of none."""
    if isinstance(row.get("messages"), list):
        return "messages"
    if isinstance(row.get("conversations"), list):
        first = next((turn for turn in row["conversations"] if isinstance(turn, dict)), {})
        return "messages" if "role" in first else "sharegpt"
    if "instruction" in row and ("output" in row or "response" in row):
        return "alpaca"
    if "prompt" in row and "completion" in row:
        return "prompt-completion"
    if "text" in row:
        return "text"
    keys = ", ".join(sorted(map(str, row))[:8]) or "none"
    raise RowProblem(f"has the keys {keys[:200]}; expected one of {EXPECTED}")


def read(row: dict[str, Any], row_format: str) -> Content:
    """What `row` holds, checked. Raises RowProblem when it cannot be used, EmptyRow when it may be left out."""
    if row_format == "text":
        return Text(text_of(row))
    if row_format == "prompt-completion" and not isinstance(row.get("prompt"), list):
        return Pair(*prompt_and_completion_of(row))
    return Conversation(messages_of(row, row_format), tools_of(row))


def messages_of(row: dict[str, Any], row_format: str) -> list[dict[str, Any]]:
    """The conversation in `row` as [{"role", "content", ...}], tool calls and system turns kept.

    Raises RowProblem when a turn is not usable or the assistant never speaks.
    """
    if row_format == "messages":
        messages = _checked(row.get("messages", row.get("conversations")))
    elif row_format == "sharegpt":
        messages = _checked(_from_sharegpt(row))
    elif row_format == "alpaca":
        messages = _from_alpaca(row)
    elif row_format == "prompt-completion" and isinstance(row.get("prompt"), list):
        completion = row.get("completion")
        if not isinstance(completion, list):
            raise RowProblem("has a list of turns as prompt, so its completion must be one too")
        messages = _checked([*row["prompt"], *completion])
    else:
        raise RowProblem(f"holds no conversation: it was read as {row_format}")
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise RowProblem("has no assistant turn: the assistant never speaks, so there is nothing to learn")
    if not any(answer["content"].strip() or "tool_calls" in answer for answer in answers):
        raise EmptyRow("has only empty assistant turns, so there is nothing to learn")
    return messages


def tools_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool definitions of `row`; tables without nested columns may hold them as JSON. Raises RowProblem."""
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = _json(tools, "its tools") if tools.strip() else None
    if tools is None:
        return []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RowProblem("has tools that are no list of objects")
    return tools


def prompt_and_completion_of(row: dict[str, Any]) -> tuple[str, str]:
    """The two strings of a prompt-completion row. Raises RowProblem when either is not text."""
    prompt, completion = _text(row, "prompt"), _text(row, "completion")
    if not completion.strip():
        raise EmptyRow("has an empty completion, so there is nothing to learn")
    return prompt, completion


def text_of(row: dict[str, Any]) -> str:
    """The string of a text row. Raises RowProblem when it is not text or blank."""
    text = _text(row, "text")
    if not text.strip():
        raise EmptyRow("has an empty text")
    return text


def describe_problem(problem: RowProblem, number: int, where: str) -> BadInput:
    """The error for row `number` (counted from 1) of `where`."""
    return BadInput(f"{where}: row {number} {problem}", hint="mend or remove that row, then run the same command again")


def _checked(turns: Any) -> list[dict[str, Any]]:
    if not isinstance(turns, list) or not turns:
        raise RowProblem("has no messages")
    return [_checked_turn(turn, position) for position, turn in enumerate(turns, start=1)]


def _checked_turn(turn: Any, position: int) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise RowProblem(f"has a message {position} that is not an object")
    if "role" not in turn and "from" in turn:
        keys = ", ".join(map(str, turn))
        raise RowProblem(
            f"has a message {position} with the keys {keys:.60}; expected role and content, or ShareGPT's from and"
            " value under 'conversations' in place of 'messages'"
        )
    role = turn.get("role")
    if role not in ROLES:
        raise RowProblem(f"has a message {position} with the role {role!r:.60}; expected one of {', '.join(ROLES)}")
    kept = {key: value for key, value in turn.items() if value is not None}
    if kept.get("tool_calls"):
        kept["tool_calls"] = _tool_calls(kept["tool_calls"], position)
    else:
        kept.pop("tool_calls", None)
    content = kept.get("content")
    if isinstance(content, list):
        kept["content"] = _joined_parts(content, position)
    elif not isinstance(content, str):
        if role != "assistant" or "tool_calls" not in kept or content is not None:
            raise RowProblem(f"has a message {position} ({role}) without text content")
        kept["content"] = ""
    return kept


def _joined_parts(parts: list[Any], position: int) -> str:
    """The text of a turn written as [{"type": "text", "text": ...}]."""
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not parts or not all(isinstance(text, str) for text in texts):
        raise RowProblem(f"has a message {position} with parts that are not text; only text is trained on")
    return "".join(map(str, texts))


def _tool_calls(calls: Any, position: int) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise RowProblem(f"has a message {position} with tool_calls that are no list")
    return [_tool_call(call, position) for call in calls]


def _tool_call(call: Any, position: int) -> dict[str, Any]:
    """One call as {"type", "function": {"name", "arguments": object}}, other keys kept.

    Arguments written as JSON text, as the OpenAI API does, become the object: chat templates write them as JSON
    themselves, and would quote the text a second time.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem(f"has a message {position} with a tool call that names no function")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _json(arguments, f"the arguments of message {position}'s tool call") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise RowProblem(f"has a message {position} with tool call arguments that are no object")
    kept = {key: value for key, value in call.items() if key not in ("name", "arguments", "function")}
    return {"type": "function", **kept, "function": {**function, "arguments": arguments}}


def _from_sharegpt(row: dict[str, Any]) -> list[Any]:
    turns = [_from_sharegpt_turn(turn) for turn in row.get("conversations") or []]
    if turns and isinstance(row.get("system"), str) and row["system"].strip():
        turns.insert(0, {"role": "system", "content": row["system"]})
    return turns


def _from_sharegpt_turn(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    speaker, value = turn.get("from"), turn.get("value")
    if speaker == "function_call":
        calls = _json(value, "a function_call turn") if isinstance(value, str) else value
        return {"role": "assistant", "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}
    role = _SHAREGPT_ROLES.get(speaker.lower(), speaker) if isinstance(speaker, str) else speaker
    return {"role": role, "content": value}


def _from_alpaca(row: dict[str, Any]) -> list[dict[str, Any]]:
    question = _text(row, "instruction")
    extra = "input" if row.get("input") else "context"  # Dolly's name for the same thing
    if row.get(extra):
        question = f"{question}\n\n{_text(row, extra)}"
    answer = _text(row, "output" if "output" in row else "response")
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if row.get("system"):
        messages.insert(0, {"role": "system", "content": _text(row, "system")})
    return messages


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowProblem(f"has JSON in {what} that cannot be read") from None


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        kind = "missing" if value is None else f"not text but {type(value).__name__}"
        raise RowProblem(f"has a '{key}' that is {kind}")
    return value
