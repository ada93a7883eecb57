"""How long the run takes: the time of a step on the rows as they are, and hours in words.

`tokens_per_second` of a plan is the speed on full rows. Shorter rows save only what grows with their tokens: the
launches of a micro-batch, the optimizer, offloaded state and the network take as long as ever.
"""

from __future__ import annotations

from ..estimates import speed
from ..estimates.speed import SpeedEstimate
from ..settings.setting import Setting
from . import amount
from .request import Request


def step_seconds(request: Request, setting: Setting, planned: SpeedEstimate) -> float:
    """Seconds of one optimizer step on the rows as they are; `planned` is its time on full rows."""
    length = max(round(amount.tokens_per_row(request, setting)), 1)
    if length >= request.seq_length:
        return planned.step_s
    full = speed.estimate(request.shape, setting, request.hardware)
    short = speed.estimate(request.shape, setting._replace(seq_length=length), request.hardware)
    return planned.step_s - (full.step_s - short.step_s)


def short(hours: float) -> str:
    """The same for a column of a table: "3.25 h", "12 min", "4 s"."""
    if hours >= 1:
        return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.3g} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


def span(low: str, high: str) -> str:
    """A range between figures in words; the one figure where both ends read the same."""
    return low if low == high else f"{low} to {high}"


def in_words(hours: float) -> str:
    """`hours` in the unit that a person would use: "3.25 hours", "12.0 minutes", "4.2 seconds"."""
    if hours >= 1:
        return f"{hours:,.2f} hours"
    if hours * 60 >= 1:
        return f"{hours * 60:.1f} minutes"
    return f"{hours * 3600:.2g} seconds"
