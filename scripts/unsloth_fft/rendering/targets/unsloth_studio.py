"""unsloth-studio: the arguments of `start_training`, the tool by which agents train in Unsloth Studio (over MCP).

Studio trains by TRL's SFTConfig on bfloat16 weights (unsloth 2026.10.9, studio/backend/core/training/trainer.py), so
what unsloth-cli loses is lost here, too; optimizer and schedule are settings of the request
(studio/backend/models/training.py, TrainingStartRequest).
"""

from __future__ import annotations

import json
from typing import Any

from ...settings.parameters import Parameters
from ...settings.recipes import optimizer_of
from ..target import Lost, Rendered, Target, is_local_data, plan_comment, require_dataset
from . import unsloth_cli

FORMATS = {"auto": "auto", "messages": "conversational", "sharegpt": "sharegpt", "alpaca": "alpaca", "text": "raw"}


def render(parameters: Parameters, file: str) -> Rendered:
    """The JSON file. Raises BadInput for several GPUs, a revision, or rows of prompt and completion."""
    dataset = require_dataset(parameters, "unsloth-studio")
    unsloth_cli.refuse(parameters, "unsloth-studio", FORMATS)
    lost = _lost(parameters)
    run = f"give `start_training` of {file} to the MCP tool of that name in Unsloth Studio"
    about = [*plan_comment(parameters, lost), "", f"Run: {run}; with validate_only true it starts nothing."]
    if is_local_data(dataset):
        about.append("Upload the data first (its tool `datasets`, action upload) and put the ref into local_datasets.")
    about.append("Afterwards: unsloth_fft_tool.py audit BASE TRAINED, on the run's folder in list_training_runs.")
    value = {
        "about": about,
        "start_training": {"kind": "llm", "config": _config(parameters, dataset), "validate_only": True},
    }
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return Rendered(text, run=run, lost=tuple(lost), variables=("HF_TOKEN",))


def _config(parameters: Parameters, dataset: str) -> dict[str, Any]:
    batch, schedule, optimizer = parameters.batch, parameters.schedule, parameters.optimizer
    pretrains = parameters.data.objective == "pretrain"
    data = {"local_datasets": [dataset]} if is_local_data(dataset) else {"hf_dataset": dataset}
    steps = schedule.max_steps or (parameters.plan.predicted.steps if parameters.plan else 0)
    return {
        "model_name": parameters.model.name,
        "training_type": "Continued Pretraining" if pretrains else "Full Finetuning",
        **({"use_lora": False} if pretrains else {}),
        "load_in_4bit": False,
        "max_seq_length": parameters.model.max_seq_length,
        "trust_remote_code": parameters.model.trust_remote_code,
        **data,
        "format_type": FORMATS[parameters.data.format],
        "num_epochs": 0 if schedule.max_steps else unsloth_cli.whole_epochs(schedule.num_train_epochs),
        "max_steps": schedule.max_steps or 0,
        "learning_rate": f"{optimizer.learning_rate:g}",
        "batch_size": batch.per_device_train_batch_size,
        "gradient_accumulation_steps": batch.gradient_accumulation_steps,
        **unsloth_cli.warmup(parameters),
        "save_steps": schedule.save_steps or 0,
        "weight_decay": optimizer.weight_decay,
        "random_seed": schedule.seed,
        "packing": parameters.data.packing,
        "train_on_completions": unsloth_cli.learns_answers_alone(parameters),
        "optim": _optimizer(parameters),
        "lr_scheduler_type": schedule.lr_scheduler_type,
        "eval_steps": round(schedule.eval_steps / steps, 4) if schedule.eval_steps and steps else 0.0,
        "early_stopping_patience": schedule.early_stopping_patience or 0,
        "gradient_checkpointing": unsloth_cli.checkpointing(parameters),
    }


def _optimizer(parameters: Parameters) -> str:
    return unsloth_cli.OPTIMIZER if _is_only_unsloths(parameters) else parameters.optimizer.name


def _is_only_unsloths(parameters: Parameters) -> bool:
    """Whether the optimizer is known to UnslothTrainingArguments alone."""
    return optimizer_of(parameters.optimizer.name, parameters.optimizer.args).only_unsloth


def _lost(parameters: Parameters) -> list[Lost]:
    kept = ("optimizer/name", "schedule/lr_scheduler_type", "data/eval_fraction", "schedule/early_stopping_patience")
    lost = [loss for loss in unsloth_cli.losses(parameters) if loss.setting not in kept]
    if _is_only_unsloths(parameters):
        breaks = parameters.precision.exactness != "any"
        lost.append(Lost("optimizer/name", parameters.optimizer.name, unsloth_cli.OPTIMIZER, breaks=breaks))
    if parameters.optimizer.state_offload:
        becomes = "off, unless UNSLOTH_OFFLOAD_OPTIMIZER_STATE=1 is set for Studio's own process"
        lost.append(Lost("optimizer/state_offload", "on", becomes, breaks=True))
    if parameters.data.eval_fraction > 0:
        lost.append(Lost("data/eval_fraction", f"{parameters.data.eval_fraction:g}", "the split that Studio makes"))
    return lost


TARGET = Target("unsloth-studio", "start_training.json", "the request for Unsloth Studio's `start_training`", render)
