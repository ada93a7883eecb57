"""The same run planned for several cards: one line a card, and the card to take."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.columns import aligned
from ..core.errors import BadInput
from ..settings.parameters import Plan, Predicted
from . import default_batch, duration
from .plan import plan_from
from .request import Request
from .search import Outcome, search

HEADER = ("", "GPU", "peak/GiB", "host", "tokens/s", "time", "cost USD")
# Counts that are tried where one card is not enough, as machines have them.
GPU_COUNTS = (2, 4, 8)


@dataclass(frozen=True)
class Entry:
    """One card: its search and its plan (None where nothing fits), or why there was no search."""

    request: Request
    outcome: Outcome | None
    plan: Plan | None
    refusal: BadInput | None = None

    @property
    def predicted(self) -> Predicted | None:
        return None if self.plan is None else self.plan.predicted


def compare(requests: Sequence[Request], *, more_gpus: bool = False) -> list[Entry]:
    """An entry for each request, in their order; with `more_gpus` several of a card of which one is not enough.

    Raises BadInput where no card allows the request.
    """
    entries = [_enough(request) if more_gpus else _entry(request) for request in requests]
    refusals = [entry.refusal for entry in entries if entry.refusal is not None]
    if len(refusals) == len(entries):
        raise refusals[0]
    return entries


def _enough(request: Request) -> Entry:
    """The entry of the fewest cards on which something fits, else that of one."""
    first = _entry(request)
    if first.plan is not None or first.refusal is not None:
        return first
    for count in GPU_COUNTS:
        more = _entry(default_batch.on(request, replace(request.hardware, gpus=count)))
        if more.plan is not None:
            return more
    return first


def chosen(entries: Sequence[Entry]) -> Entry:
    """The cheapest that fits where prices are known, else the fastest; the nearest to fitting where none does."""
    fitting = [entry for entry in entries if entry.predicted is not None]
    if fitting:
        return min(fitting, key=lambda entry: (*_cost_first(entry), entry.request.hardware.name))
    held = [entry for entry in entries if entry.outcome is not None]
    return min(held, key=lambda entry: (_missing(entry), entry.request.hardware.name))


def table(entries: Sequence[Entry], *, brief: bool = False) -> str:
    """One line a card, within 80 columns; the one to take is marked. `brief`: best first, what does not fit in a word.

    Otherwise the cards stay in their order, and what is uncertain of each stands below it.
    """
    best = chosen(entries)
    shown = [entry for entry in entries if entry.plan is not None] if brief else list(entries)
    if brief:
        shown.sort(key=lambda entry: (*_cost_first(entry), entry.request.hardware.name))
    lines = aligned([HEADER, *(_row(entry, entry is best and entry.plan is not None) for entry in shown)]).splitlines()
    below = [lines[0]]
    for entry, line in zip(shown, lines[1:], strict=True):
        below += [line, *([] if brief else _range(entry))]
    return "\n".join([*below, *_not_shown(entries, shown), *_notes(entries), *_undecided(best, entries)])


def _range(entry: Entry) -> list[str]:
    """What the figures of one card may be instead."""
    if entry.plan is None or entry.plan.predicted.tokens_per_second_range is None:
        return []
    predicted = entry.plan.predicted
    low, high = predicted.tokens_per_second_range or (0.0, 0.0)
    costs = predicted.cost_usd_range
    cost = "" if costs is None else f", {duration.span(f'{costs[0]:,.2f}', f'{costs[1]:,.2f}')} USD"
    return [f"     {entry.plan.basis}: {duration.span(f'{low:,.0f}', f'{high:,.0f}')} tokens/s{cost}"]


def _not_shown(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[str]:
    names = [entry.request.hardware.name for entry in entries if entry not in shown]
    return textwrap.wrap(f"Fit neither alone nor by 8: {', '.join(names)}.", 80) if names else []


def _notes(entries: Sequence[Entry]) -> list[str]:
    """What was assumed, and what the marks say."""
    notes = []
    if any(entry.plan is not None and entry.plan.basis == "extrapolated" for entry in entries):
        notes.append("~: extrapolated, an estimate; the others were measured or fitted.")
    if all(entry.request.hardware.host_ram_gib is None for entry in entries):
        notes.append("Host memory was not given, and any amount was assumed: 'host' is what each machine must have.")
    if not any(entry.request.price_per_hour for entry in entries):
        notes.append("No prices: add --prices shipped (dated, public) or --prices FILE. Fastest first.")
    else:
        notes += _unpriced(entries)
    return [line for note in notes for line in textwrap.wrap(note, 80)]


def _unpriced(entries: Sequence[Entry]) -> list[str]:
    """Which cards have a plan and no cost, because the table of prices lacks them."""
    fitting = [entry.request for entry in entries if entry.plan is not None]
    names = [request.hardware.name for request in fitting if not request.price_per_hour]
    return [f"-: no price is known for {', '.join(names)}; --prices FILE may name yours."] if names else []


def _undecided(best: Entry, entries: Sequence[Entry]) -> list[str]:
    """A sentence where other cards may cost less than the one that is marked."""
    if best.predicted is None or best.predicted.cost_usd is None:
        return []
    rivals = [
        _with_costs(entry)
        for entry in entries
        if entry is not best and entry.predicted is not None and entry.predicted.may_cost_less_than(best.predicted)
    ]
    if not rivals:
        return []
    sentence = f"Not decided: {', '.join(rivals)} may cost less than {_with_costs(best)}, by their ranges in USD."
    return textwrap.wrap(sentence, 80)


def _with_costs(entry: Entry) -> str:
    """The card and what the run may cost on it, in USD."""
    assert entry.predicted is not None
    low, high = (f"{cost:,.2f}" for cost in entry.predicted.cost_ends)
    return f"{entry.request.hardware.name} ({duration.span(low, high)})"


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


def _row(entry: Entry, take: bool) -> tuple[str, ...]:
    hardware = entry.request.hardware
    name = hardware.name if hardware.gpus == 1 else f"{hardware.gpus}x {hardware.name}"
    if entry.refusal is not None:
        return ("", name, f"refused: {entry.refusal.message}")
    if entry.plan is None:
        return ("", name, f"no, lacks {_lacks(entry)}")
    predicted = entry.plan.predicted
    mark = "~" if entry.plan.basis == "extrapolated" else ""
    return (
        "*" if take else "",
        name,
        f"{predicted.peak_vram_gib:.1f}/{hardware.vram_gib:.0f}",
        f"{predicted.host_ram_gib:.0f}",
        f"{mark}{predicted.unpadded_tokens_per_second or predicted.tokens_per_second:,.0f}",
        duration.short(predicted.hours),
        "-" if predicted.cost_usd is None else f"{predicted.cost_usd:,.2f}",
    )
