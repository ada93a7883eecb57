"""The self-contained script: PEP 723 header, the plan as comments, the settings, and the joined parts."""

from __future__ import annotations

import json
import pprint

from ..planning.parameters import Parameters
from . import joining, made_for, standalone
from .rendering import commented, plan_comment, wrapped
from .settings import settings_of


def script_text(parameters: Parameters) -> str:
    """The whole file."""
    return "\n".join(
        [
            header(parameters),
            commented(wrapped(plan_comment(parameters))),
            imports(),
            settings_text(parameters),
            *(f"\n# --- {title.rstrip('.')} ---\n{code}\n" for title, code in sections()),
            '\nif __name__ == "__main__":\n    sys.exit(main(SETTINGS))\n',
        ]
    )


def header(parameters: Parameters) -> str:
    """The inline metadata that `uv run` installs from (packaging.python.org, inline script metadata)."""
    lines = ["/// script", f'requires-python = "{made_for.PYTHON}"', "dependencies = ["]
    lines += [f"  {json.dumps(requirement)}," for requirement in made_for.requirements(parameters)]
    lines += ["]", "", "[tool.uv]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in made_for.uv_settings().items()]
    return commented([*lines, "///"])


def settings_text(parameters: Parameters) -> str:
    """`SETTINGS = {...}`, readable and exact: a test reads it back and compares."""
    return f"SETTINGS = {pprint.pformat(settings_of(parameters), width=110, sort_dicts=False)}\n"


def imports() -> str:
    """The imports of all parts."""
    return joining.join(standalone.PARTS).imports


def sections() -> list[tuple[str, str]]:
    """(title, code) of each part, in order, without its imports."""
    return [(part.title, part.code) for part in joining.join(standalone.PARTS).parts]
