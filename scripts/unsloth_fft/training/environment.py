"""The process a run lives in: environment variables set before Unsloth is imported, and which versions it uses."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from ..core import files, installing, quiet
from ..core.errors import MissingHere
from ..settings import recipes
from ..settings.parameters import Parameters

TRAINING_PACKAGES = ("unsloth", "torch", "transformers", "trl", "datasets", "safetensors")
INSTALL_COMMAND = "uv sync --extra train   (or: pip install 'unsloth==2026.10.9' matplotlib)"

# Where trackers write, inside the session unless their own variable says otherwise: wandb and trackio name these in
# their documentation, Transformers the one of tensorboard (integrations/integration_utils.py, 5.17.0).
TRACKER_FOLDERS = {"TENSORBOARD_LOGGING_DIR": "tensorboard", "TRACKIO_DIR": "trackio", "WANDB_DIR": "."}


def variables_for(parameters: Parameters) -> dict[str, str]:
    """The environment variables these parameters need, so that no user has to set one.

    Sources, unsloth 2026.10.9: optimizers/state_offload.py (UNSLOTH_OFFLOAD_OPTIMIZER_STATE),
    models/fsdp2_native.py (UNSLOTH_FSDP2).
    """
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
    }
    if parameters.optimizer.state_offload:
        variables["UNSLOTH_OFFLOAD_OPTIMIZER_STATE"] = "1"
        # In MiB: half of the default, because one chunk leaves the GPU while the next one comes (outward.py).
        variables["UNSLOTH_OFFLOAD_OPTIMIZER_STATE_CHUNK_MB"] = "512"
    if parameters.distributed.strategy == "fsdp2":
        variables["UNSLOTH_FSDP2"] = "1"
    return variables


def prepare(parameters: Parameters, root: Path) -> None:
    """Set the variables; must run before anything imports unsloth. Raises MissingHere without the packages."""
    require_packages()
    require_tracker(parameters.schedule.report_to)
    os.environ.update(variables_for(parameters))
    quiet.prepare()
    for name, folder in TRACKER_FOLDERS.items():
        os.environ.setdefault(name, str(root.absolute() / folder))


def begin(parameters: Parameters, root: Path) -> None:
    """`prepare`, and import Unsloth where this process will train: it must patch the others before they are imported.

    For whoever checks a session and trains it in one process. Raises MissingHere without the packages.
    """
    prepare(parameters, root)
    if parameters.distributed.gpus * parameters.distributed.nodes == 1:
        with quiet.stdout_to_stderr():
            import unsloth  # noqa: F401


def for_children() -> dict[str, str]:
    """This process's variables, with which a Python started anywhere finds this package."""
    paths = [str(files.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def how_to_install() -> str:
    """The command that installs the training stack, or what to do where nothing can be installed."""
    return installing.hint("the training stack", command=INSTALL_COMMAND)


def require_tracker(name: str) -> None:
    """Raise MissingHere when the package behind `schedule.report_to` is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise MissingHere(
            f"not installed here: {name}; schedule.report_to asks for it",
            hint=f"{installing.hint(name)}, or set schedule.report_to to none",
        )


def require_packages() -> None:
    """Raise MissingHere, naming each training package that is not installed."""
    missing = [name for name in TRAINING_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingHere(f"not installed here: {', '.join(missing)}; training needs them", hint=how_to_install())


def versions() -> dict[str, str]:
    """Installed version of each training package and of Python; packages not installed are left out."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    """Read once: it looks through every installed package, as long as all else of a rendering takes."""
    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name in (*TRAINING_PACKAGES, "unsloth_zoo", *recipes.packages(), "triton"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
