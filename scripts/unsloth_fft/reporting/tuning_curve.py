"""Held-out loss against learning rate, a line a round of `tune`: beside tuning.json, and in a session's report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..core import files
from ..core.errors import FFTError
from ..core.markup import fill
from ..training.session import Folder
from .page import document, section, table

if TYPE_CHECKING:
    from markupsafe import Markup

_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 16, 640, 300  # the plot's frame, in user units
_RIGHT, _FOOT = 30, 56
_DASHES: Final = ("2 4", "6 4", "")  # of rounds; the last, which decides, is whole
TITLE = "Learning rates that were tried"
_BODY = """<p>Rate <strong>{{ chosen }}</strong> had the lowest held-out loss of the last round
(planned: {{ planned }}). Rounds of {{ steps }} steps a rate; every try began from the base model.</p>
{% if beyond %}
<p class="bad">It is at the edge of what was tried: a {{ beyond }} rate may be better still.</p>
{% endif %}
{{ curve }}{{ tried }}"""
_CURVE = """<svg class="curve" viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}"
 height="{{ height }}" role="img" aria-label="Held-out loss against learning rate; lowest at {{ chosen.words }}">
<style>.curve text{font:12px system-ui,sans-serif;fill:var(--ink)}
@media (max-width:600px){.curve text{font-size:20px}}</style>
<path d="M{{ left }} {{ top }}V{{ bottom }}H{{ right }}" fill="none" stroke="var(--line)"/>
{% for y, loss in losses %}<text x="{{ left - 6 }}" y="{{ y }}" text-anchor="end">{{ loss }}</text>{% endfor %}
{% for x, anchor, rate in rates %}
<text x="{{ x }}" y="{{ bottom + 20 }}" text-anchor="{{ anchor }}">{{ rate }}</text>{% endfor %}
{% for round in rounds %}<polyline points="{{ round.line }}" fill="none" stroke="var(--good)" stroke-width="2"
 stroke-dasharray="{{ round.dashes }}"/>{% for x, y, words in round.marks %}
<circle cx="{{ x }}" cy="{{ y }}" r="4" fill="var(--good)"><title>{{ words }}</title></circle>{% endfor %}
{% for x, words in round.crosses %}
<path d="M{{ x }} {{ top }}l10 10m0 -10l-10 10" stroke="var(--bad)"><title>{{ words }}</title></path>{% endfor %}
{% endfor %}
<path d="M{{ chosen.x }} {{ top }}V{{ bottom }}" stroke="var(--bad)" stroke-dasharray="4 3"/>
<text x="{{ chosen.x }}" y="{{ bottom + 44 }}" text-anchor="middle">chosen: {{ chosen.words }}</text></svg>"""

Place = Callable[[float], str]


def page(found: dict[str, Any]) -> Markup:
    """A whole page for the JSON tuning `found`."""
    return document(TITLE, fill("<h1>{{ title }}</h1>{{ body }}", title=TITLE, body=body(found)))


def body(found: dict[str, Any]) -> Markup:
    """The JSON tuning `found` as HTML: the rate, the curve, and every try in a table."""
    rows = [
        (f"{one['learning_rate']:g}", f"{one['steps']:,}", "diverged" if one["loss"] is None else f"{one['loss']:.4f}")
        for tries in found["rounds"]
        for one in tries
    ]
    return fill(
        _BODY,
        chosen=f"{found['chosen']:g}",
        planned=f"{found['planned']:g}",
        steps=", ".join(str(tries[0]["steps"]) for tries in found["rounds"]),
        beyond={"upper": "larger", "lower": "smaller"}.get(found["edge"]),
        curve=svg(found),
        tried=table("Every try", ("learning rate", "steps", "held-out loss, nats a token"), rows),
    )


def of_session(folder: Folder, rate: float) -> Markup:
    """A section on how the session's `rate` was measured; empty where it was not, or has been changed since."""
    try:
        found = files.read_json(folder.tuning, "tuning") if folder.tuning.is_file() else None
        if found is None or found["chosen"] != rate:
            return fill("")
        return section(TITLE, body(found))
    except (FFTError, OSError, KeyError, TypeError, ValueError):  # of another version: the page is worth more
        return fill("")


def svg(found: dict[str, Any]) -> Markup:
    """The curve as an SVG element; tries that diverged are crosses at the top."""
    every = [one for tries in found["rounds"] for one in tries]
    rates = [one["learning_rate"] for one in every]
    losses = [one["loss"] for one in every if one["loss"] is not None]
    x, y = _scale(rates, _LEFT, _LEFT + _WIDTH, math.log), _scale(losses, _TOP + _HEIGHT, _TOP, float)
    ends = sorted({min(losses), max(losses)}) if losses else []
    return fill(
        _CURVE,
        width=_LEFT + _WIDTH + _RIGHT,
        height=_TOP + _HEIGHT + _FOOT,
        left=_LEFT,
        top=_TOP,
        right=_LEFT + _WIDTH,
        bottom=_TOP + _HEIGHT,
        losses=[(y(loss), f"{loss:.3f}") for loss in ends],
        rates=[(x(min(rates)), "start", f"{min(rates):g}"), (x(max(rates)), "end", f"{max(rates):g}")],
        rounds=[_round(tries, x, y, number - len(found["rounds"])) for number, tries in enumerate(found["rounds"])],
        chosen={"x": x(found["chosen"]), "words": f"{found['chosen']:g}"},
    )


def _round(tries: Sequence[dict[str, Any]], x: Place, y: Place, before_end: int) -> dict[str, Any]:
    """One round: a line through its losses, and a mark with a title for every try; the last is -1 `before_end`."""
    points = sorted((one["learning_rate"], one["loss"], one["steps"]) for one in tries if one["loss"] is not None)
    return {
        "dashes": _DASHES[max(before_end, -len(_DASHES))],
        "line": " ".join(f"{x(rate)},{y(loss)}" for rate, loss, _ in points),
        "marks": [(x(rate), y(loss), f"{rate:g}, {steps:,} steps: loss {loss:.4f}") for rate, loss, steps in points],
        "crosses": [
            (x(one["learning_rate"]), f"{one['learning_rate']:g}, {one['steps']:,} steps: diverged")
            for one in tries
            if one["loss"] is None
        ],
    }


def _scale(values: Sequence[float], start: float, stop: float, of: Callable[[float], float]) -> Place:
    """A function from a value to its place between `start` and `stop`; in the middle where all are alike."""
    low, high = (of(min(values)), of(max(values))) if values else (0.0, 0.0)
    if high == low:
        return lambda value: f"{(start + stop) / 2:.1f}"
    return lambda value: f"{start + (of(value) - low) / (high - low) * (stop - start):.1f}"
