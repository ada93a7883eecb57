"""The self-contained script: PEP 723 header, the plan as comments, the settings, and the parts of standalone/."""

from __future__ import annotations

import ast
import json
import pprint
from pathlib import Path

from ..planning.parameters import Parameters
from . import made_for, standalone
from .rendering import commented, plan_comment, wrapped
from .settings import settings_of

STANDALONE = Path(standalone.__file__).parent


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
    """The standard-library imports of all parts, once each."""
    found = {line for part in standalone.PARTS for line in _split(part)[1]}
    plain = sorted(line for line in found if line.startswith("import "))
    named = sorted(line for line in found if line.startswith("from "))
    return "\n".join(["from __future__ import annotations", "", *plain, *named]) + "\n"


def sections() -> list[tuple[str, str]]:
    """(title, code) of each part, in order, without its imports."""
    return [(_split(part)[0], _split(part)[2]) for part in standalone.PARTS]


def _split(part: str) -> tuple[str, list[str], str]:
    """(docstring's first line, its standard-library import lines, the rest) of one part."""
    source = (STANDALONE / f"{part}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    kept, imported = set(range(1, len(lines) + 1)), []
    for position, node in enumerate(tree.body):
        is_docstring = position == 0 and isinstance(node, ast.Expr)
        if isinstance(node, ast.Import | ast.ImportFrom) or is_docstring:
            kept -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        outside = isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0)
        if outside and getattr(node, "module", None) != "__future__":
            imported.append(ast.unparse(node))
    code = "\n".join(line for number, line in enumerate(lines, start=1) if number in kept)
    title = (ast.get_docstring(tree) or part).splitlines()[0]
    return title, imported, code.strip("\n")
