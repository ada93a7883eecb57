"""Which versions a rendered file is made for, and what it asks an installer for. Standard library only."""

from __future__ import annotations

import functools
import re
import tomllib
from typing import Any

from ..core.files import BUNDLE_ROOT
from ..settings import float8, recipes
from ..settings.parameters import Parameters
from ..settings.recipes import optimizer_of
from ..training import environment

PYTHON = ">=3.11,<3.14"


@functools.cache
def _project() -> dict[str, Any]:
    with (BUNDLE_ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def requirements(parameters: Parameters) -> list[str]:
    """What to install to train with these parameters, as pyproject.toml pins it."""
    pinned = training_requirements()
    tracker = parameters.schedule.report_to  # each tracker's package has its name
    trackers = [] if tracker == "none" else [tracker]
    needed = [optimizer_of(parameters.optimizer.name, parameters.optimizer.args).package]
    needed += [float8.PACKAGE] if parameters.precision.compute == "float8" else []
    extra = [package.requirement for package in needed if package and not package.comes_with_unsloth]
    others = set(recipes.packages()) - {package.name for package in needed if package}
    wanted = [*(one for one in pinned if split(one)[0] not in others), *extra, *trackers]
    once = {split(requirement)[0]: requirement for requirement in reversed(wanted)}  # the first mention counts
    return list(reversed(once.values()))


def training_requirements() -> list[str]:
    """What any training needs, as pyproject.toml pins it."""
    project = _project()["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["train"]]


def uv_settings() -> dict[str, Any]:
    """The resolver settings that make these requirements resolve: `override-dependencies` and `exclude-newer`."""
    settings = _project()["tool"]["uv"]
    # An override that installs nothing anywhere keeps a package of another extra out, which is not asked for here.
    overrides = [entry for entry in settings.get("override-dependencies", []) if "'none'" not in entry]
    found = {"override-dependencies": overrides, "exclude-newer": settings.get("exclude-newer")}
    return {key: value for key, value in found.items() if value}


def versions(parameters: Parameters) -> dict[str, str]:
    """The version of each training package: the installed one, else the exact pin, else what the pin allows."""
    found = environment.versions()
    for requirement in requirements(parameters):
        name, allowed = split(requirement)
        found.setdefault(name, allowed.removeprefix("=="))
    found.pop("python", None)
    return found


def split(requirement: str) -> tuple[str, str]:
    """("torch", ">=2.4,<2.15") from "torch>=2.4,<2.15"."""
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match is not None
    return match.group(0), requirement[match.end() :].strip()
