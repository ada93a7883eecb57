"""The layer-by-group heat map of an audit, as inline SVG for report.html: blue moved, orange stood still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..core.markup import fill
from ..weights.naming import GROUPS
from .audit_table import share

if TYPE_CHECKING:
    from markupsafe import Markup

LEVELS: Final = (0.0, 0.05, 0.25, 0.5, 0.9, 0.99)
"""Lower ends of the colours after the one for exactly nothing; the last is what counts as moved."""

_LIGHT: Final = ("#c2410c", "#ea8a4f", "#f5c39f", "#dfe3ea", "#a9c6ec", "#5f95d8", "#1f5fae")
_DARK: Final = ("#f97316", "#b65a1c", "#6f4426", "#3d4452", "#2f5382", "#3a73ba", "#7ab4ff")
_LIGHT_INK: Final = ("#ffffff", "#1f2430", "#1f2430", "#1f2430", "#1f2430", "#10131a", "#ffffff")
_DARK_INK: Final = ("#171a21", "#ffffff", "#ffffff", "#ffffff", "#ffffff", "#ffffff", "#10131a")

_LABEL_WIDTH: Final = 88  # with four groups the whole map fits a phone of 390 pixels
_CELL_WIDTH: Final = 66
_CELL_HEIGHT: Final = 22
_TOP: Final = 30
_LEGEND: Final = 54


_MAP: Final = """\
<svg class="heat" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}"
 height="{{ height }}" role="img" aria-label="{{ label }}"><title>{{ label }}</title><style>{{ style | safe }}</style>
{% for name, x in columns %}
<text class="name" x="{{ '%g' % x }}" y="{{ head }}" text-anchor="middle">{{ name }}</text>
{% endfor %}
{% for row in rows %}
<text class="name" x="{{ margin }}" y="{{ '%g' % row.middle }}" text-anchor="end">{{ row.name }}</text>
{% for one in row.cells %}
<g><title>{{ one.words }}</title><rect class="h{{ one.level }}" x="{{ one.x }}" y="{{ one.y }}" width="{{ cell[0] }}"
 height="{{ cell[1] }}" rx="3"/><text class="t{{ one.level }}" x="{{ '%g' % one.middle }}" y="{{ '%g' % row.middle }}"
 text-anchor="middle">{{ one.share }}</text></g>
{% endfor %}
{% endfor %}
{{ legend }}</svg>"""
_STRIP: Final = """\
<text class="name" x="{{ margin }}" y="{{ y + 11 }}" text-anchor="end">moved</text>
{% for level, x in levels %}
<rect class="h{{ level }}" x="{{ x }}" y="{{ y }}" width="{{ width }}" height="14" rx="3"/>
{% endfor %}
{% for x, anchor, text in words %}
<text class="name" x="{{ x }}" y="{{ y + 28 }}" text-anchor="{{ anchor }}">{{ text }}</text>
{% endfor %}
"""


@dataclass(frozen=True)
class _Cell:
    """A rectangle with its share; `x` and `y` are its corner, `middle` is where its words stand, in user units."""

    words: str
    x: int
    y: int
    middle: float
    level: int
    share: str


@dataclass(frozen=True)
class _Row:
    """A layer; its words stand at the height `middle`."""

    name: str
    middle: float
    cells: list[_Cell]


def heat_map(audit: dict[str, Any]) -> Markup:
    """An SVG element: one row a layer, one column a group, the share of weights that moved in colour and in words.

    `audit` is the JSON audit. The text can be selected, and a screen reader reads a summary and every cell's title.
    """
    groups = [name for name in GROUPS if name in audit["groups"]]
    rows = audit["layers"]
    width = _LABEL_WIDTH + _CELL_WIDTH * max(len(groups), 4) + 4
    height = _TOP + _CELL_HEIGHT * len(rows) + _LEGEND
    columns = [(name, _LABEL_WIDTH + _CELL_WIDTH * column + _CELL_WIDTH / 2) for column, name in enumerate(groups)]
    return fill(
        _MAP,
        width=width,
        height=height,
        label=_summary(audit),
        style=_style(),
        columns=columns,
        head=_TOP - 10,
        margin=_LABEL_WIDTH - 8,
        rows=[_row(row, groups, _TOP + _CELL_HEIGHT * index) for index, row in enumerate(rows)],
        legend=_legend(_TOP + _CELL_HEIGHT * len(rows) + 18),
        cell=(_CELL_WIDTH - 2, _CELL_HEIGHT - 2),
    )


def level_of(fraction: float) -> int:
    """Which of the seven colours a share has: 0 only for nothing at all, 6 only for what counts as moved."""
    if fraction <= 0:
        return 0
    return sum(fraction >= lowest for lowest in LEVELS)


def _row(row: dict[str, Any], groups: list[str], y: int) -> _Row:
    name = "outside layers" if row["layer"] is None else f"layer {row['layer']}"
    cells = []
    for column, group in enumerate(groups):
        found = row["groups"].get(group)
        if found is not None:
            words = f"{name}, {group}: {found['moved']:,} of {found['elements']:,} weights moved"
            x, fraction = _LABEL_WIDTH + _CELL_WIDTH * column, found["moved_fraction"]
            cells.append(_Cell(words, x + 1, y + 1, x + _CELL_WIDTH / 2, level_of(fraction), share(fraction)))
    return _Row(name, y + _CELL_HEIGHT / 2 + 4, cells)


def _legend(y: int) -> Markup:
    """The seven colours in a strip, with words at both ends and in the middle."""
    step = _CELL_WIDTH * 4 / len(_LIGHT)
    words = []
    for level, text in _LEGEND_WORDS.items():
        x = _LABEL_WIDTH + step * level
        # The outer words stay within the strip, so that a narrow map does not cut them.
        anchor, at = {0: ("start", x), 6: ("end", x + step)}.get(level, ("middle", x + step / 2))
        words.append((f"{at:g}", anchor, text))
    levels = [(level, f"{_LABEL_WIDTH + step * level + 1:g}") for level in range(len(_LIGHT))]
    return fill(_STRIP, y=y, margin=_LABEL_WIDTH - 8, width=f"{step - 2:g}", levels=levels, words=words)


_LEGEND_WORDS: Final = {0: "none", 3: "25% to 50%", 6: "99% or more"}


def _summary(audit: dict[str, Any]) -> str:
    groups = ", ".join(f"{name} {share(group['moved_fraction'])}" for name, group in audit["groups"].items())
    return f"Share of weights that moved, by layer and part of the model. Verdict {audit['verdict']}. {groups}."


def _style() -> str:
    light = _rules(_LIGHT, _LIGHT_INK)
    dark = _rules(_DARK, _DARK_INK)
    return (
        ".heat text{font:12px system-ui,sans-serif;font-variant-numeric:tabular-nums}"
        f".heat .name{{fill:#1f2430;font-size:11px}}{light}"
        f"@media (prefers-color-scheme:dark){{.heat .name{{fill:#e6e8ee}}{dark}}}"
    )


def _rules(fills: tuple[str, ...], inks: tuple[str, ...]) -> str:
    return "".join(
        f".heat .h{level}{{fill:{fill}}}.heat .t{level}{{fill:{ink}}}"
        for level, (fill, ink) in enumerate(zip(fills, inks, strict=True))
    )
