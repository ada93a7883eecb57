"""A table as the pages of references/ write it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, without a newline at its end. Cells are Markdown themselves."""
    return "\n".join([line(head), f"|{'---|' * len(head)}", *map(line, rows)])


def line(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"
