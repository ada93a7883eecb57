"""The layer-by-group heat map of an audit, as inline SVG for report.html: blue moved, orange stood still.

Where nothing stood still every cell would say the same, so the size of the change is shown in its place.
"""

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

SIZES: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Of the largest relative change of a cell: lower ends of the colours after the faintest."""

# From faint to strong; the first is for no change at all, as above.
_LIGHT_SIZES: Final = ("#c2410c", "#edf3fb", "#d3e3f6", "#a9c6ec", "#7fabe2", "#5f95d8", "#1f5fae")
_DARK_SIZES: Final = ("#f97316", "#252c3a", "#293c58", "#2f5382", "#35659f", "#3a73ba", "#7ab4ff")
_LIGHT_SIZES_INK: Final = ("#ffffff", "#1f2430", "#1f2430", "#1f2430", "#10131a", "#10131a", "#ffffff")

_LABEL_WIDTH: Final = 90  # with four groups the whole map fits a phone of 375 pixels
_CELL_WIDTH: Final = 62
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
 text-anchor="middle">{{ one.figure }}</text></g>
{% endfor %}
{% endfor %}
{{ legend }}</svg>"""
_STRIP: Final = """\
<text class="name" x="{{ margin }}" y="{{ y + 11 }}" text-anchor="end">{{ what }}</text>
{% for level, x in levels %}
<rect class="h{{ level }}" x="{{ x }}" y="{{ y }}" width="{{ width }}" height="14" rx="3"/>
{% endfor %}
{% for x, anchor, text in words %}
<text class="name" x="{{ x }}" y="{{ y + 28 }}" text-anchor="{{ anchor }}">{{ text }}</text>
{% endfor %}
"""


@dataclass(frozen=True)
class _Cell:
    """A rectangle with its figure; `x` and `y` are its corner, `middle` is where its words stand, in user units."""

    words: str
    x: int
    y: int
    middle: float
    level: int
    figure: str


@dataclass(frozen=True)
class _Row:
    """A layer; its words stand at the height `middle`."""

    name: str
    middle: float
    cells: list[_Cell]


def heat_map(audit: dict[str, Any]) -> Markup:
    """An SVG element: one row a layer, one column a group, in colour and in words.

    A cell is the share of its weights that moved or, where all of them `all_moved`, how large their change is. `audit`
    is the JSON audit. The text can be selected, and a screen reader reads a summary and every cell's title.
    """
    groups = [name for name in GROUPS if name in audit["groups"]]
    rows = audit["layers"]
    largest = max(_size(cell) for row in rows for cell in row["groups"].values()) if all_moved(audit) else None
    width = _LABEL_WIDTH + _CELL_WIDTH * max(len(groups), 4) + 4
    height = _TOP + _CELL_HEIGHT * len(rows) + _LEGEND
    columns = [(name, _LABEL_WIDTH + _CELL_WIDTH * column + _CELL_WIDTH / 2) for column, name in enumerate(groups)]
    return fill(
        _MAP,
        width=width,
        height=height,
        label=_summary(audit, largest),
        style=_style(largest),
        columns=columns,
        head=_TOP - 10,
        margin=_LABEL_WIDTH - 8,
        rows=[_row(row, groups, _TOP + _CELL_HEIGHT * index, largest) for index, row in enumerate(rows)],
        legend=_legend(_TOP + _CELL_HEIGHT * len(rows) + 18, largest),
        cell=(_CELL_WIDTH - 2, _CELL_HEIGHT - 2),
    )


def level_of(fraction: float) -> int:
    """Which of the seven colours a share has: 0 only for nothing at all, 6 only for what counts as moved."""
    if fraction <= 0:
        return 0
    return sum(fraction >= lowest for lowest in LEVELS)


def all_moved(audit: dict[str, Any]) -> bool:
    """Whether every cell of the map counts as moved, so that shares would tell nothing apart."""
    cells = [cell for row in audit["layers"] for cell in row["groups"].values()]
    return bool(cells) and all(level_of(cell["moved_fraction"]) == len(LEVELS) for cell in cells)


def size_level_of(size: float, largest: float) -> int:
    """Which of the seven colours a relative change has beside the map's largest; 0 only for none."""
    if size <= 0 or largest <= 0:
        return 0
    return 1 + sum(size >= largest * lowest for lowest in SIZES)


def size_words(size: float | None) -> str:
    """A relative change in percent, two digits; None is a change from zeros."""
    return "from 0" if size is None else f"{100 * size:.2g}%"


def _size(cell: dict[str, Any]) -> float:
    return float(cell["relative_change"] or 0.0)


def _row(row: dict[str, Any], groups: list[str], y: int, largest: float | None) -> _Row:
    name = "outside layers" if row["layer"] is None else f"layer {row['layer']}"
    cells = []
    for column, group in enumerate(groups):
        found = row["groups"].get(group)
        if found is not None:
            words = f"{name}, {group}: {found['moved']:,} of {found['elements']:,} weights moved"
            x, fraction = _LABEL_WIDTH + _CELL_WIDTH * column, found["moved_fraction"]
            level, figure = level_of(fraction), share(fraction)
            if largest is not None:
                level, figure = size_level_of(_size(found), largest), size_words(found["relative_change"])
                words += f", by {figure} of their size"
            cells.append(_Cell(words, x + 1, y + 1, x + _CELL_WIDTH / 2, level, figure))
    return _Row(name, y + _CELL_HEIGHT / 2 + 4, cells)


def _legend(y: int, largest: float | None) -> Markup:
    """The seven colours in a strip, with words at both ends and in the middle."""
    what, told = "moved", _LEGEND_WORDS
    if largest is not None:
        what, told = "changed by", {0: "none", 3: "an eighth", 6: f"most: {size_words(largest)}"}
    step = _CELL_WIDTH * 4 / len(_LIGHT)
    words = []
    for level, text in told.items():
        x = _LABEL_WIDTH + step * level
        # The outer words stay within the strip, so that a narrow map does not cut them.
        anchor, at = {0: ("start", x), 6: ("end", x + step)}.get(level, ("middle", x + step / 2))
        words.append((f"{at:g}", anchor, text))
    levels = [(level, f"{_LABEL_WIDTH + step * level + 1:g}") for level in range(len(_LIGHT))]
    return fill(_STRIP, what=what, y=y, margin=_LABEL_WIDTH - 8, width=f"{step - 2:g}", levels=levels, words=words)


_LEGEND_WORDS: Final = {0: "none", 3: "25% to 50%", 6: "99% or more"}


def _summary(audit: dict[str, Any], largest: float | None) -> str:
    if largest is not None:
        words = ", ".join(f"{name} {size_words(group['relative_change'])}" for name, group in audit["groups"].items())
        return f"Size of the change, by layer and part of the model. Verdict {audit['verdict']}. {words}."
    groups = ", ".join(f"{name} {share(group['moved_fraction'])}" for name, group in audit["groups"].items())
    return f"Share of weights that moved, by layer and part of the model. Verdict {audit['verdict']}. {groups}."


def _style(largest: float | None) -> str:
    light = _rules(_LIGHT, _LIGHT_INK) if largest is None else _rules(_LIGHT_SIZES, _LIGHT_SIZES_INK)
    dark = _rules(_DARK if largest is None else _DARK_SIZES, _DARK_INK)
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
