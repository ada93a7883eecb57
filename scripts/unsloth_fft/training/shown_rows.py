"""What a run says of its rows before it trains: how many, and what of the first ones is learned."""

from __future__ import annotations

from typing import Any

from ..core.terminal import say
from ..data.preparing import Prepared
from ..data.supervision import IGNORED
from ..data_doctor import learned_view


def say_of(prepared: Prepared, tokenizer: Any) -> None:
    """A few lines on stderr; the rows are decoded from the very tokens that are trained on."""
    say(
        f"{len(prepared.train)} rows to train on, {len(prepared.held_out or [])} held out ({prepared.format});"
        f" {prepared.truncated} cut, {prepared.dropped} left out"
    )
    if prepared.ends.lost:
        say(f"warning: {prepared.ends.lost:,} of {prepared.ends.rows:,} rows lose the end of their last answer")
    if "labels" not in prepared.train.column_names:  # pairs, which the trainer tokenizes itself
        return
    say(learned_view.LEGEND)
    for row in prepared.train.select(range(min(len(prepared.train), learned_view.SAMPLES))):
        stretches = learned_view.of_tokens(row["input_ids"], row["labels"], IGNORED, tokenizer.decode)
        say(f"row: {learned_view.line(stretches)}")
