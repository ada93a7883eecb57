"""The evaluation prompts: what is asked, which files come with it, and what a good answer must show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.core.files import BUNDLE_ROOT, read_json

EVALS = BUNDLE_ROOT / "evals" / "evals.json"


@dataclass(frozen=True)
class Expectation:
    """One thing that must be so: in words for a person, and as a check (schemas/evals.schema.json)."""

    text: str
    check: dict[str, Any]


@dataclass(frozen=True)
class Eval:
    """One prompt. `files` are relative to evals/ and lie in the agent's folder under their own names."""

    name: str
    prompt: str
    files: tuple[str, ...]
    expected_output: str
    expectations: tuple[Expectation, ...]


def load(path: Path = EVALS) -> tuple[Eval, ...]:
    """The prompts in `path`. Raises BadInput where the file breaks its schema or repeats a name."""
    value = read_json(path, "evals file")
    schema.check(value, "evals", str(path))
    evals = tuple(
        Eval(
            name=entry["name"],
            prompt=entry["prompt"],
            files=tuple(entry["files"]),
            expected_output=entry["expected_output"],
            expectations=tuple(Expectation(one["text"], one["check"]) for one in entry["expectations"]),
        )
        for entry in value["evals"]
    )
    names = [one.name for one in evals]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BadInput(f"{path} repeats the names {', '.join(repeated)}", hint="give each prompt a name of its own")
    return evals
