"""The data doctor: reads every row once, as training would, and says what training would make of it.

Memory is bounded: a batch of rows, and about 90 bytes for each row seen. No torch is needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ..data import cut_ends, splitting
from ..settings.parameters import Data
from . import every_row, lengths
from .counting import Counted, Counter
from .every_row import Part
from .remarks import warnings_of
from .report import (
    Duplicates,
    Epoch,
    Faults,
    Leakage,
    Packing,
    Report,
    SourceSummary,
    Supervision,
    Template,
    Truncation,
)
from .tokenizer import ModelTokenizer


@dataclass(frozen=True)
class Intended:
    """What of a run the doctor needs to know.

    `max_seq_length` None means: whatever is recommended. After `seconds` of reading it gives up; None means never.
    """

    max_seq_length: int | None
    micro_batch: int
    effective_batch: int
    seconds: float | None = None


def examine(data: Data, tokenizer: ModelTokenizer, plan: Intended) -> Report:
    """Examine all sources of `data`.

    Raises BadInput when a file cannot be read at all, when there is not one row in any known format, or when
    conversations meet a tokenizer without chat template; reading.OutOfTime when the plan's time is over.
    """
    began = time.perf_counter()
    counter = Counter(tokenizer, loss_on=data.loss_on, limit=plan.max_seq_length)
    parts = every_row.read(data, counter, plan.seconds)
    faults = every_row.faults_of(parts)
    counted = counter.result()
    tokenizer.require_embedded()
    if not counted.has_tokens:
        every_row.refuse_unusable(parts, faults)
    return _report(data, tokenizer, plan, parts, faults, counted, time.perf_counter() - began)


def _report(
    data: Data,
    tokenizer: ModelTokenizer,
    plan: Intended,
    parts: list[Part],
    faults: Faults,
    counted: Counted,
    seconds: float,
) -> Report:
    import numpy

    filled = counted.tokens > 0
    recommended = lengths.recommend(counted.tokens[filled], tokenizer.longest, counted.windowed[filled])
    limit = plan.max_seq_length or recommended.max_seq_length
    usable = filled & (counted.first_learned < limit)
    train, held_out = _split(parts, data, filled, usable)
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
        truncation=_truncation(counted, filled, limit, data),
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
        unused_keys=every_row.unused_keys(parts),
        skipped_files=every_row.skipped_files(parts),
        samples=counted.samples,
        oddities=counted.oddities,
    )
    return report.with_warnings(warnings_of(report))


def _split(parts: list[Part], data: Data, filled: Any, usable: Any) -> tuple[Any, Any]:
    """(usable rows for training by number, repeated as weighted; usable rows held out), as prepare() splits them."""
    import numpy

    train, held_out = [], []
    for part in parts:
        rows = numpy.arange(part.start, part.stop)
        if part.set_apart:
            learned, kept = rows[: -part.set_apart], rows[-part.set_apart :]
            learned, kept = learned[filled[learned]], kept[filled[kept]]
        else:
            rows = rows[filled[rows]]
            chosen = splitting.held_out_rows(len(rows), data.eval_fraction, data.seed)
            learned, kept = numpy.setdiff1d(rows, rows[chosen]), rows[chosen]
        learned = learned[usable[learned]]
        train.append(learned[splitting.used_rows(len(learned), part.source.weight, data.seed)])
        held_out.append(kept[usable[kept]])
    return numpy.concatenate(train), numpy.concatenate(held_out)


def _truncation(counted: Counted, filled: Any, limit: int, data: Data) -> Truncation:
    import numpy

    tokens = counted.tokens[filled]
    whole = counted.windowed[filled]  # raw text is cut into windows: nothing of it is lost
    cut = (tokens > limit) & ~whole
    lost = int((numpy.where(whole, 0, numpy.maximum(tokens.astype("int64") - limit, 0))).sum())
    without_end = int((cut & (counted.last_learned[filled] >= limit)).sum())
    return Truncation(
        at=limit,
        rows=int(cut.sum()),
        share=round(float(cut.mean()), 6),
        tokens_lost_share=round(lost / int(tokens.sum(dtype="int64")), 6),
        rows_without_answer=int((counted.first_learned[filled] >= limit).sum()),
        rows_without_end=without_end,
        rows_with_end=int((~whole).sum()),
        ends_refused=not data.allow_cut_ends and cut_ends.is_too_many(without_end, int((~whole).sum())),
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


def _epoch(examples: Any, plan: Intended) -> Epoch:
    count = len(examples)
    return Epoch(
        examples=count,
        effective_batch=plan.effective_batch,
        steps=-(-count // plan.effective_batch),
        tokens=int(examples.sum(dtype="int64")),
    )
