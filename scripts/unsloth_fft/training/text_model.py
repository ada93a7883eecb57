"""The folder that is really loaded: the model itself, or the language model taken out of a multimodal checkpoint.

Unsloth would load the whole checkpoint with its processor, and train its towers along. Text needs neither, so training
sees the language model alone (weights/multimodal.py), and the saved model is the checkpoint with that put back.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

from ..core import files
from ..core.errors import BadInput
from ..core.terminal import say
from ..settings.parameters import Parameters
from ..weights import multimodal
from ..weights.checkpoint import locate, open_checkpoint, resolved
from . import processes

# Beside the scratch folders of data, whose prefix it shares, so that what a killed run left is removed with them.
FOLDER = ".data-text-model"


def taken_out(parameters: Parameters, root: Path) -> tuple[Parameters, Path | None]:
    """`parameters` naming what is to be loaded, and the multimodal checkpoint it was taken out of (None for others).

    Writes into `root`, which all processes of the run share. Raises BadInput, and MissingHere for a Hub name that is
    not on this machine and cannot be fetched.
    """
    base = multimodal_base(parameters.model.name, parameters.model.revision)
    if base is None:
        return parameters, None
    folder = root / FOLDER
    if processes.is_first():
        write(base, folder)
    while not folder.exists():  # no process group to wait in yet; the folder appears whole
        time.sleep(0.2)
    model = dataclasses.replace(parameters.model, name=str(folder), revision=None)
    return dataclasses.replace(parameters, model=model), base


def write(base: Path, folder: Path) -> None:
    """Write the language model of `base` to `folder`, whole or not at all, and say what is left out of training."""
    staging = folder.with_name(f"{folder.name}.tmp")
    for leftover in (staging, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    parted = multimodal.write_text_model(base, staging)
    staging.rename(folder)
    say(
        f"training the language model of {base.name}; {len(parted.kept)} other tensors ({parted.kept_elements:,}"
        " weights) are not loaded, and are kept as they are"
    )


def disk_gib(name: str) -> float:
    """GiB of disk that a local multimodal checkpoint takes beside its training: the language model's copy, and the
    parts that are kept, which stand in the saved model again; 0 for any other model."""
    if not files.expanded(name).is_dir():
        return 0.0
    base = multimodal_base(name)
    if base is None:
        return 0.0
    return sum(tensor.bytes for tensor in open_checkpoint(base).tensors.values()) / 2**30


def multimodal_base(name: str, revision: str | None = None) -> Path | None:
    """The folder of the model `name` where it is a multimodal checkpoint, else None; a Hub name is fetched for it."""
    if not files.expanded(name).is_dir():
        name = _fetched_if_multimodal(name, revision)
    try:
        folder = resolved(locate(name))
    except BadInput:
        return None  # loading says what is wrong
    config = folder / "config.json"
    if not config.is_file() or not multimodal.is_multimodal(files.read_json(config, "model configuration")):
        return None
    return folder


def _fetched_if_multimodal(name: str, revision: str | None) -> str:
    """The local folder of the Hub's `name`: its config.json first, and the rest only where that wraps a text model."""
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        config = Path(hf_hub_download(name, "config.json", revision=revision))
        if multimodal.is_multimodal(files.read_json(config, "model configuration")):
            return str(snapshot_download(name, revision=revision, ignore_patterns=["*.bin", "*.pth", "*.gguf"]))
    except Exception:  # no network, no such model: loading by name says so in its own words
        return name
    return name
