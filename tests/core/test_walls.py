"""The packages know one another in one direction only; `unsloth_fft/__init__.py` states the order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import unsloth_fft

PACKAGE = Path(unsloth_fft.__file__ or "").parent
LARGEST_SHARE = 0.15
STANDARD_ONLY = ("core", "models", "hardware", "settings", "estimates", "planning")
HEAVY = {"torch", "transformers", "trl", "datasets", "unsloth", "numpy", "matplotlib", "tokenizers", "safetensors"}


def order() -> list[str]:
    """The packages as the docstring of the whole lists them, lowest first."""
    stated = re.search(r"\n\n((?:    .+\n)+)", unsloth_fft.__doc__ or "")
    assert stated
    return re.findall(r"\w+", stated[1])


def imports(path: Path) -> Iterator[str]:
    """Packages of this project that a module imports anywhere, also late inside a function."""
    inside = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else ()
            target = (*above, *((node.module or "").split(".") if node.module else ()))
            if node.level == 0:
                target = target[1:] if target[:1] == ("unsloth_fft",) else ()
            names = target[:1] or (alias.name for alias in node.names if node.level)
            yield from (name for name in names if (PACKAGE / name).is_dir())
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("unsloth_fft."))


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def test_the_stated_order_names_every_package_once() -> None:
    assert sorted(order()) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_runs_backwards(path: Path) -> None:
    place = {name: number for number, name in enumerate(order())}
    own = path.relative_to(PACKAGE).parts[0]
    backwards = {name for name in imports(path) if place[name] > place[own]}
    assert not backwards, f"{own} stands before {', '.join(sorted(backwards))} in unsloth_fft/__init__.py"


@pytest.mark.parametrize(
    "path", [path for path in modules() if path.parent.name in STANDARD_ONLY], ids=lambda p: p.stem
)
def test_what_plans_imports_no_heavy_package_at_its_top(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = {
        name.split(".")[0]
        for node in body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not names & HEAVY


def test_no_package_holds_much_more_than_a_seventh_of_the_lines() -> None:
    lines = dict.fromkeys(order(), 0)
    for path in modules():
        lines[path.relative_to(PACKAGE).parts[0]] += path.read_text(encoding="utf-8").count("\n")
    largest = max(lines, key=lines.__getitem__)
    assert lines[largest] <= LARGEST_SHARE * sum(lines.values()), f"{largest}: {lines}"


def test_nothing_in_the_package_imports_maintainers_tools() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("tools"))


def test_every_module_that_a_string_names_is_there() -> None:
    """Code for another process, or a rendered file, imports by words in a string, which no checker follows."""
    for path in modules():
        for name in re.findall(r"\bunsloth_fft(?:\.[a-z_0-9]+)+", path.read_text(encoding="utf-8")):
            place = PACKAGE.joinpath(*name.split(".")[1:])
            places = (place, place.with_suffix(".py"), place.parent.with_suffix(".py"))  # a package, a module, its name
            assert any(one.exists() for one in places), f"{path}: {name}"
