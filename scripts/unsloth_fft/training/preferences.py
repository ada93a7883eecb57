"""Preference tuning (DPO) of a model that was fine-tuned already, with every weight trainable: TRL's own trainer.

Rows are {prompt, chosen, rejected}, each a text or a list of turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..data import preparing, scanning, sources, splitting
from ..data.json_objects import Fault
from ..data.sources import Source
from ..settings.parameters import Data, Parameters
from . import checkpoints
from .arguments import training_arguments

PAIR = ("prompt", "chosen", "rejected")
# Arguments of TRL's SFTConfig and of Unsloth's trainer that its DPOConfig (trl 1.15.0) does not have, or that its
# DPOTrainer does not do ("`padding_free=True` is temporarily unavailable").
NOT_FOR_DPO = ("packing", "padding_free")


def check(source: Source, data: Data) -> scanning.Counts:
    """How many pairs `source` has (None on the Hub), and what they are called. Raises BadInput naming a row."""
    files = source.files()
    rows = None if files is None else sum(1 for _ in _local_pairs(files.train, data.sample_by))
    return scanning.Counts(rows, 0, "preferences")


def prepare(data: Data, tokenizer: Any, max_length: int, folder: Path) -> preparing.Prepared:
    """The pairs, split by seed; TRL tokenizes them itself. Raises BadInput naming a row without all three parts."""
    from datasets import Dataset

    found = [pair for source in sources.sources_of(data) for pair in _pairs(source, data)]
    if not found:
        raise BadInput(f"{data.dataset} has no rows", hint="put at least one row into it")
    held_out = set(splitting.held_out_rows(len(found), data.eval_fraction, data.seed).tolist())
    kept = [pair for number, pair in enumerate(found) if number not in held_out]
    apart = [pair for number, pair in enumerate(found) if number in held_out]
    return preparing.Prepared(
        train=Dataset.from_list(kept),
        held_out=Dataset.from_list(apart) if apart else None,
        format="preferences",
        rows=len(found),
        truncated=0,
        dropped=0,
        supervised_tokens=0,
        parts=(),
    )


def build(
    parameters: Parameters,
    folder: Path,
    base: Any,
    tokenizer: Any,
    train: Any,
    held_out: Any | None,
    callbacks: Sequence[Any],
    **changes: Any,
) -> Any:
    """TRL's DPOTrainer for `parameters`, with checkpoints that are whole or absent, saving into `folder`."""
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    folder.mkdir(exist_ok=True)
    arguments = {**training_arguments(parameters, folder), **changes}
    given = {key: value for key, value in arguments.items() if key not in NOT_FOR_DPO}
    trainer = checkpoints.whole_checkpoints(DPOTrainer)(
        model=base,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=held_out,
        args=DPOConfig(**given),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log to stdout; metrics.jsonl has them
    return trainer


def _pairs(source: Source, data: Data) -> Iterator[dict[str, Any]]:
    files = source.files()
    if files is not None:
        yield from _local_pairs(files.train, data.sample_by)
        return
    for number, row in enumerate(preparing.hub_rows(source), start=1):
        yield _pair(row, f"{source.dataset}: row {number}")


def _local_pairs(files: Sequence[Path], sample_by: str) -> Iterator[dict[str, Any]]:
    for row in scanning.scan(files, sample_by):
        if isinstance(row.value, Fault):
            raise BadInput(f"{scanning.place(row)} {row.value.message}", hint=row.value.hint)
        yield _pair(row.value, scanning.place(row))


def _pair(row: dict[str, Any], place: str) -> dict[str, Any]:
    missing = [key for key in PAIR if not row.get(key)]
    if missing:
        raise BadInput(f"{place} has no {missing[0]}", hint='expected {"prompt", "chosen", "rejected"} in every row')
    return {key: row[key] for key in PAIR}
