"""Parameters as `UnslothTrainingArguments` names them (TRL's SFTConfig and Unsloth's additions)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..estimates import disk
from ..settings.parameters import Parameters, optim_args_text

# What Transformers asks for beside a schedule's name (transformers 5.17.0, optimization.py, get_scheduler).
SCHEDULER_ARGUMENTS = {"cosine_with_min_lr": {"min_lr_rate": 0.1}}


def row_preparation(packing: bool) -> dict[str, Any]:
    """More of them, for rows that come tokenized and cut. What is left to TRL is packing, in one process of its own.

    datasets 4.8.5 starts a process even for one (`num_proc >= 1`, arrow_dataset.py); a signal that meets it while it
    starts can leave both waiting for each other, so it is not asked for where there is nothing to do.
    """
    return {"dataset_num_proc": 1} if packing else {"dataset_kwargs": {"skip_prepare_dataset": True}}


def _patience_s(parameters: Parameters) -> int:
    """Seconds that processes wait for one another: all wait while the first writes a checkpoint, to a slow disk even.

    At least what Transformers waits (5.17.0, training_args.py). A machine that is gone is noticed sooner (peers.py).
    """
    saving = disk.save_seconds(parameters.model.parameters or 0, parameters.precision.weights)
    return max(1800, math.ceil(6 * saving))


def training_arguments(parameters: Parameters, checkpoints: Path) -> dict[str, Any]:
    """Keyword arguments of UnslothTrainingArguments. A contract test holds every name against the installed class."""
    batch, optimizer, schedule = parameters.batch, parameters.optimizer, parameters.schedule
    arguments: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "max_length": parameters.model.max_seq_length,
        "packing": parameters.data.packing,
        # Said either way: left out, Unsloth turns it on, which costs 5% where rows are full and, with float32 weights,
        # three quarters of the speed (references/upstream-notes.md).
        "padding_free": parameters.data.padding_free,
        "per_device_train_batch_size": batch.per_device_train_batch_size,
        "per_device_eval_batch_size": batch.per_device_train_batch_size,
        "gradient_accumulation_steps": batch.gradient_accumulation_steps,
        "optim": optimizer.name,
        "optim_args": optim_args_text(optimizer),
        "learning_rate": optimizer.learning_rate,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.adam_beta1,
        "adam_beta2": optimizer.adam_beta2,
        "adam_epsilon": optimizer.adam_epsilon,
        "max_grad_norm": optimizer.max_grad_norm,
        "lr_scheduler_type": schedule.lr_scheduler_type,
        "warmup_steps": schedule.warmup_steps,
        "logging_strategy": "steps",
        "logging_steps": schedule.logging_steps,
        "logging_nan_inf_filter": False,  # the default hides a non-finite loss behind the last finite mean
        "include_num_input_tokens_seen": "non_padding",
        "eval_strategy": "no" if schedule.eval_steps is None else "steps",
        "eval_steps": schedule.eval_steps,
        "save_strategy": "no" if schedule.save_steps is None else "steps",
        "save_total_limit": schedule.save_total_limit,
        "seed": schedule.seed,
        "data_seed": schedule.seed,
        "report_to": schedule.report_to,
        "disable_tqdm": True,
        "bf16": parameters.precision.compute in ("bfloat16", "float8"),
        "fp16": parameters.precision.compute == "float16",
    }
    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        arguments["ddp_timeout"] = _patience_s(parameters)
    if schedule.lr_scheduler_type in SCHEDULER_ARGUMENTS:
        arguments["lr_scheduler_kwargs"] = dict(SCHEDULER_ARGUMENTS[schedule.lr_scheduler_type])
    if schedule.max_steps is not None:
        arguments["max_steps"] = schedule.max_steps
    else:
        arguments["num_train_epochs"] = schedule.num_train_epochs
    if schedule.save_steps is not None:
        arguments["save_steps"] = schedule.save_steps
    if schedule.load_best_model_at_end:
        arguments["load_best_model_at_end"] = True
    if schedule.load_best_model_at_end or schedule.early_stopping_patience is not None:
        arguments["metric_for_best_model"] = schedule.metric_for_best_model
        arguments["greater_is_better"] = False
    if schedule.early_stopping_patience is not None:
        # Without it a resumed run would begin to count evaluations anew, and stop later than an unbroken one.
        arguments["restore_callback_states_from_checkpoint"] = True
    if parameters.memory.gradient_checkpointing == "off":
        # TRL's default is True and would turn it on again behind from_pretrained's back.
        arguments["gradient_checkpointing"] = False
    return arguments
