"""The data doctor: reads every row once, as training would, and says what training would make of it.

Memory is bounded: a batch of rows, and about 90 bytes for each row seen. No torch is needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, FFTError
from ..planning import row_format
from ..planning.json_rows import Fault
from ..planning.parameters import Data
from ..planning.row_format import EmptyRow, RowProblem
from . import lengths, scanning, sources, splitting
from .counting import Counted, Counter
from .doctor_report import (
    Duplicates,
    Epoch,
    Faults,
    Leakage,
    Packing,
    Report,
    ShownFault,
    SourceSummary,
    Supervision,
    Template,
    Truncation,
)
from .doctor_tokenizer import ModelTokenizer
from .doctor_words import warnings_of
from .scanning import Row
from .sources import Source

BATCH = 1000  # rows tokenized at once
FAULTS_SHOWN = 20


@dataclass(frozen=True)
class Plan:
    """What of a run the doctor needs to know. `max_seq_length` None means: whatever is recommended."""

    max_seq_length: int | None
    micro_batch: int
    effective_batch: int


def examine(data: Data, tokenizer: ModelTokenizer, plan: Plan) -> Report:
    """Examine all sources of `data`.

    Raises BadInput when a file cannot be read at all, when there is not one row in any known format, or when
    conversations meet a tokenizer without chat template.
    """
    began = time.perf_counter()
    counter = Counter(tokenizer, loss_on=data.loss_on, limit=plan.max_seq_length)
    parts = [_examine_source(source, data, counter) for source in sources.sources_of(data)]
    shown = [fault for part in parts for fault in part.shown][:FAULTS_SHOWN]
    faults = Faults(sum(part.faults for part in parts), shown)
    counted = counter.result()
    if not counted.has_tokens:
        _refuse(parts, faults)
    return _report(data, tokenizer, plan, parts, faults, counted, time.perf_counter() - began)


@dataclass(frozen=True)
class _Part:
    source: Source
    format: str
    start: int
    stop: int
    set_apart: int
    faults: int
    shown: list[ShownFault]


def _examine_source(source: Source, data: Data, counter: Counter) -> _Part:
    found = sources.files_of(source.dataset)
    start = counter.rows
    shown: list[ShownFault] = []
    faults, form = 0, data.format
    stream = _hub_rows(source) if found is None else scanning.scan(found.train, data.sample_by)
    set_apart = iter(()) if found is None else scanning.scan(found.held_out, data.sample_by)
    boundary = None
    for phase, rows in enumerate((stream, set_apart)):
        if phase == 1:
            boundary = counter.rows
        while batch := list(islice(rows, BATCH)):
            if form == "auto":
                form = _recognised(batch)
            for fault in _count(batch, form, counter):
                faults += 1
                if len(shown) < FAULTS_SHOWN:
                    shown.append(fault)
    held = counter.rows - (boundary if boundary is not None else counter.rows)
    return _Part(source, form, start, counter.rows, held, faults, shown)


def _recognised(batch: list[Row]) -> str:
    """The format of the first row that is in one; "auto" when none of the batch is."""
    for row in batch:
        if isinstance(row.value, dict):
            try:
                return row_format.recognise(row.value)
            except RowProblem:
                continue
    return "auto"


def _count(batch: list[Row], form: str, counter: Counter) -> Iterator[ShownFault]:
    """Hand the usable rows of `batch` to `counter`; yield what is wrong with the others."""
    for row in batch:
        try:
            if isinstance(row.value, Fault):
                raise RowProblem(row.value.message)
            if form == "auto":
                row_format.recognise(row.value)
            counter.add(row_format.read(row.value, form))
        except EmptyRow:
            counter.add_empty()
        except RowProblem as problem:
            yield ShownFault(str(row.file), row.line, str(problem)[:500])
    counter.flush()


def _hub_rows(source: Source) -> Iterator[Row]:
    try:
        from datasets import load_dataset

        stream = load_dataset(source.dataset, source.subset, split=source.split, streaming=True)
        for number, value in enumerate(stream, start=1):
            yield Row(Path(source.dataset), number, {key: item for key, item in value.items() if item is not None})
    except FFTError:
        raise
    except Exception as error:  # datasets raises many kinds; each is about the name or the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise BadInput(
            f"{source.dataset} cannot be read from the Hub: {reason}", hint="check the name, subset, split and network"
        ) from None


def _refuse(parts: list[_Part], faults: Faults) -> None:
    names = ", ".join(part.source.dataset for part in parts)
    if faults.shown:
        first = faults.shown[0]
        raise BadInput(
            f"{names}: not one row can be used; the first fault: line {first.line} {first.message}",
            hint=f"expected rows like {row_format.EXPECTED}",
        )
    if all(part.stop == part.start for part in parts):
        raise BadInput(f"data file {names} is empty: it has no rows", hint="put at least one row into it")
    raise BadInput(f"{names}: every row is empty, so there is nothing to learn", hint="check its columns")


def _report(
    data: Data,
    tokenizer: ModelTokenizer,
    plan: Plan,
    parts: list[_Part],
    faults: Faults,
    counted: Counted,
    seconds: float,
) -> Report:
    import numpy

    filled = counted.tokens > 0
    recommended = lengths.recommend(counted.tokens[filled], tokenizer.longest)
    limit = plan.max_seq_length or recommended.max_seq_length
    usable = filled & (counted.first_learned < limit)
    train, held_out = _split(parts, data, usable)
    examples = counted.examples(train, limit)
    leaked = numpy.isin(counted.groups.first[held_out], counted.groups.first[train])
    bins, packed_waste = lengths.packed(examples, limit, data.seed)
    report = Report(
        model=str(tokenizer.folder),
        max_seq_length=limit,
        sources=[
            SourceSummary(part.source.dataset, part.format, part.stop - part.start, part.source.weight)
            for part in parts
        ],
        format=" + ".join(dict.fromkeys(part.format for part in parts)),
        rows=len(counted.tokens) + faults.count,
        usable_rows=int(usable.sum()),
        tokens=lengths.describe(counted.tokens[filled]),
        truncation=_truncation(counted, filled, limit),
        padding=Packing(
            micro_batch=plan.micro_batch,
            padding_waste=round(lengths.padding_waste(examples, plan.micro_batch, data.seed), 4),
            packed_waste=round(packed_waste, 4),
            packed_sequences=bins,
        ),
        supervision=_supervision(data, counted, filled),
        duplicates=Duplicates(
            empty_rows=int((~filled).sum()), exact_rows=counted.groups.exact, near_rows=counted.groups.near
        ),
        leakage=Leakage(len(held_out), int(leaked.sum())),
        template=_template(tokenizer, counted),
        epoch=_epoch(examples, plan),
        recommended=recommended,
        faults=faults,
        warnings=[],
        seconds=round(seconds, 3),
    )
    return report.with_warnings(warnings_of(report))


def _split(parts: list[_Part], data: Data, usable: Any) -> tuple[Any, Any]:
    """(usable row numbers for training, repeated as weighted; row numbers held out), split as prepare() splits them."""
    import numpy

    train, held_out = [], []
    for part in parts:
        rows = numpy.arange(part.start, part.stop)
        if part.set_apart:
            learned, kept = rows[: -part.set_apart], rows[-part.set_apart :]
        else:
            chosen = splitting.held_out_rows(len(rows), data.eval_fraction, data.seed)
            learned, kept = numpy.setdiff1d(rows, rows[chosen]), rows[chosen]
        learned = learned[usable[learned]]
        train.append(learned[splitting.used_rows(len(learned), part.source.weight, data.seed)])
        held_out.append(kept)
    return numpy.concatenate(train), numpy.concatenate(held_out)


def _truncation(counted: Counted, filled: Any, limit: int) -> Truncation:
    import numpy

    tokens = counted.tokens[filled]
    whole = counted.windowed[filled]  # raw text is cut into windows: nothing of it is lost
    cut = (tokens > limit) & ~whole
    lost = int((numpy.where(whole, 0, numpy.maximum(tokens.astype("int64") - limit, 0))).sum())
    return Truncation(
        at=limit,
        rows=int(cut.sum()),
        share=round(float(cut.mean()), 6),
        tokens_lost_share=round(lost / int(tokens.sum(dtype="int64")), 6),
        rows_without_answer=int((counted.first_learned[filled] >= limit).sum()),
        rows_without_end=int((cut & (counted.last_learned[filled] >= limit)).sum()),
    )


def _supervision(data: Data, counted: Counted, filled: Any) -> Supervision:
    learned = int(counted.learned[filled].sum(dtype="int64"))
    return Supervision(
        loss_on=data.loss_on,
        tokens=learned,
        share=round(learned / int(counted.within[filled].sum(dtype="int64")), 6),
        rows_with_unexpected_turns=counted.unexpected_turns,
    )


def _template(tokenizer: ModelTokenizer, counted: Counted) -> Template:
    end = counted.end_of_turn
    number = tokenizer.backend.token_to_id(end) if end else None
    return Template(
        has_template=tokenizer.template is not None,
        marks_answers=tokenizer.marks_itself,
        end_of_turn=end,
        end_is_one_token=None if end is None else number is not None,
        end_stops_generation=None if number is None or not tokenizer.stops else number in tokenizer.stops,
        every_turn_ends=counted.every_turn_ends,
        tokenizer_adds_begin=tokenizer.adds_begin,
        rows_begun_twice=counted.begun_twice,
    )


def _epoch(examples: Any, plan: Plan) -> Epoch:
    count = len(examples)
    return Epoch(
        examples=count,
        effective_batch=plan.effective_batch,
        steps=-(-count // plan.effective_batch),
        tokens=int(examples.sum(dtype="int64")),
    )
