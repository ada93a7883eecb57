"""dpo: preference tuning after full fine-tuning, as one self-contained script; a next step that no plan covers."""

from __future__ import annotations

import dataclasses

from ...core.errors import BadInput
from ...settings.parameters import Parameters, master_kept_by
from ...settings.recipes import BYTES
from .. import carried, lost_settings, script
from ..target import Lost, Rendered, Target, plan_comment, require_dataset


def render(parameters: Parameters, file: str) -> Rendered:
    """The script. Raises BadInput for several GPUs, or a float32 optimizer that cannot fit."""
    require_dataset(parameters, "dpo")
    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        raise BadInput("dpo: several GPUs were never tried with it", hint="plan with --gpus 1")
    weights, optimizer, lost = lost_settings.replaced_optimizer(parameters, "TRL's DPOTrainer")
    lost = [_memory_lost(parameters), *lost]
    lost += lost_settings.selection_losses(parameters)
    if parameters.optimizer.state_offload:
        lost.append(Lost("optimizer/state_offload", "on", "off, and its state must fit the GPU", breaks=True))
    lost += [*lost_settings.gradient_losses(parameters), *lost_settings.padding_losses(parameters)]
    lost += [*lost_settings.layer_losses(parameters), *lost_settings.float8_losses(parameters)]
    notes = [
        "",
        "Preference tuning: rows are {prompt, chosen, rejected}, as text or as lists of turns.",
        "Start from the fully fine-tuned model: --model RUN/model, or plan with that folder as --model.",
        f"The learning rate is the plan's {parameters.optimizer.learning_rate:g}; TRL's default for DPO is 1e-06.",
    ]
    data = ["--model RUN/model", "--dataset PAIRS.jsonl", "--output dpo-output"]
    run = " ".join(["uv run", file, *data])
    changed = _changed(parameters, weights, optimizer)
    told = [*plan_comment(parameters, lost), *notes]
    text = script.readable(changed, file, told, script.PREFERENCES, [f"Train:   {run}", f"Go on:   {run} --resume"])
    text += script.CARRIED.format(package=carried.text())
    return Rendered(text, run=run, lost=tuple(lost), variables=("HF_TOKEN",))


def _changed(parameters: Parameters, weights: str, optimizer: str) -> Parameters:
    """The parameters without what TRL's DPOTrainer (1.15.0) does not do; nothing is predicted for it."""
    kept = parameters.optimizer
    args = kept.args if optimizer == kept.name else {}
    chosen = dataclasses.replace(kept, name=optimizer, args=args, state_offload=False)
    precision = dataclasses.replace(parameters.precision, weights=weights, master=master_kept_by(weights, chosen))
    if precision.compute == "float8":
        precision = dataclasses.replace(precision, compute="bfloat16")
    return dataclasses.replace(
        parameters,
        data=dataclasses.replace(parameters.data, packing=False, padding_free=False),
        precision=precision,
        optimizer=chosen,
        memory=dataclasses.replace(
            parameters.memory, gradient_offload=False, checkpointed_layers=None, weight_offload=False
        ),
        schedule=dataclasses.replace(parameters.schedule, early_stopping_patience=None),
        plan=None,
    )


def _memory_lost(parameters: Parameters) -> Lost:
    """DPO keeps a frozen copy of the model, and runs two answers a row; the plan knows of neither."""
    copy = (parameters.model.parameters or 0) * BYTES[parameters.precision.weights] / 2**30
    size = f" of {copy:.1f} GiB" if copy else ""
    return Lost(
        "plan/predicted",
        "memory, time and cost of supervised training",
        f"not predicted: DPO adds a frozen copy{size} and runs two answers a row",
        breaks=True,
    )


TARGET = Target("dpo", "dpo_fft.py", "preference tuning after full fine-tuning, one file for `uv run`", render)
