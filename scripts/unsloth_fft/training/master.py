"""The float32 master of an adamw_flash run: bfloat16 weights, and beside each how far the master lies from it.

flashoptim 0.1.4 (optimizers.py, `_apply_error_correction`) keeps the distance as a signed fraction of half the gap
between neighbouring weights: 16 bits of it, or 8. Only the weights are saved with a model; with them alone what was
learned below bfloat16's spacing is gone. So `train` keeps the corrections too, and `export` joins both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput
from ..settings.parameters import Parameters

FILE = "correction{suffix}.safetensors"
INDEX = "correction.safetensors.index.json"
SHARD_SIZE = "5GB"

_FRACTION_BITS, _BIAS = 7, 127  # of bfloat16


def joined(weight: Any, correction: Any) -> Any:
    """The float32 master of a bfloat16 weight: weight + correction / largest * half the gap to its neighbour.

    `weight` may be widened already; `correction` is an int16 or int8 tensor of the same shape, as flashoptim stores it
    in `error_bits`.
    """
    import torch

    narrow = weight.to(torch.bfloat16).contiguous()
    field = (narrow.view(torch.int16) & 0x7FFF) >> _FRACTION_BITS
    exponent = field.clamp(min=1).to(torch.int32) - _BIAS - _FRACTION_BITS - 1
    # In two steps, as flashoptim does: half the gap of the smallest weights is itself below float32's smallest normal.
    half = torch.div(exponent, 2, rounding_mode="floor")
    fraction = correction.to(torch.float32) / torch.iinfo(correction.dtype).max
    return narrow.float() + fraction * torch.exp2(half.float()) * torch.exp2((exponent - half).float())


def has_corrections(parameters: Parameters) -> bool:
    """Whether a run with these parameters ends with corrections beside its weights."""
    return parameters.precision.master == "error_correction"


def corrections_of(optimizer: Any, model: Any) -> dict[str, Any]:
    """The correction of each of `model`'s parameters that has one, by name; empty for any other optimizer."""
    state = {} if optimizer is None else optimizer.state
    return {
        name: state[weight]["error_bits"]
        for name, weight in model.named_parameters()
        if weight in state and "error_bits" in state[weight]
    }


def corrections_in(checkpoint: Path, runner: Any) -> dict[str, Any]:
    """The corrections in a checkpoint of `runner` (a transformers.Trainer), by name; empty where it has none.

    flashoptim saves them under another type of the same width, or widened to it where they are 8 bits wide.
    """
    import torch

    file = checkpoint / "optimizer.pt"
    if not file.is_file():
        return {}
    saved = torch.load(file, map_location="cpu", weights_only=True)
    optimizer = runner.optimizer or runner.create_optimizer()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [(number, group) for group in saved["param_groups"] for number in group["params"]]
    names = {id(weight): name for name, weight in runner.model.named_parameters()}
    found = {}
    for weight, (number, group) in zip(weights, numbers, strict=True):
        kept = saved["state"].get(number, {}).get("error_bits")
        if kept is not None and id(weight) in names:
            eight = group.get("master_bytewidth", 4) == 3
            found[names[id(weight)]] = kept.to(torch.int8) if eight else kept.view(torch.int16)
    return found


def value_of(corrections: Mapping[str, Any], model: Any) -> Callable[[Any], Any]:
    """For held_out.row_losses: a parameter's value in the master."""
    by_weight = {id(weight): corrections[name] for name, weight in model.named_parameters() if name in corrections}

    def value(weight: Any) -> Any:
        correction = by_weight.get(id(weight))
        return weight.data if correction is None else joined(weight.data, correction.to(weight.device))

    return value


def save(corrections: Mapping[str, Any], folder: Path) -> None:
    """Write the corrections into `folder` as safetensors, whole or not at all; an older set goes."""
    from huggingface_hub import save_torch_state_dict

    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    with files.explained(folder):
        staging.mkdir()
        tensors = {name: correction.contiguous().cpu() for name, correction in corrections.items()}
        save_torch_state_dict(tensors, staging, filename_pattern=FILE, max_shard_size=SHARD_SIZE)
        files.give_usual_mode(staging)
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)


def read(folder: Path) -> dict[str, Any]:
    """The corrections that `save` wrote, by name. Raises BadInput where a file cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            found |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{file} cannot be read: {error}", hint="remove correction/, or train again") from None
    return found


def add_to(model: Any, corrections: Mapping[str, Any]) -> None:
    """Put the master into `model`, which holds a session's bfloat16 weights widened to float32, in place.

    Raises BadInput where the corrections do not belong to these weights.
    """
    import torch

    weights = dict(model.named_parameters())
    for name, correction in corrections.items():
        weight = weights.get(name)
        if weight is None or weight.shape != correction.shape:
            raise BadInput(
                f"the session keeps a correction of '{name}', which its model does not have in that shape",
                hint="remove correction/ to export what model/ holds, or train again: the two belong together",
            )
        with torch.no_grad():
            weight.copy_(joined(weight, correction))
