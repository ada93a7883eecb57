"""Preference tuning (DPO) of a model that was fine-tuned already, with every weight trainable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.errors import BadInput
from ...data.splitting import held_out_rows
from .loading import load_model, recorder, save, train_from
from .process import say
from .rows import read_rows, row_of

PAIR = ("prompt", "chosen", "rejected")


def train(settings: dict[str, Any], output: Path, resume: bool) -> dict[str, Any]:
    """Train to the end; saves the model under output/model and returns losses, speed and memory."""
    import unsloth  # noqa: F401  (first: it patches what the others define)
    from trl import DPOConfig, DPOTrainer

    stop: list[str] = []
    rows, held_out = pairs(settings["data"])
    model, tokenizer = load_model(settings)
    say(f"{len(rows)} pairs to train on, {len(held_out or [])} held out")
    checkpoints = output / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    trainer = DPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=rows,
        eval_dataset=held_out,
        args=DPOConfig(output_dir=str(checkpoints), **settings["training"]),
        callbacks=[recorder(output / "metrics.jsonl", stop)],
    )
    result = train_from(trainer, output, resume, stop)
    save(trainer, tokenizer, output)
    return result


def pairs(data: dict[str, Any]) -> tuple[Any, Any]:
    """(pairs to train on, pairs held out or None), as conversations or as text, whichever they were written in."""
    from datasets import Dataset

    rows = read_rows(data["dataset"])
    found = []
    for number in range(len(rows)):
        row = row_of(rows[number])
        missing = [key for key in PAIR if not row.get(key)]
        if missing:
            raise BadInput(
                f"row {number + 1} has no {missing[0]}", hint='expected {"prompt", "chosen", "rejected"} in every row'
            )
        found.append({key: row[key] for key in PAIR})
    held_out = held_out_rows(len(found), data["eval_fraction"], data["seed"]).tolist()
    kept = [row for number, row in enumerate(found) if number not in set(held_out)]
    return Dataset.from_list(kept), Dataset.from_list([found[number] for number in held_out]) if held_out else None
