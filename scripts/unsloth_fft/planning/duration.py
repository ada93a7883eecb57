"""How long the run takes: the time of a step on the rows as they are, and hours in words.

`tokens_per_second` of a plan is the speed on full rows. Shorter rows save only what grows with their tokens: the
launches of a micro-batch, the optimizer, offloaded state and the network take as long as ever.
"""

from __future__ import annotations

from dataclasses import replace

from . import speed
from .request import Request
from .search import Candidate


def step_seconds(request: Request, best: Candidate, tokens_per_row: float) -> float:
    """Seconds of one optimizer step when a padded row has `tokens_per_row`, at most the planned length."""
    length = max(round(tokens_per_row), 1)
    if length >= request.seq_length:
        return best.speed.step_s
    full = speed.estimate(request.shape, best.setting, request.hardware)
    short = speed.estimate(request.shape, replace(best.setting, seq_length=length), request.hardware)
    return best.speed.step_s - (full.step_s - short.step_s)


def in_words(hours: float) -> str:
    """`hours` in the unit that a person would use: "3.25 hours", "12.0 minutes", "4.2 seconds"."""
    if hours >= 1:
        return f"{hours:,.2f} hours"
    if hours * 60 >= 1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours * 3600:.2g} seconds"
