"""The trainer of a run: Unsloth's own, with checkpoints that are whole or absent and the callbacks that are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..memory_savers import clipping, host_gradients, partial_checkpointing, pinned_memory
from ..settings.parameters import Parameters
from . import checkpoints, experts, held_out, processes, sharding, trackers
from .arguments import row_preparation, training_arguments


def build(
    parameters: Parameters,
    folder: Path,
    base: Any,
    tokenizer: Any,
    train: Any,
    evaluation: Any | None,
    callbacks: Sequence[Any],
    **changes: Any,
) -> Any:
    """An UnslothTrainer for `parameters` that saves into `folder`.

    `train` and `evaluation` are `datasets.Dataset`s with columns input_ids and labels; `changes` replace single
    training arguments.
    """
    from transformers import PrinterCallback
    from unsloth import UnslothTrainer, UnslothTrainingArguments

    folder.mkdir(exist_ok=True)
    trainer_class = checkpoints.whole_checkpoints(UnslothTrainer)
    if processes.COUNT > 1:
        trainer_class = sharding.trains_sharded(trainer_class)
    else:
        trainer_class = held_out.measured_by_tokens(trainer_class, held_out.Rows(evaluation))
    if parameters.optimizer.state_offload:
        trainer_class = pinned_memory.offloads_without_waste(trainer_class)
    if parameters.memory.gradient_offload:
        trainer_class = host_gradients.keeps_gradients_on_host(trainer_class)
    elif processes.COUNT == 1 and parameters.precision.compute != "float16":
        trainer_class = clipping.clips_at_once(trainer_class)
    if parameters.memory.checkpointed_layers is not None:
        trainer_class = partial_checkpointing.recomputes(parameters.memory.checkpointed_layers)(trainer_class)
    experts.name_their_number(base.config)
    router = experts.arguments(base)
    arguments = {**training_arguments(parameters, folder), **row_preparation(parameters.data.packing)}
    trainer = trainer_class(
        model=base,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        args=UnslothTrainingArguments(**{**arguments, **router, **changes}),
        callbacks=list(callbacks),
    )
    trackers.guard(trainer)
    trainer.remove_callback(PrinterCallback)  # it prints every log to stdout; metrics.jsonl has them
    schedule = parameters.schedule
    if schedule.early_stopping_patience is not None and evaluation is not None:
        from transformers import EarlyStoppingCallback

        trainer.add_callback(EarlyStoppingCallback(schedule.early_stopping_patience, schedule.early_stopping_threshold))
    return trainer
