"""doctor: versions, accelerator, memory and disk of this machine, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import terminal
from ..hardware import detection
from ..training import environment

# What works without the training stack, where the package is there.
OPTIONAL = {
    "numpy": "audit two checkpoints, predict from a folder's own weights",
    "pyarrow": "read Parquet",
    "tokenizers": "count tokens exactly (else they are estimated)",
    "matplotlib": "draw plots",
}

# Kernels that transformers uses where they are installed (5.17.0, modeling_granitemoehybrid.py, modeling_lfm2.py); what
# Qwen3-Next and Qwen3.5 need, Unsloth brings (unsloth_zoo 2026.10.9, temporary_patches/fla_vendor.py).
FAST_KERNELS = {
    "mamba_ssm": "run Mamba-2 layers (Granite 4 H, Falcon-H1, Nemotron-H, Bamba) by their kernels: plain torch is many"
    " times slower and takes gigabytes more; pip install --no-build-isolation mamba-ssm",
    "causal_conv1d": "run their convolutions, and LFM2's, by one kernel: plain torch is slower;"
    " pip install --no-build-isolation causal-conv1d",
}

EPILOG = """example:
  unsloth_fft_tool.py doctor --json"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "doctor",
        help="what this machine has and lacks",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `doctor` command; exit 4 when training cannot run here."""
    found = examine()
    if args.json:
        terminal.emit(found)
    else:
        _show(found)
    return 0 if found["can_train"] else 4


def examine() -> dict[str, Any]:
    """Facts about this machine; memory and disk in GiB. Imports none of the training packages."""
    here = detection.detect()
    versions = environment.versions()
    missing = [name for name in environment.TRAINING_PACKAGES if name not in versions]
    problems = (
        [{"problem": f"not installed: {', '.join(missing)}", "fix": environment.how_to_install()}] if missing else []
    )
    useful = OPTIONAL if here.is_cpu else OPTIONAL | FAST_KERNELS
    without = {name: use for name, use in useful.items() if importlib.util.find_spec(name) is None}
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return {
        "can_plan": True,
        "can_train": not problems,
        "system": here.system,
        "remarks": list(here.notes),
        "accelerator": None if here.is_cpu else here.name,
        "gpus": 0 if here.is_cpu else here.gpus,
        "vram_gib": None if here.is_cpu else round(here.vram_gib, 1),
        "host_ram_gib": None if here.host_ram_gib is None else round(here.host_ram_gib, 1),
        "disk_free_gib": round(free, 1),
        "versions": versions,
        "problems": problems,
        "without": [{"package": name, "cannot": use} for name, use in without.items()],
    }


def _show(found: dict[str, Any]) -> None:
    for line in _lines(found):
        terminal.show(terminal.fold(line, 14))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """The verdict, what is missing and how it is mended, then the facts."""
    yield "verdict       " + ("can train here" if found["can_train"] else "can plan here, cannot train")
    for entry in found["problems"]:
        yield f"missing       {entry['problem']}; mend it with: {entry['fix']}"
    yield f"system        {found['system']}"
    yield f"accelerator   {found['accelerator'] or 'none: small models train on the CPU; plan for a GPU by its name'}"
    if found["vram_gib"] is not None:
        yield f"GPU memory    {found['gpus']} x {found['vram_gib']} GiB usable"
    yield f"host memory   {found['host_ram_gib']} GiB"
    yield f"disk here     {found['disk_free_gib']} GiB free"
    yield "versions      " + ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    for remark in found["remarks"]:
        yield f"note          {remark}"
    for entry in found["without"]:
        yield f"without       {entry['package']} this cannot be done: {entry['cannot']}"
