"""Seconds before hours: what this machine must have for a plan, looked at before anything is loaded.

GPU memory that others hold, the packages behind the optimizer, and disk for the checkpoints stop a run. Host memory
only draws a warning: some virtual machines show more of it the more is used.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from ..core import installing
from ..core.errors import MissingHere
from ..core.terminal import say
from ..estimates import disk
from ..hardware import detection
from ..hardware.cards import Hardware
from ..planning import replan
from ..settings import float8
from ..settings.parameters import Parameters
from ..settings.recipes import Package, optimizer_of
from . import text_model
from .session import Folder

GIB = 2**30


def check(parameters: Parameters, folder: Folder) -> None:
    """Raise MissingHere for what would end the run later; say what may."""
    here = detection.detect()
    if parameters.precision.compute == "float8":
        require_float8(here)
    if not here.is_cpu:
        require_optimizer(parameters.optimizer.name)
        _require_gpus(parameters)
        _warn_of_host_memory(parameters)
    require_disk(parameters, folder.root)


def require_optimizer(name: str) -> None:
    """Raise MissingHere when the package behind optimizer `name` is not installed, or too old."""
    needed = optimizer_of(name, {}).package
    if needed is None:
        return
    _require_package(needed, f"the optimizer {name} needs it")


def _require_package(needed: Package, reason: str) -> None:
    package, wanted = needed.name, needed.requirement if needed.least else needed.name
    hint = installing.hint(f"'{wanted}'")
    try:
        found = importlib.metadata.version(package)  # by the name that an installer knows
    except importlib.metadata.PackageNotFoundError:
        raise MissingHere(f"not installed here: {package}; {reason}", hint=hint) from None
    if needed.least is not None and _numbers(found) < _numbers(needed.least):
        raise MissingHere(f"{package} {found} is too old; {reason}", hint=hint)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def require_float8(here: Hardware) -> None:
    """Raise MissingHere when matrix products cannot be made in float8 on this machine."""
    reason = float8.no_float8(here)
    if reason is not None:
        raise MissingHere(
            f"precision.compute is float8, which is not done on {here.name}: {reason}",
            hint="plan again for this machine, without --compute float8",
        )
    _require_package(float8.PACKAGE, "float8 matrix products need it")


def require_disk(parameters: Parameters, root: Path) -> None:
    """Raise MissingHere when the disk of `root` has no room for the model and the checkpoints of the plan."""
    need = disk.needed_by(parameters) + text_model.disk_gib(parameters.model.name)
    place = next(parent for parent in (root.absolute(), *root.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free / GIB
    used = _already_there(root)
    if free + used < need:
        kept = disk.checkpoints_at_once(parameters.schedule, disk.steps_of(parameters))
        raise MissingHere(
            f"{place} has {free:.1f} GiB free; the model and {kept} checkpoint{'s' * (kept > 1)} need {need:.1f} GiB",
            hint="free space, lower schedule.save_total_limit, or choose a --session folder on another disk",
        )


def _already_there(root: Path) -> float:
    """GiB of checkpoints and model that a resumed session already holds."""
    folder = Folder(root)
    files = [path for kept in (folder.checkpoints, folder.model) if kept.is_dir() for path in kept.rglob("*")]
    return sum(path.stat().st_size for path in files if path.is_file()) / GIB


def _require_gpus(parameters: Parameters) -> None:
    here = detection.detect()
    wanted = parameters.distributed.gpus
    if here.gpus < wanted:
        raise MissingHere(
            f"the plan is for {wanted} GPUs in this machine, and {here.gpus} can be seen",
            hint=f"plan for this machine: {replan.for_this_machine(parameters)}",
        )
    if parameters.plan is None:
        return
    need, free = parameters.plan.predicted.peak_vram_gib, detection.free_gib()
    if free is not None and free < need:
        raise MissingHere(
            f"the plan needs {need:.1f} GiB on each GPU, and {free:.1f} GiB of {here.name} are free now",
            hint="see with nvidia-smi what else is on the GPU and end it, or plan for less:"
            f" {replan.for_this_machine(parameters, free)}",
        )


def _warn_of_host_memory(parameters: Parameters) -> None:
    if parameters.plan is None or not parameters.optimizer.state_offload:
        return
    need, free = parameters.plan.predicted.host_ram_gib, detection.free_host_gib()
    if free is not None and free < need:
        say(
            f"warning: the plan puts {need:.0f} GiB into host memory, and {free:.0f} GiB are available now;"
            " if it runs out the process is killed without a word"
        )
