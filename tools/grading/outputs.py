"""What an agent left behind for one prompt: its answer, the commands it ran, the files it wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsloth_fft.core.errors import BadInput

ANSWER, COMMANDS = "answer.md", "commands.jsonl"


@dataclass(frozen=True)
class Ran:
    """A command line and its exit code; the code is None where it was not recorded."""

    command: str
    exit: int | None


@dataclass(frozen=True)
class Output:
    """The folder of one prompt: `answer.md` (the last message to the user), `commands.jsonl`, and any other files."""

    folder: Path
    answer: str
    commands: tuple[Ran, ...]

    def json_file(self, name: str) -> Any:
        """A JSON file in the folder, or None where it is missing or broken."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def text_file(self, name: str) -> str | None:
        """A text file in the folder, or None."""
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None


def read(folder: Path) -> Output:
    """Read one prompt's folder. Raises BadInput when there is no answer, or a line of commands.jsonl is broken."""
    try:
        answer = (folder / ANSWER).read_text(encoding="utf-8")
    except OSError:
        raise BadInput(f"{folder} has no {ANSWER}", hint=f"save the agent's last message there as {ANSWER}") from None
    return Output(folder, answer, tuple(_commands(folder / COMMANDS)))


def _commands(path: Path) -> list[Ran]:
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            value = json.loads(line)
            found.append(Ran(str(value["command"]), value.get("exit")))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(
                f"{path}: line {number} is not a command",
                hint='expected lines like {"command": "python scripts/...", "exit": 0}',
            ) from None
    return found
