"""The self-contained script: how to run it, the plan, the settings, a few lines of code, and the package it carries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..settings.parameters import Parameters
from . import carried, made_for
from .target import commented, plan_comment, wrapped

SUPERVISED, PREFERENCES = "supervised", "preferences"
WIDTH = 116

CODE = '''import base64, io, sys, tarfile, tempfile

{settings}

def main() -> int:
    """Unpack the unsloth-fft that this file carries (`unpack FOLDER` writes it there) and run it on SETTINGS."""
    with tempfile.TemporaryDirectory(prefix="unsloth-fft-") as folder:
        packed = io.BytesIO(base64.b85decode("".join(PACKAGE.split())))
        with tarfile.open(fileobj=packed, mode="r:xz") as package:
            package.extractall(folder, filter="data")
        sys.path.insert(0, f"{{folder}}/scripts")
        from unsloth_fft.commands import handed_over

        return handed_over.main({{**SETTINGS, **PLAN}}, MADE_FOR, sys.argv, task="{task}")


# What was predicted, and the versions that this file was made for.
PLAN = {plan}
MADE_FOR = {versions}
'''

CARRIED = '''
# The package: Python source and JSON schemas in a tar, compressed with xz, written in base85.
PACKAGE = """
{package}
"""

if __name__ == "__main__":
    sys.exit(main())
'''


def script_text(parameters: Parameters, name: str = "train_fft.py") -> str:
    """The whole file, which will be called `name`."""
    return readable(parameters, name) + CARRIED.format(package=carried.text())


def readable(
    parameters: Parameters,
    name: str,
    comments: Sequence[str] | None = None,
    task: str = SUPERVISED,
    run: Sequence[str] | None = None,
) -> str:
    """The part of the file that is for people: everything but the package. `run` are the commands that it names."""
    value = parameters.to_json()
    plan = {"plan": _short(value.pop("plan"))} if "plan" in value else {}
    code = CODE.format(
        settings=settings_text(value),
        task=task,
        plan=repr(plan),
        versions=repr(made_for.versions(parameters)),
    )
    told = [*(_commands(name, parameters) if run is None else run), "", *(comments or plan_comment(parameters))]
    return header(parameters) + commented(wrapped(told, WIDTH)) + "\n" + code


def _commands(name: str, parameters: Parameters) -> list[str]:
    """What to type, first of all."""
    trial = f"uv run {name} --trial-steps 3   (memory and speed on the longest rows; nothing is kept)"
    if is_for_several(parameters):
        trial = "plan the same with --max-steps 3 into another file, and run that (--trial-steps is for one GPU)"
    return [
        f"Train:   uv run {name} --output fft-output",
        f"Try:     {trial}",
        f"Go on:   uv run {name} --output fft-output --resume",
        f"After:   uv run {name} tool eval fft-output   (also status, audit, export; --help lists all)",
        "It trains in steps that are saved whole, then compares every weight with the base: fft-output/report.html.",
    ]


def is_for_several(parameters: Parameters) -> bool:
    """Whether more than one GPU is planned for, which `--trial-steps` does not try."""
    return parameters.distributed.gpus * parameters.distributed.nodes > 1


def _short(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan without the settings it was chosen over, which a run has no use for."""
    return {**plan, "alternatives": []}


def header(parameters: Parameters) -> str:
    """The inline metadata that `uv run` installs from (packaging.python.org, inline script metadata)."""
    lines = ["/// script", f'requires-python = "{made_for.PYTHON}"', "dependencies = ["]
    lines += [f"  {json.dumps(requirement)}," for requirement in made_for.requirements(parameters)]
    lines += ["]", "", "[tool.uv]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in made_for.uv_settings().items()]
    return commented([*lines, "///"])


def settings_text(settings: dict[str, Any]) -> str:
    """`SETTINGS = {...}`, readable and exact: a test reads it back and compares."""
    return "\n".join(["SETTINGS = {", *(_section(key, value) for key, value in settings.items()), "}"]) + "\n"


def _section(key: str, value: Any) -> str:
    """One section, its entries side by side as far as a line reaches."""
    if not isinstance(value, dict):
        return f"    {key!r}: {value!r},"
    if len(whole := f"    {key!r}: {value!r},") <= WIDTH:
        return whole
    lines = [f"    {key!r}: {{"]
    for name, entry in value.items():
        text = f"{name!r}: {entry!r},"
        if len(lines) > 1 and len(lines[-1]) + len(text) < WIDTH:
            lines[-1] += f" {text}"
        else:
            lines.append(f"        {text}")
    return "\n".join([*lines, "    },"])
