"""The layer-by-group heat map of an audit, as inline SVG for report.html: blue moved, orange stood still."""

from __future__ import annotations

import html
from typing import Any, Final

from ..weights.naming import GROUPS
from .audit_table import share

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


def heat_map(audit: dict[str, Any]) -> str:
    """An SVG element: one row a layer, one column a group, the share of weights that moved in colour and in words.

    `audit` is the JSON audit. The text can be selected, and a screen reader reads a summary and every cell's title.
    """
    groups = [name for name in GROUPS if name in audit["groups"]]
    rows = audit["layers"]
    width = _LABEL_WIDTH + _CELL_WIDTH * max(len(groups), 4) + 4
    height = _TOP + _CELL_HEIGHT * len(rows) + _LEGEND
    label = html.escape(_summary(audit))
    parts = [
        f'<svg class="heat" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="{label}">',
        f"<title>{label}</title>",
        f"<style>{_style()}</style>",
    ]
    for column, name in enumerate(groups):
        x = _LABEL_WIDTH + _CELL_WIDTH * column + _CELL_WIDTH / 2
        parts.append(f'<text class="name" x="{x:g}" y="{_TOP - 10}" text-anchor="middle">{name}</text>')
    for index, row in enumerate(rows):
        parts += _row(row, groups, _TOP + _CELL_HEIGHT * index)
    parts += _legend(_TOP + _CELL_HEIGHT * len(rows) + 18)
    return "".join([*parts, "</svg>"])


def level_of(fraction: float) -> int:
    """Which of the seven colours a share has: 0 only for nothing at all, 6 only for what counts as moved."""
    if fraction <= 0:
        return 0
    return sum(fraction >= lowest for lowest in LEVELS)


def _row(row: dict[str, Any], groups: list[str], y: int) -> list[str]:
    name = "outside layers" if row["layer"] is None else f"layer {row['layer']}"
    middle = y + _CELL_HEIGHT / 2 + 4
    parts = [f'<text class="name" x="{_LABEL_WIDTH - 8}" y="{middle:g}" text-anchor="end">{name}</text>']
    for column, group in enumerate(groups):
        found = row["groups"].get(group)
        if found is None:
            continue
        x = _LABEL_WIDTH + _CELL_WIDTH * column
        fraction = found["moved_fraction"]
        level = level_of(fraction)
        parts.append(
            f"<g><title>{name}, {group}: {found['moved']:,} of {found['elements']:,} weights moved</title>"
            f'<rect class="h{level}" x="{x + 1}" y="{y + 1}" width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}"'
            f' rx="3"/><text class="t{level}" x="{x + _CELL_WIDTH / 2:g}" y="{middle:g}" text-anchor="middle">'
            f"{html.escape(share(fraction))}</text></g>"
        )
    return parts


def _legend(y: int) -> list[str]:
    """The seven colours in a strip, with words at both ends and in the middle."""
    parts = [f'<text class="name" x="{_LABEL_WIDTH - 8}" y="{y + 11}" text-anchor="end">moved</text>']
    step = _CELL_WIDTH * 4 / len(_LIGHT)
    for level in range(len(_LIGHT)):
        x = _LABEL_WIDTH + step * level
        parts.append(f'<rect class="h{level}" x="{x + 1:g}" y="{y}" width="{step - 2:g}" height="14" rx="3"/>')
        if level in _LEGEND_WORDS:
            # The outer words stay within the strip, so that a narrow map does not cut them.
            anchor, at = {0: ("start", x), 6: ("end", x + step)}.get(level, ("middle", x + step / 2))
            place = f'x="{at:g}" y="{y + 28}" text-anchor="{anchor}"'
            parts.append(f'<text class="name" {place}>{_LEGEND_WORDS[level]}</text>')
    return parts


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
