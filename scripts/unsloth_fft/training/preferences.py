"""Preference tuning (DPO) of a model that was fine-tuned already, with every weight trainable: TRL's own trainer.

Rows are {prompt, chosen, rejected}, each a text or a list of turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..data import arrow_rows, preparing, scanning, sources
from ..data.json_objects import Fault
from ..data.sources import Source
from ..settings.parameters import Data, Parameters
from . import checkpoints, trackers
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
    """The pairs, split by seed, in an Arrow file in `folder`; TRL tokenizes them itself.

    They are read twice, first for the columns that hold every one of them: memory holds a piece, however many there
    are. Raises BadInput naming a row without all three parts, or whose parts are of another kind than those before.
    """
    features = _features(data)
    pairs = ((_weight(pair), pair) for _, pair in _pairs(data))
    rows = arrow_rows.written(preparing.new_file(folder), features, pairs)
    if not len(rows):
        raise BadInput(f"{data.dataset} has no rows", hint="put at least one row into it")
    train, held_out = preparing.split(rows, data)
    return preparing.Prepared(
        train=train,
        held_out=held_out,
        format="preferences",
        rows=len(rows),
        truncated=0,
        dropped=0,
        supervised_tokens=0,
        parts=(),
    )


def _features(data: Data) -> Any:
    """Columns for every pair: a part is a text, or a list of turns with each key that any of them has."""
    from datasets import Features, List, Value

    keys: dict[str, set[str] | None] = {}
    for place, pair in _pairs(data):
        for part, value in pair.items():
            found = None if isinstance(value, str) else {key for turn in value for key in turn}
            known = keys.setdefault(part, found)
            if (known is None) != (found is None):
                kind, other = ("text", "turns") if found is None else ("turns", "text")
                raise BadInput(
                    f"{place}: {part} is {kind}, and {other} in the rows before", hint="write every row the same way"
                )
            if known is not None and found is not None:
                known |= found
    columns = {
        part: Value("string") if names is None else List({name: Value("string") for name in sorted(names)})
        for part, names in keys.items()
    }
    return Features(columns or {part: Value("string") for part in PAIR})


def _weight(pair: dict[str, Any]) -> int:
    """Characters of a pair."""
    return sum(
        len(value) if isinstance(value, str) else sum(len(text or "") for turn in value for text in turn.values())
        for value in pair.values()
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

    if parameters.memory.weight_offload:
        raise BadInput(
            "memory/weight_offload: is true, and preference tuning does not stream weights",
            hint="plan again without --weight-offload",
        )
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
    trackers.guard(trainer)
    trainer.remove_callback(PrinterCallback)  # it prints every log to stdout; metrics.jsonl has them
    return trainer


def _pairs(data: Data) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pair of every source, with its place."""
    for source in sources.sources_of(data):
        files = source.files()
        if files is not None:
            yield from _local_pairs(files.train, data.sample_by)
            continue
        for number, row in enumerate(preparing.hub_rows(source), start=1):
            place = f"{source.dataset}: row {number}"
            yield place, _pair(row, place)


def _local_pairs(files: Sequence[Path], sample_by: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in scanning.scan(files, sample_by):
        if isinstance(row.value, Fault):
            raise BadInput(f"{scanning.place(row)} {row.value.message}", hint=row.value.hint)
        yield scanning.place(row), _pair(row.value, scanning.place(row))


def _pair(row: dict[str, Any], place: str) -> dict[str, Any]:
    missing = [key for key in PAIR if not row.get(key)]
    if missing:
        raise BadInput(f"{place} has no {missing[0]}", hint='expected {"prompt", "chosen", "rejected"} in every row')
    for key in PAIR:
        if not (isinstance(row[key], str) or _are_turns(row[key])):
            raise BadInput(
                f"{place}: {key} is neither a text nor a list of turns",
                hint='a turn is like {"role": "user", "content": "..."}, all of it text',
            )
    return {key: row[key] for key in PAIR}


def _are_turns(value: Any) -> bool:
    """A list of objects whose values are texts (or null)."""
    return isinstance(value, list) and all(
        isinstance(turn, dict) and all(text is None or isinstance(text, str) for text in turn.values())
        for turn in value
    )
