"""What may be wrong with one row, as an exception that knows no file: the caller adds where the row stands."""

from __future__ import annotations


class RowProblem(ValueError):
    """Why one row cannot be used, as a clause that follows "row N"; `hint` says what to do, where more is known."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class EmptyRow(RowProblem):
    """The row is well-formed and holds nothing to learn: training leaves it out and counts it."""
