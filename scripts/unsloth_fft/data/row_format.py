"""Which format a data row is in, and the same row as a conversation, a prompt with its completion, or text.

Formats are recognised by content, never by file name. Pure functions over plain dictionaries, so the planner, the
data doctor and the trainer all see a row the same way.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput
from . import messages, row_keys
from .formats import EXPECTED
from .messages import Dialogue, read_json
from .row_problems import EmptyRow, RowProblem

# Names that questions and answers have in data that peers ship; proposed, never taken unasked.
_QUESTIONS = ("prompt", "question", "query", "input", "inputs", "instruction", "problem", "user", "human", "source")
_ANSWERS = ("completion", "answer", "response", "output", "outputs", "target", "targets", "assistant", "solution")
_CONVERSATIONS = ("conversation", "messages", "conversations", "dialogue", "dialog", "turns", "chat")
# Parts that a table without nested columns holds as JSON text.
_NESTED = ("messages", "conversations", "history", "tools", "functions", "prompt", "completion")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns as [{"role", "content", ...}], the tools the assistant may call, and the turns that are context only.

    `unlearned` are positions in `messages`; every other assistant turn is learned.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    unlearned: frozenset[int] = frozenset()


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


class Reader:
    """Reads the rows of one source in order: all in one format, their columns renamed, unused keys counted.

    `form` is one of FORMATS, or "auto" until a row was recognised. `columns` says what the file calls a part that is
    named otherwise here ({"prompt": "question"}); `ignored` are keys that the user says mean nothing.
    """

    def __init__(
        self, form: str = "auto", columns: Mapping[str, str] | None = None, ignored: Sequence[str] = ()
    ) -> None:
        self.form = form
        self.unused: Counter[str] = Counter()
        self._columns = dict(columns or {})
        self._ignored = frozenset(ignored)
        self._kind: type | None = None

    def read(self, row: dict[str, Any]) -> Content:
        """What `row` holds. Raises RowProblem when it cannot be used, EmptyRow when it may be left out."""
        named = self._named(row)
        if self.form == "auto":
            self.form = recognise(named)
        for key in (*row_keys.unused_keys(named, self.form), *(self._ignored & row.keys())):
            self.unused[key] += 1
        try:
            content = read(named, self.form)
        except RowProblem as problem:
            raise self._another_format(named) or problem from None
        self._refuse_mixture(content)
        return content

    def _another_format(self, row: dict[str, Any]) -> RowProblem | None:
        """What is wrong with a row that has none of the keys of the rows before it, and those of another format."""
        if any(key in row for key in row_keys.USED[self.form]):
            return None
        try:
            other = recognise(row)
        except RowProblem:
            return None
        return RowProblem(f"is {other}, and rows before it are {self.form}",
                          "give each format a source of its own: data.sources in the parameters file")  # fmt: skip

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        kept = row_keys.without(row, self._ignored)
        taken = {name: kept.pop(column) for name, column in self._columns.items() if column in kept}
        for name in taken.keys() & kept.keys():
            self.unused[name] += 1
        if self._columns and not taken:
            wanted = ", ".join(map(repr, self._columns.values()))
            raise RowProblem(f"has no column {wanted}, which --columns names; it has {_key_names(row)}",
                             "mend --columns (data.columns in the parameters file)")  # fmt: skip
        return {**kept, **taken}

    def _refuse_mixture(self, content: Content) -> None:
        """Some rows through the chat template and some plain, in one source, is nobody's intention."""
        if self._kind is None:
            self._kind = type(content)
        elif self._kind is not type(content):
            plain, templated = "plain text", "turns (a list, a system or a history)"
            here, before = (templated, plain) if isinstance(content, Conversation) else (plain, templated)
            raise RowProblem(
                f"is {here}, and rows before it are {before}: only turns go through the chat template",
                "name the columns as turns for all rows: --columns instruction=PROMPT output=COMPLETION",
            )


def recognise(row: dict[str, Any]) -> str:
    """The format of `row`, one of FORMATS. Raises RowProblem when it has the keys of none."""
    if _is_nested(row.get("messages")):
        return "messages"
    if _is_nested(row.get("conversations")):
        turns = _nested(row, "conversations")
        first = next((turn for turn in turns if isinstance(turn, dict)), {}) if isinstance(turns, list) else {}
        return "messages" if "role" in first else "sharegpt"
    if "instruction" in row and ("output" in row or "response" in row):
        return "alpaca"
    if "prompt" in row and "completion" in row:
        return "prompt-completion"
    if "text" in row:
        return "text"
    raise RowProblem(*_unrecognised(row))


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] in ("[", "{"))


def _key_names(row: dict[str, Any]) -> str:
    return f"the keys {', '.join(sorted(map(str, row))[:8])[:200] or 'none'}"


def _unrecognised(row: dict[str, Any]) -> tuple[str, str | None]:
    """(what `row` has, the line that would make it known)."""
    row_keys.refuse_answer_lists(row)
    words, proposed = f"has {_key_names(row)}; expected one of {EXPECTED}", proposed_columns(row)
    if "input_ids" in row:
        return f"is tokenized already ({_key_names(row)})", "give the rows as text: they go through this tokenizer here"
    for key in ("messages", "conversations"):
        if isinstance(row.get(key), str):
            return f"has '{key}' that is text and no JSON", "write the turns as a list"
        if isinstance(row.get(key), dict) and any(isinstance(part, list) for part in row[key].values()):
            return (f"has '{key}' that is columns, not turns ({', '.join(map(str, row[key]))[:60]})",
                    "write each turn as an object with role and content, in one list")  # fmt: skip
    try:
        row_keys.refuse_other_training(row, "unknown")
    except RowProblem as problem:
        return f"{problem} ({_key_names(row)})", problem.hint
    if proposed is None:
        return words, None
    named = "say which column is what: --columns "
    hint = f"{named}{proposed}"
    if proposed.startswith("prompt="):
        chat = proposed.replace("prompt=", "instruction=", 1).replace(" completion=", " output=", 1)
        beside = any(key in row for key in row_keys.BESIDE)  # words that only turns can carry
        hint = f"{named}{chat}" if beside else f"{hint} (plain text) or --columns {chat} (turns of a chat)"
    return words, hint


def proposed_columns(row: dict[str, Any]) -> str | None:
    """What --columns may say of a row without a known format, as it is pasted; None where nothing looks usual."""
    by_name = {str(key).lower(): str(key) for key in reversed(list(row))}
    turns = next((by_name[name] for name in _CONVERSATIONS if _holds_objects(row.get(by_name.get(name, "")))), None)
    if turns:
        return f"messages={_quoted(turns)}"
    question = next((by_name[name] for name in _QUESTIONS if name in by_name), None)
    answer = next((by_name[name] for name in _ANSWERS if name in by_name and by_name[name] != question), None)
    if question and answer:
        return f"prompt={_quoted(question)} completion={_quoted(answer)}"
    text = next((by_name[name] for name in ("text", "content", "document", "body") if name in by_name), None)
    return f"text={_quoted(text)}" if text else None


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _quoted(column: str) -> str:
    return column if column.replace("_", "").replace("-", "").isalnum() else f"'{column}'"


def read(row: dict[str, Any], row_format: str) -> Content:
    """What `row` holds, checked. Raises RowProblem when it cannot be used, EmptyRow when it may be left out."""
    row_keys.refuse_other_training(row, row_format)
    if row_format == "text":
        _refuse_beside_text(row)
        return Text(text_of(row))
    if row_format == "prompt-completion" and not _has_turns(row):
        return Pair(*prompt_and_completion_of(row))
    turns = _turns(row, row_format)
    return Conversation(turns.messages, tools_of(row), turns.unlearned)


def messages_of(row: dict[str, Any], row_format: str) -> list[dict[str, Any]]:
    """The conversation in `row` as [{"role", "content", ...}], tool calls and system turns kept.

    Raises RowProblem when a turn is not usable or the assistant never speaks.
    """
    return _turns(row, row_format).messages


def _turns(row: dict[str, Any], row_format: str) -> Dialogue:
    turns = _with_what_stands_beside(row, _own_turns(row, row_format))
    answers = [position for position, turn in enumerate(turns.messages) if turn["role"] == "assistant"]
    if not answers:
        raise RowProblem("has no assistant turn: the assistant never speaks, so there is nothing to learn")
    blank = {position for position in answers if is_blank(turns.messages[position])}
    unlearned = (turns.unlearned | blank) & set(answers)
    if blank == set(answers):
        raise EmptyRow("has only empty assistant turns, so there is nothing to learn")
    if unlearned == set(answers):
        raise EmptyRow("has no assistant turn that is to be learned")
    return Dialogue(turns.messages, frozenset(unlearned))


def is_blank(turn: dict[str, Any]) -> bool:
    """Whether an answer says and calls nothing."""
    said = any(str(turn.get(key) or "").strip() for key in ("content", *messages.REASONING))
    return not said and "tool_calls" not in turn


def _own_turns(row: dict[str, Any], row_format: str) -> Dialogue:
    if row_format == "messages":
        return messages.checked(_nested(row, "messages" if "messages" in row else "conversations"))
    if row_format == "sharegpt":
        turns = _nested(row, "conversations")
        return messages.checked(messages.from_sharegpt(turns) if isinstance(turns, list) else turns)
    if row_format == "alpaca":
        return messages.checked(_from_alpaca(row))
    if row_format == "prompt-completion":
        return _from_pair(row)
    raise RowProblem(f"holds no conversation: it was read as {row_format}")


def _from_pair(row: dict[str, Any]) -> Dialogue:
    """A prompt of turns and its completion, of which the completion alone is learned."""
    prompt, completion = _nested(row, "prompt"), _nested(row, "completion")
    if isinstance(prompt, list) != isinstance(completion, list):
        raise RowProblem("has turns on one side and text on the other: of prompt and completion either both are lists"
                         " of turns or both are text")  # fmt: skip
    if not isinstance(prompt, list):
        prompt, completion = [{"role": "user", "content": prompt}], [{"role": "assistant", "content": completion}]
    return messages.checked(prompt).without_answers().then(messages.checked(completion))


def _with_what_stands_beside(row: dict[str, Any], turns: Dialogue) -> Dialogue:
    """The turns with the row's own history and system words before them."""
    if history := _nested(row, "history"):
        if not isinstance(history, list):
            raise RowProblem("has a history that is no list of [question, answer]")
        turns = messages.checked(messages.from_history(history)).then(turns)
    system = _system_words(row)
    if not system:
        return turns
    own = [turn["content"].strip() for turn in turns.messages if turn["role"] in ("system", "developer")]
    if system.strip() in own:
        return turns
    if own:
        raise RowProblem("has a system turn and other system words beside its turns", "leave one of them")
    return Dialogue([{"role": "system", "content": system}]).then(turns)


def _system_words(row: dict[str, Any]) -> str:
    words = [_text(row, key) for key in ("system", "system_prompt") if row.get(key) not in (None, "")]
    words = [text for text in words if text.strip()]
    if len(set(words)) > 1:
        raise RowProblem("has both 'system' and 'system_prompt'", "leave one of them")
    return words[0] if words else ""


def _has_turns(row: dict[str, Any]) -> bool:
    """Whether a prompt and its completion are turns: written as such, or with words that only a turn can carry."""
    lists = any(isinstance(_nested(row, key), list) for key in ("prompt", "completion"))
    return lists or bool(_system_words(row)) or bool(_nested(row, "history")) or bool(tools_of(row))


def _refuse_beside_text(row: dict[str, Any]) -> None:
    for key in row_keys.BESIDE:
        if row.get(key) not in (None, "", [], {}):
            raise RowProblem(
                f"has '{key}' beside 'text': raw text has no turns, and '{key}' would not be learned from",
                f"give turns in place of text, or say that it means nothing here: --ignore-columns {key}",
            )


def tools_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool definitions of `row`, OpenAI's earlier `functions` as well. Raises RowProblem."""
    tools, functions = _tools(row, "tools"), _tools(row, "functions")
    if tools and functions:
        raise RowProblem("has both tools and functions", "leave one of them")
    return tools or [{"type": "function", "function": function} for function in functions]


def _tools(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Definitions under `key`; tables without nested columns may hold them as JSON."""
    tools = row.get(key)
    if isinstance(tools, str):
        tools = read_json(tools, f"its {key}") if tools.strip() else None
    if tools is None:
        return []
    if isinstance(tools, list) and tools and all(isinstance(tool, str) for tool in tools):  # a column of texts
        tools = [read_json(tool, f"its {key}") for tool in tools]
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RowProblem(f"has {key} that are no list of objects", 'write [{"type": "function", "function": {...}}]')
    return tools


def prompt_and_completion_of(row: dict[str, Any]) -> tuple[str, str]:
    """The two strings of a prompt-completion row. Raises RowProblem when either is not text."""
    prompt, completion = _text(row, "prompt"), _text(row, "completion")
    row_keys.refuse_placeholders(prompt, "a prompt")
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
    hint = problem.hint or "mend or remove that row, then run the same command again"
    return BadInput(f"{where}: row {number} {problem}", hint=hint)


def _from_alpaca(row: dict[str, Any]) -> list[dict[str, Any]]:
    question = _text(row, "instruction")
    extra = "input" if row.get("input") else "context"  # Dolly's name for the same thing
    if row.get(extra):
        question = f"{question}\n\n{_text(row, extra)}" if question else _text(row, extra)
    answer = _text(row, "output" if "output" in row else "response")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _nested(row: dict[str, Any], key: str) -> Any:
    """The value of `key`, read from JSON where a table holds it as text."""
    value = row.get(key)
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        found = read_json(value, f"'{key}'")
    except RowProblem:
        if key in ("prompt", "completion"):  # words may begin with a bracket
            return value
        hint = "write it as JSON: json.dumps(...), or DataFrame.to_json(orient='records', lines=True)"
        kind = "a Python list as text" if value.lstrip()[:3] in ("[{'", '[{"') and "'" in value else "text"
        raise RowProblem(f"has a '{key}' that is {kind} and not valid JSON", hint) from None
    if key in ("prompt", "completion") and not _are_turns(found):
        return value
    return found


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) and "role" in turn for turn in value)


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    row_keys.refuse_several_answers(row, key)
    if not isinstance(value, str):
        kind = "missing" if value is None else f"not text but {type(value).__name__}"
        raise RowProblem(f"has a '{key}' that is {kind}", None if value is None else _as_text(value))
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return "an object of columns is no row: pandas writes rows with to_json(orient='records', lines=True)"
    return f"write it as text: {json.dumps(str(value))[:40]}" if isinstance(value, int | float) else "write it as text"
