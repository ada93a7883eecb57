"""The checks an expectation can name. Each takes an agent's output and returns whether it is right and what was found.

They are rules over text, JSON and exit codes: the same output always gets the same grade.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tools.grading.outputs import Output
from unsloth_fft.core import schema

Found = tuple[bool, str]
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
FLAGS = re.IGNORECASE | re.DOTALL


def grade(output: Output, check: dict[str, Any]) -> Found:
    """(passed, what was found) of one check of evals.json."""
    settings = {key: value for key, value in check.items() if key != "kind"}
    return CHECKS[check["kind"]](output, **settings)


def answer_matches(output: Output, pattern: str) -> Found:
    """The answer says something like `pattern`."""
    match = re.search(pattern, output.answer, FLAGS)
    return match is not None, f"found: {match[0][:80]!r}" if match else f"nothing like {pattern!r}"


def answer_lacks(output: Output, pattern: str) -> Found:
    """The answer says nothing like `pattern`."""
    passed, found = answer_matches(output, pattern)
    return not passed, found


def answer_quotes(output: Output, file: str, key: str, within: float = 0.02) -> Found:
    """A number in the answer is the value at `key` of `file`, to a relative `within`."""
    value = _value(output.json_file(file), key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False, f"{file} has no number at {key}"
    said = [float(text.replace(",", "")) for text in NUMBER.findall(output.answer)]
    close = [number for number in said if abs(number - value) <= within * abs(value)]
    return bool(
        close
    ), f"{key} is {value:g}, the answer says {close[0]:g}" if close else f"{key} is {value:g}, not said"


def command_ran(output: Output, pattern: str, exit: int | None = None) -> Found:
    """A command like `pattern` was run, and ended with `exit` where that is given."""
    like = [ran for ran in output.commands if re.search(pattern, ran.command, FLAGS)]
    right = [ran for ran in like if exit is None or ran.exit == exit]
    if right:
        return True, f"ran: {right[0].command[:80]} (exit {right[0].exit})"
    return False, f"exit codes were {[ran.exit for ran in like]}" if like else "no such command was run"


def command_not_run(output: Output, pattern: str) -> Found:
    """No command like `pattern` was run."""
    passed, found = command_ran(output, pattern)
    return not passed, found


def file_valid(output: Output, file: str, schema_name: str) -> Found:
    """`file` is JSON that its schema accepts."""
    value = output.json_file(file)
    if value is None:
        return False, f"{file} is missing or not JSON"
    problems = schema.problems(value, schema_name)
    return not problems, problems[0] if problems else "valid"


def json_equals(output: Output, file: str, key: str, value: Any) -> Found:
    """The value at `key` of `file` is `value`."""
    found = _value(output.json_file(file), key)
    return found == value, f"{key} is {found!r}"


def json_at_most(output: Output, file: str, key: str, limit: float | str) -> Found:
    """The number at `key` is at most `limit`, a number or another key of the same file."""
    whole = output.json_file(file)
    found, most = _value(whole, key), _value(whole, limit) if isinstance(limit, str) else limit
    numbers = isinstance(found, int | float) and isinstance(most, int | float)
    return numbers and found <= most, f"{key} is {found!r}, at most {most!r} was wanted"


def file_matches(output: Output, file: str, pattern: str) -> Found:
    """The text of `file` holds something like `pattern`."""
    text = output.text_file(file)
    if text is None:
        return False, f"{file} is missing"
    return re.search(pattern, text, FLAGS) is not None, f"looked for {pattern!r} in {file}"


def python_compiles(output: Output, file: str) -> Found:
    """`file` is Python that compiles."""
    text = output.text_file(file)
    if text is None:
        return False, f"{file} is missing"
    try:
        compile(text, file, "exec")
    except SyntaxError as error:
        return False, f"{file} line {error.lineno}: {error.msg}"
    return True, "compiles"


CHECKS: dict[str, Callable[..., Found]] = {
    one.__name__: one
    for one in (
        answer_matches, answer_lacks, answer_quotes, command_ran, command_not_run, file_valid, json_equals,
        json_at_most, file_matches, python_compiles,
    )
}  # fmt: skip


def _value(whole: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(whole, dict) or part not in whole:
            return None
        whole = whole[part]
    return whole
