"""Modules of the bundle joined into one file: imports collected, imports between them dropped.

Names are checked: two parts that define the same name, or a part that imports one that is not joined, raise
ValueError, so a rendered file cannot silently mean something else than its parts.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Part:
    """One module: its title, what it imports from outside, the modules it names, its code without imports."""

    name: str
    title: str
    imports: tuple[str, ...]
    modules: tuple[str, ...]
    code: str
    defines: frozenset[str]


@dataclass(frozen=True)
class Joined:
    """`imports` is the head of the file; `parts` follow in order."""

    imports: str
    parts: tuple[Part, ...]


@functools.cache
def join(names: tuple[str, ...]) -> Joined:
    """Join the modules called `names` below the package. Raises ValueError where they do not fit together."""
    parts = tuple(_read(name, set(names)) for name in names)
    _refuse_clashes(parts)
    outside = {line for part in parts for line in part.imports} | {"import sys"}
    plain = sorted(line for line in outside if line.startswith("import "))
    named = sorted(line for line in outside if line.startswith("from "))
    modules = sorted({module for part in parts for module in part.modules})
    head = ["from __future__ import annotations", "", *plain, *named]
    if modules:
        head += ["", f"{' = '.join(modules)} = sys.modules[__name__]  # modules in the bundle, all joined in this file"]
    return Joined("\n".join(head) + "\n", parts)


def _read(name: str, joined: set[str]) -> Part:
    source = PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    dropped: set[int] = set()
    imports, modules = [], []
    for position, node in enumerate(tree.body):
        is_docstring = position == 0 and isinstance(node, ast.Expr)
        if not (is_docstring or isinstance(node, ast.Import | ast.ImportFrom)):
            continue
        dropped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.ImportFrom) and node.level:
            modules += _modules_named(node, name, joined)
        elif isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", None) != "__future__":
            imports.append(ast.unparse(node))
    _refuse_inner_imports(tree, name)
    code = "\n".join(line for number, line in enumerate(lines, start=1) if number not in dropped)
    title = (ast.get_docstring(tree) or name).split("\n\n")[0].replace("\n", " ")
    return Part(name, title, tuple(imports), tuple(modules), code.strip("\n"), frozenset(_defined(tree)))


def _modules_named(node: ast.ImportFrom, importer: str, joined: set[str]) -> list[str]:
    """The names by which a relative import refers to whole modules; every module it needs must be joined."""
    package = importer.split(".")[: -node.level]
    inside = ".".join([*package, *(node.module or "").split(".")]).rstrip(".")
    if inside in joined:
        return []
    named = [alias.name for alias in node.names]
    for module in named:
        if f"{inside}.{module}".lstrip(".") not in joined:
            raise ValueError(f"{importer} imports {inside}.{module}, which is not joined")
    return named


def _refuse_inner_imports(tree: ast.Module, name: str) -> None:
    inner = (node for top in tree.body for node in ast.walk(top) if node is not top)
    if any(isinstance(node, ast.ImportFrom) and node.level for node in inner):
        raise ValueError(f"{name} imports from the bundle inside a function")


def _defined(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names


def _refuse_clashes(parts: Sequence[Part]) -> None:
    seen: dict[str, str] = {}
    for part in parts:
        for name in sorted(part.defines):
            if name in seen:
                raise ValueError(f"{name} is defined in {seen[name]} and in {part.name}")
            seen[name] = part.name
        for module in part.modules:
            if module in seen:
                raise ValueError(f"{module} is a module for {part.name} and a name in {seen[module]}")
