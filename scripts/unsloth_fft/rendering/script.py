"""The self-contained script: PEP 723 header, the plan as comments, the settings, and the joined parts."""

from __future__ import annotations

import json
import pprint
from collections.abc import Sequence
from typing import Any

from ..settings.parameters import Parameters
from . import made_for, single_file, standalone
from .script_settings import settings_of
from .target import commented, plan_comment, wrapped


def script_text(parameters: Parameters) -> str:
    """The whole file."""
    parts, training = standalone.parts_for(parameters), standalone.training_for(parameters)
    return file_text(parameters, plan_comment(parameters), settings_of(parameters), parts, training)


def file_text(
    parameters: Parameters,
    comments: Sequence[str],
    settings: dict[str, Any],
    parts: tuple[str, ...],
    training: str = "train",
) -> str:
    """A file of the given parts, with these comments and settings at its head; `training` is what it runs."""
    return "\n".join(
        [
            header(parameters),
            commented(wrapped(comments)),
            imports(parts),
            settings_text(settings),
            *(f"\n# --- {title.rstrip('.')} ---\n{code}\n" for title, code in sections(parts)),
            f'\nif __name__ == "__main__":\n    sys.exit(main(SETTINGS, {training}))\n',
        ]
    )


def header(parameters: Parameters) -> str:
    """The inline metadata that `uv run` installs from (packaging.python.org, inline script metadata)."""
    lines = ["/// script", f'requires-python = "{made_for.PYTHON}"', "dependencies = ["]
    lines += [f"  {json.dumps(requirement)}," for requirement in made_for.requirements(parameters)]
    lines += ["]", "", "[tool.uv]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in made_for.uv_settings().items()]
    return commented([*lines, "///"])


def settings_text(settings: dict[str, Any]) -> str:
    """`SETTINGS = {...}`, readable and exact: a test reads it back and compares."""
    return f"SETTINGS = {pprint.pformat(settings, width=110, sort_dicts=False)}\n"


def imports(parts: tuple[str, ...]) -> str:
    """The imports of all parts."""
    return single_file.join(parts).imports


def sections(parts: tuple[str, ...]) -> list[tuple[str, str]]:
    """(title, code) of each part, in order, without its imports."""
    return [(part.title, part.code) for part in single_file.join(parts).parts]
