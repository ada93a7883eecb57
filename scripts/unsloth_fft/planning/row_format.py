"""Which format a data row is in, and the same row as messages or text.

Formats are recognised by content, never by file name. Pure functions over plain dictionaries, so the planner, the
data doctor and the trainer all see a row the same way.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import BadInput

FORMATS = ("messages", "sharegpt", "alpaca", "prompt-completion", "text")
EXPECTED = (
    '{"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]}, {"instruction", "output"}, '
    '{"prompt", "completion"} or {"text"}'
)
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_call": "assistant",
}
_ROLES = ("system", "developer", "user", "assistant", "tool")


class RowProblem(ValueError):
    """Why one row cannot be used; the caller adds which row it was."""


def recognise(row: dict[str, Any]) -> str:
    """The format of `row`, one of FORMATS. Raises RowProblem when it has the keys of none."""
    if isinstance(row.get("messages"), list):
        return "messages"
    if isinstance(row.get("conversations"), list):
        first = next((turn for turn in row["conversations"] if isinstance(turn, dict)), {})
        return "messages" if "role" in first else "sharegpt"
    if "instruction" in row and "output" in row:
        return "alpaca"
    if "prompt" in row and "completion" in row:
        return "prompt-completion"
    if "text" in row:
        return "text"
    raise RowProblem(f"has the keys {sorted(row)}; expected one of {EXPECTED}")


def messages_of(row: dict[str, Any], row_format: str) -> list[dict[str, Any]]:
    """The conversation in `row` as [{"role", "content", ...}], tool calls and system turns kept.

    Raises RowProblem when a turn is not usable or the assistant never speaks.
    """
    if row_format == "messages":
        messages = _checked(row.get("messages", row.get("conversations")))
    elif row_format == "sharegpt":
        messages = _checked([_from_sharegpt(turn) for turn in row.get("conversations") or []])
    elif row_format == "alpaca":
        messages = _from_alpaca(row)
    else:
        raise RowProblem(f"a {row_format} row holds no conversation")
    if not any(message["role"] == "assistant" for message in messages):
        raise RowProblem("the assistant never speaks, so there is nothing to learn")
    return messages


def prompt_and_completion_of(row: dict[str, Any]) -> tuple[str, str]:
    """The two strings of a prompt-completion row. Raises RowProblem when either is not text."""
    return _text(row, "prompt"), _text(row, "completion")


def text_of(row: dict[str, Any]) -> str:
    """The string of a text row. Raises RowProblem when it is not text or blank."""
    text = _text(row, "text")
    if not text.strip():
        raise RowProblem("its text is empty")
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
        raise RowProblem(f"message {position} is not an object")
    if turn.get("role") not in _ROLES:
        raise RowProblem(f"message {position} has the role {turn.get('role')!r}; expected one of {', '.join(_ROLES)}")
    kept = {key: value for key, value in turn.items() if value is not None}
    if not isinstance(kept.get("content"), str):
        if turn["role"] == "assistant" and kept.get("tool_calls"):
            kept["content"] = ""
        else:
            raise RowProblem(f"message {position} ({turn['role']}) has no text content")
    return kept


def _from_sharegpt(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    role = _SHAREGPT_ROLES.get(str(turn.get("from", "")).lower(), turn.get("from"))
    return {"role": role, "content": turn.get("value")}


def _from_alpaca(row: dict[str, Any]) -> list[dict[str, Any]]:
    question = _text(row, "instruction")
    if row.get("input"):
        question = f"{question}\n\n{_text(row, 'input')}"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": _text(row, "output")}]
    if row.get("system"):
        messages.insert(0, {"role": "system", "content": _text(row, "system")})
    return messages


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise RowProblem(f"'{key}' is {type(value).__name__}, a string was expected")
    return value
