"""dpo: preference tuning after full fine-tuning, as one self-contained script; a next step that no plan covers."""

from __future__ import annotations

from typing import Any

from ...core.errors import BadInput
from ...settings.parameters import Parameters
from ...settings.recipes import BYTES
from .. import lost_settings, standalone
from ..script import file_text
from ..script_settings import settings_of
from ..target import Loss, Rendered, Target, plan_comment, require_dataset

# Arguments of TRL's SFTConfig and of Unsloth's trainer that its DPOConfig (trl 1.15.0) does not have, or that its
# DPOTrainer does not do ("`padding_free=True` is temporarily unavailable").
NOT_FOR_DPO = ("packing", "padding_free", "dataset_num_proc", "optim", "optim_args")


def render(parameters: Parameters, file: str) -> Rendered:
    """The script. Raises BadInput for several GPUs, or a float32 optimizer that cannot fit."""
    require_dataset(parameters, "dpo")
    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        raise BadInput("dpo: several GPUs were never tried with it", hint="plan with --gpus 1")
    weights, optimizer, lost = lost_settings.replaced_optimizer(parameters, "TRL's DPOTrainer")
    lost = [_memory_lost(parameters), *lost]
    lost += lost_settings.selection_losses(parameters)
    if parameters.optimizer.state_offload:
        lost.append(Loss("optimizer/state_offload", "on", "off, and its state must fit the GPU", breaks=True))
    lost += [*lost_settings.gradient_losses(parameters), *lost_settings.padding_losses(parameters)]
    notes = [
        "",
        "Preference tuning: rows are {prompt, chosen, rejected}, as text or as lists of turns.",
        "Start from the fully fine-tuned model: --model RUN/model, or plan with that folder as --model.",
        f"The learning rate is the plan's {parameters.optimizer.learning_rate:g}; TRL's default for DPO is 1e-06.",
    ]
    text = file_text(
        parameters,
        [*plan_comment(parameters, lost), *notes],
        _settings(parameters, weights, optimizer),
        standalone.PREFERENCE_PARTS,
    )
    return Rendered(
        text,
        run=f"uv run {file} --model RUN/model --dataset PAIRS.jsonl --output dpo-output",
        lost=tuple(lost),
        variables=("HF_TOKEN",),
    )


def _settings(parameters: Parameters, weights: str, optimizer: str) -> dict[str, Any]:
    settings = settings_of(parameters)
    training = {key: value for key, value in settings["training"].items() if key not in NOT_FOR_DPO}
    training["optim"] = optimizer
    if optimizer == parameters.optimizer.name:
        training["optim_args"] = settings["training"]["optim_args"]
    settings["training"] = training
    settings["model_on_gpu"] = {"float32_mixed_precision": weights == "float32"}
    settings["model_on_cpu"] = {"dtype": weights}
    settings["master"] = "float32" if weights == "float32" else parameters.precision.master
    return settings


def _memory_lost(parameters: Parameters) -> Loss:
    """DPO keeps a frozen copy of the model, and runs two answers a row; the plan knows of neither."""
    copy = (parameters.model.parameters or 0) * BYTES[parameters.precision.weights] / 2**30
    size = f" of {copy:.1f} GiB" if copy else ""
    return Loss(
        "plan/predicted",
        "memory, time and cost of supervised training",
        f"not predicted: DPO adds a frozen copy{size} and runs two answers a row",
        breaks=True,
    )


TARGET = Target("dpo", "dpo_fft.py", "preference tuning after full fine-tuning, one file for `uv run`", render)
