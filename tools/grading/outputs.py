"""What an agent left behind for one prompt: its answer, the commands it ran, the files it wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsloth_fft.core.errors import BadInput

ANSWER, COMMANDS = "answer.md", "commands.jsonl"
CHARACTERS_A_TOKEN = 4  # of English and JSON, roughly: what was read is compared, not billed
SOURCE = "scripts/unsloth_fft/"  # a reader who opens it found no answer in front of it


@dataclass(frozen=True)
class Ran:
    """A command line, its exit code and how many characters it showed; None where that was not recorded."""

    command: str
    exit: int | None
    shown: int | None = None


@dataclass(frozen=True)
class Output:
    """The folder of one prompt: `answer.md` (the last message to the user), `commands.jsonl`, and any other files."""

    folder: Path
    answer: str
    commands: tuple[Ran, ...]

    @property
    def calls(self) -> int:
        """How many commands it took."""
        return len(self.commands)

    @property
    def tokens_read(self) -> int | None:
        """Roughly what the commands put before the reader; None where one did not say."""
        shown = [one.shown for one in self.commands if one.shown is not None]
        return sum(shown) // CHARACTERS_A_TOKEN if len(shown) == len(self.commands) else None

    @property
    def opened_source(self) -> bool:
        """Whether a command named a file of the package."""
        return any(SOURCE in one.command for one in self.commands)

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
            found.append(Ran(str(value["command"]), value.get("exit"), value.get("shown")))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(
                f"{path}: line {number} is not a command",
                hint='expected lines like {"command": "python scripts/...", "exit": 0}',
            ) from None
    return found
