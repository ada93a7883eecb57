"""Pieces of shell that several targets share: installing, writing the script, starting it on one node or several."""

from __future__ import annotations

import math
import re
import shlex

from ..estimates import disk
from ..settings.parameters import Parameters
from . import made_for
from .script import script_text
from .target import is_local_data, is_local_model

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
END = "END_OF_FFT_SCRIPT"
PORT = 29500  # torchrun's own default (torch/distributed/run.py)


def install_command(parameters: Parameters, python: str = "") -> str:
    """One line of shell that installs the requirements with uv, into `python` or the system's."""
    overrides = made_for.uv_settings().get("override-dependencies", [])
    where = f"--python {python}" if python else "--system"
    wanted = " ".join(shlex.quote(requirement) for requirement in made_for.requirements(parameters))
    quoted = " ".join(shlex.quote(requirement) for requirement in overrides)
    prepare = f"printf '%s\\n' {quoted} > /tmp/fft-overrides.txt && "
    return f"{prepare}uv pip install {where} --overrides /tmp/fft-overrides.txt {wanted}"


def write_script(parameters: Parameters, path: str) -> str:
    """Shell that writes the self-contained script to `path`."""
    return f"cat > {path} <<'{END}'\n{script_text(parameters)}{END}\n"


def remote_data(parameters: Parameters) -> str | None:
    """Where a local data file is put on another machine; None for a Hub name."""
    dataset = parameters.data.dataset
    if dataset is None or not is_local_data(dataset):
        return None
    name = dataset.rstrip("/").rsplit("/", 1)[-1]
    # A plain name everywhere: no shell, job file or container on the way can read more into it.
    return f"/data/{name}" if _PLAIN_NAME.fullmatch(name) else f"/data/rows{_suffix(name)}"


def _suffix(name: str) -> str:
    """By which the rows are read."""
    found = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return found.group() if found else ""


def remote_model(parameters: Parameters) -> str | None:
    """Where a local model folder is put on another machine; None for a Hub name."""
    return "/data/model" if is_local_model(parameters.model.name) else None


def script_arguments(parameters: Parameters, output: str) -> list[str]:
    """The script's arguments on a machine where local files were copied below /data."""
    arguments = ["--output", output, "--resume"]
    data, model = remote_data(parameters), remote_model(parameters)
    if data is not None:
        arguments += ["--dataset", data]
    if model is not None:
        arguments += ["--model", model]
    return arguments


def job_name(parameters: Parameters) -> str:
    """A name of lower-case letters, digits and dashes."""
    base = parameters.model.name.rstrip("/").rsplit("/", 1)[-1].lower()
    kept = "".join(character if character.isascii() and character.isalnum() else "-" for character in base)
    return f"fft-{kept.strip('-') or 'model'}"[:40].rstrip("-")


def hours_allowed(parameters: Parameters) -> int:
    """Whole hours to ask for: half as much again as predicted, two saves, and one for installing and loading."""
    predicted = 2.0 if parameters.plan is None else parameters.plan.predicted.hours
    return int(predicted * 1.5 + 2 * seconds_to_save(parameters) / 3600) + 2


def seconds_to_save(parameters: Parameters) -> int:
    """Seconds that a run is given to finish its step and save: twice what both are expected to take, 180 at least."""
    saving = disk.save_seconds(parameters.model.parameters or 0, parameters.precision.weights)
    return max(180, 60 * math.ceil(2 * (saving + _step_seconds(parameters)) / 60))


def how_long_to_save(parameters: Parameters) -> str:
    """What `seconds_to_save` stands on, in words."""
    elements = parameters.model.parameters or 0
    size = disk.checkpoint_size(elements, parameters.precision.weights) / 1e9
    return (
        f"{seconds_to_save(parameters)} s: twice what a step and a checkpoint of at most {size:,.1f} GB take at"
        f" {disk.WRITTEN_A_SECOND / 1e9:g} GB/s, 180 at least; on a slower disk change it"
    )


def _step_seconds(parameters: Parameters) -> float:
    predicted = None if parameters.plan is None else parameters.plan.predicted
    if predicted is None or predicted.hours_breakdown is None:
        return 0.0
    return 3600 * predicted.hours_breakdown["steps"] / max(predicted.steps, 1)
