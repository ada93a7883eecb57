"""Rows of text in columns, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], figures: bool = False) -> str:
    """Columns as wide as their widest cell, two spaces apart; with `figures` all but the first are flush right.

    A row may be shorter than the first: its last cell then runs on, and makes no column wider.
    """
    full = len(rows[0])
    cells = [row if len(row) == full else row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in cells if column < len(row)) for column in range(full)]
    return "\n".join(_line(row, widths, figures) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int], figures: bool) -> str:
    placed = (
        cell.rjust(width) if figures and column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=False))
    )
    return "  ".join(placed).rstrip()
