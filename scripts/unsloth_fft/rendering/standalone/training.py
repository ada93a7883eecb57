"""The run itself, on rows whose learned tokens are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .loading import check_template, load_model, recorder, save, train_from
from .process import say
from .rows import learn, split


def train(
    settings: dict[str, Any], output: Path, resume: bool, adaptations: tuple[Callable[[type], type], ...] = ()
) -> dict[str, Any]:
    """Train to the end; saves the model under output/model and returns losses (nats a token), speed and memory.

    Each of `adaptations` makes a trainer class of a trainer class.
    """
    import unsloth  # noqa: F401  (first: it patches what the others define)
    from unsloth import UnslothTrainer, UnslothTrainingArguments

    stop: list[str] = []
    found = split(settings["data"])
    if found.has_conversations():
        check_template(settings)
    model, tokenizer = load_model(settings)
    rows, held_out = learn(found, settings["data"], tokenizer, settings["training"]["max_length"])
    say(f"{len(rows)} rows to train on, {len(held_out or [])} held out")
    checkpoints = output / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    trainer_class: type = UnslothTrainer
    for adapt in adaptations:
        trainer_class = adapt(trainer_class)
    trainer = trainer_class(
        model=model,
        processing_class=tokenizer,
        train_dataset=rows,
        eval_dataset=held_out,
        args=UnslothTrainingArguments(output_dir=str(checkpoints), **settings["training"]),
        callbacks=[recorder(output / "metrics.jsonl", stop)],
    )
    stop_early(trainer, settings["early_stopping"])
    result = train_from(trainer, output, resume, stop)
    save(trainer, tokenizer, output)
    return result


def adapted(
    training: Callable[..., dict[str, Any]], *adaptations: Callable[[type], type]
) -> Callable[..., dict[str, Any]]:
    """`training` with a trainer that these adaptations made."""
    return lambda settings, output, resume: training(settings, output, resume, adaptations)


def stop_early(trainer: Any, rule: dict[str, Any] | None) -> None:
    """Add Transformers' own early stopping where the plan asks for it."""
    if rule is not None:
        from transformers import EarlyStoppingCallback

        trainer.add_callback(EarlyStoppingCallback(rule["patience"], rule["threshold"]))
