"""What would fail later, found before anything is loaded: packages, processes, GPU, memory, files, disk, token."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from ...core.errors import BadInput, MissingHere
from .process import RANK, say
from .rows import READERS


def check_before(settings: dict[str, Any], output: Path, resume: bool, push_to: str | None) -> None:
    """Raise Stop for whatever would fail later: packages, processes, GPU, memory, files, disk, token."""
    check_packages(settings)
    check_processes(settings)
    check_device(settings)
    check_paths(settings, output, resume)
    if push_to:
        from huggingface_hub import get_token

        if not get_token():
            raise MissingHere(f"pushing to {push_to} needs a token", hint="set the environment variable HF_TOKEN")


def check_packages(settings: dict[str, Any]) -> None:
    missing = [name for name in settings["packages"] if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingHere(
            f"not installed: {', '.join(missing)}",
            hint="run with uv, which installs what the header lists: uv run FILE",
        )
    for name, made_for in settings["made_for"].items():
        exact = made_for[0].isdigit()
        if exact and name in settings["packages"] and importlib.metadata.version(name) != made_for:
            say(f"note: {name} {importlib.metadata.version(name)} is installed; this file was made for {made_for}")


def check_processes(settings: dict[str, Any]) -> None:
    planned, running = settings["gpus"] * settings["nodes"], int(os.environ.get("WORLD_SIZE", "1"))
    if planned != running:
        nodes = f" --nnodes {settings['nodes']}" if settings["nodes"] > 1 else ""
        how = f"torchrun --nproc-per-node {settings['gpus']}{nodes} FILE" if planned > 1 else "python FILE"
        raise BadInput(f"planned for {planned} GPUs, started as {running} processes", hint=f"start it with: {how}")


def check_device(settings: dict[str, Any]) -> None:
    import torch

    planned = settings["hardware"]
    if planned is None:
        return
    if planned["name"] == "cpu":
        if torch.cuda.is_available():
            say("note: planned for the CPU; a GPU is present and will be used")
        return
    if not torch.cuda.is_available():
        raise MissingHere(
            f"planned for {planned['name']}, and no GPU is visible here", hint="run it where nvidia-smi shows one"
        )
    here = torch.cuda.get_device_properties(torch.cuda.current_device())
    if here.total_memory / 2**30 < planned["peak_vram_gib"]:
        raise MissingHere(
            f"the plan needs {planned['peak_vram_gib']:.1f} GiB; {here.name} has {here.total_memory / 2**30:.1f} GiB",
            hint="plan again for this card: generate_fft_params.py --gpu auto",
        )


def check_paths(settings: dict[str, Any], output: Path, resume: bool) -> None:
    dataset, model = settings["data"]["dataset"], settings["model"]["model_name"]
    if not dataset:
        raise BadInput("there is nothing to train on", hint="name it: --dataset FILE or --dataset HUB/NAME")
    if Path(dataset).suffix in READERS and not Path(dataset).is_file():
        raise BadInput(f"data file not found: {dataset}", hint="copy it there, or name it: --dataset FILE")
    if model.startswith((".", "/", "~")) and not Path(model).is_dir():
        raise BadInput(f"model folder not found: {model}", hint="copy it there, or name it: --model DIR")
    if Path(model).is_dir() and not any(Path(model).glob("*.safetensors")):
        raise BadInput(f"{model} holds no *.safetensors weights; pickles are not opened", hint="save it as safetensors")
    if RANK == 0 and not resume and output.exists() and any(output.iterdir()):
        raise BadInput(f"{output} is not empty; nothing was changed", hint="choose another --output, or --resume")
    output.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(output).free
    if free < settings["disk_bytes"]:
        raise MissingHere(
            f"{free / 2**30:.1f} GiB free in {output}; {settings['disk_bytes'] / 2**30:.1f} GiB may be written",
            hint="choose an --output on a larger disk",
        )
