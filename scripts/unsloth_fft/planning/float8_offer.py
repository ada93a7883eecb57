"""What float8 products would gain, for a person who looks at a plan: they are offered, and never taken unasked."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import BadInput
from ..settings.float8 import no_float8
from .request import Request
from .search import Outcome, search


def sentences(request: Request, outcome: Outcome) -> list[str]:
    """One sentence where the same request with --compute float8 is expected to be faster; none otherwise."""
    best = outcome.best
    if best is None or request.pins.compute is not None or no_float8(request.hardware) is not None:
        return []
    try:
        other = search(replace(request, pins=replace(request.pins, compute="float8"))).best
    except BadInput:
        return []
    if other is None or other.learned <= best.learned:
        return []
    return [
        f"Float8 matrix products are expected to run at {other.tokens_per_second:,.0f} tokens/s instead of"
        f" {best.tokens_per_second:,.0f}, with weights and updates as exact: --compute float8 (compare the held-out"
        " loss)."
    ]
