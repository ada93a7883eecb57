"""The same run planned for several cards: one line a card, and the card to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import BadInput
from ..settings.parameters import Plan, Predicted
from . import duration
from .plan import plan_from
from .request import Request
from .search import Outcome, search
from .table import columns

HEADER = ("", "GPU", "fits", "peak GiB", "host GiB", "tokens/s", "low to high", "basis", "time", "cost USD")


@dataclass(frozen=True)
class Entry:
    """One card: its contest and its plan (None where nothing fits), or why there was no contest."""

    request: Request
    outcome: Outcome | None
    plan: Plan | None
    refusal: BadInput | None = None

    @property
    def predicted(self) -> Predicted | None:
        return None if self.plan is None else self.plan.predicted


def compare(requests: Sequence[Request]) -> list[Entry]:
    """An entry for each request, in their order. Raises BadInput where no card allows the request."""
    entries = [_entry(request) for request in requests]
    refusals = [entry.refusal for entry in entries if entry.refusal is not None]
    if len(refusals) == len(entries):
        raise refusals[0]
    return entries


def chosen(entries: Sequence[Entry]) -> Entry:
    """The cheapest that fits where prices are known, else the fastest; the nearest to fitting where none does."""
    fitting = [entry for entry in entries if entry.predicted is not None]
    if fitting:
        return min(fitting, key=lambda entry: (*_cost_first(entry), entry.request.hardware.name))
    held = [entry for entry in entries if entry.outcome is not None]
    return min(held, key=lambda entry: (_missing(entry), entry.request.hardware.name))


def table(entries: Sequence[Entry]) -> str:
    """One line a card; the one to take is marked."""
    best = chosen(entries)
    rows = [_row(entry, entry is best and entry.predicted is not None) for entry in entries]
    return "\n".join([columns([HEADER, *rows]), *_undecided(best, entries)])


def _undecided(best: Entry, entries: Sequence[Entry]) -> list[str]:
    """A sentence where other cards may cost less than the one that is marked."""
    if best.predicted is None or best.predicted.cost_usd is None:
        return []
    rivals = [
        entry.request.hardware.name
        for entry in entries
        if entry is not best and entry.predicted is not None and entry.predicted.may_cost_less_than(best.predicted)
    ]
    if not rivals:
        return []
    return [f"Not decided: {', '.join(rivals)} may cost less than {best.request.hardware.name}, by the ranges above."]


def _entry(request: Request) -> Entry:
    try:
        outcome = search(request)
    except BadInput as refusal:
        return Entry(request, None, None, refusal)
    if outcome.best is None:
        return Entry(request, outcome, None)
    plan = plan_from(request, outcome, alternatives=0, dataset=None).parameters.plan
    return Entry(request, outcome, plan)


def _cost_first(entry: Entry) -> tuple[float, float]:
    assert entry.predicted is not None
    cost = entry.predicted.cost_usd
    return float("inf") if cost is None else cost, entry.predicted.hours


def _missing(entry: Entry) -> float:
    assert entry.outcome is not None
    nearest = entry.outcome.nearest
    return max(nearest.missing, 0.0) + max(nearest.host_missing, 0.0)


def _lacks(entry: Entry) -> str:
    """What the plan nearest to fitting lacks, by where it lacks it."""
    assert entry.outcome is not None
    nearest = entry.outcome.nearest
    parts = [(nearest.missing, "GiB"), (nearest.host_missing, "GiB of host memory")]
    return " and ".join(f"{size:.1f} {what}" for size, what in parts if size > 0)


def _host_text(needed: float, there: float | None) -> str:
    return f"{needed:.1f}" if there is None else f"{needed:.1f} of {there:.1f}"


def _row(entry: Entry, take: bool) -> tuple[str, ...]:
    name = entry.request.hardware.name
    if entry.refusal is not None:
        return ("", name, f"refused: {entry.refusal.message}")
    if entry.plan is None:
        return ("", name, f"no, lacks {_lacks(entry)}")
    predicted = entry.plan.predicted
    speed, costs = predicted.tokens_per_second_range, predicted.cost_usd_range
    cost = "-" if predicted.cost_usd is None else f"{predicted.cost_usd:,.2f}"
    return (
        "*" if take else "",
        name,
        "yes",
        f"{predicted.peak_vram_gib:.1f} of {entry.request.hardware.vram_gib:.1f}",
        _host_text(predicted.host_ram_gib, entry.request.hardware.host_ram_gib),
        f"{predicted.tokens_per_second:,.0f}",
        "-" if speed is None else f"{speed[0]:,.0f} to {speed[1]:,.0f}",
        entry.plan.basis,
        duration.in_words(predicted.hours),
        cost if costs is None else f"{cost} ({costs[0]:,.2f} to {costs[1]:,.2f})",
    )
