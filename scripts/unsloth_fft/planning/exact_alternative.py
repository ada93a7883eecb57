"""What keeping every update would cost where less was asked for: the best exact plan on the same hardware."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import BadInput
from .request import Request
from .search import Candidate, Outcome, search

EXACT = "exact"


def sentences(request: Request, outcome: Outcome, best: Candidate) -> list[str]:
    """One sentence of comparison where anything but exact updates was asked for; none otherwise."""
    if request.exactness == EXACT:
        return []
    if best.exactness == EXACT:
        return [f"Nothing faster comes of '{request.exactness}' here: the plan is exact."]
    rival = _best(outcome) or _best_without_pins(request)
    if rival is None:
        return ["No exact plan fits here."]
    return [
        f"The best exact plan here ({rival.setting.weights} {rival.setting.optimizer}"
        f"{', state offload' if rival.setting.state_offload else ''}) would run at"
        f" {rival.tokens_per_second:,.0f} tokens/s instead of {best.tokens_per_second:,.0f}, peak at"
        f" {rival.memory.peak:.2f} GiB instead of {best.memory.peak:.2f}, and take {rival.memory.host:.1f} GiB of host"
        f" memory instead of {best.memory.host:.1f}."
    ]


def _best(outcome: Outcome) -> Candidate | None:
    return next((one for one in outcome.candidates if one.fits and one.exactness == EXACT), None)


def _best_without_pins(request: Request) -> Candidate | None:
    """The best exact plan when what was pinned about weights, optimizer and offloading is left open."""
    pins = replace(request.pins, weights=None, optimizer=None, state_offload=None, gradient_offload=None)
    try:
        return search(replace(request, exactness=EXACT, pins=pins)).best
    except BadInput:
        return None
