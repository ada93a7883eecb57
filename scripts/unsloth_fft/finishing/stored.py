"""What an export's files hold, in the type they are stored in: audited against the base, evaluated on held-out rows.

A type gives up what it cannot hold. Tried on SmolLM2-135M-Instruct (float32 run, 260 rows held out): the loss fell from
3.389 to 1.151, and the same weights stored as bfloat16 had 1.256, as float16 1.151 (references/exactness.md).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..auditing.audit import audit_folders, context_of
from ..core.errors import BadInput
from ..data import preparing
from ..settings.parameters import Parameters
from ..training import held_out, master, session
from ..training.held_out import RowLoss, Rows
from ..weights.checkpoint import locate
from . import evaluate, losses
from .losses import Comparison

FLOAT16_LARGEST = 65504.0
# Floating-point work of one evaluation at most, in products and sums: some minutes on two cores, seconds on a GPU.
MOST_WORK = {"cpu": 1e13, "cuda": 1e16}


@dataclass(frozen=True)
class Stored:
    """What is in the files of an export, beside what was trained.

    `audit` compares the files with the base; None with `not_audited` where the base is not here. `held_out` has the
    trained weights (the float32 master, where there is one) as `before` and the files as `after`, on `rows` of all
    `rows_of` held-out rows; None without such rows. `better_type` keeps what this one gives up, None where that is
    nothing that the rows can tell.
    """

    dtype: str
    audit: dict[str, Any] | None
    not_audited: str | None
    held_out: Comparison | None
    rows_of: int
    better_type: str | None

    @property
    def advice(self) -> str | None:
        """The next command where another type keeps more; None where this one keeps it all."""
        if self.better_type is None or self.held_out is None:
            return None
        before, after = self.held_out.before, self.held_out.after
        return (
            f"{self.dtype} gives up {after - before:.4f} of what was learned (held-out loss {before:.4f} as trained,"
            f" {after:.4f} in these files); --dtype {self.better_type} keeps it"
        )

    def to_json(self) -> dict[str, Any]:
        """What `export --json` tells of the files."""
        audit, found = self.audit, self.held_out
        return {
            "audit": None
            if audit is None
            else {key: audit[key] for key in ("verdict", "elements", "changed", "changed_fraction")},
            "not_audited": self.not_audited,
            "held_out": None
            if found is None
            else {
                "rows": found.rows,
                "rows_in_all": self.rows_of,
                "tokens": found.tokens,
                "loss_trained": found.before,
                "loss_exported": found.after,
                "difference_low": found.low,
                "difference_high": found.high,
            },
            "better_dtype": self.better_type,
            "advice": self.advice,
        }


def look_at(folder: session.Folder, state: session.Session, parameters: Parameters, files: Path, dtype: str) -> Stored:
    """Audit and evaluate the exported `files` of a completed session."""
    audit, why_not = _audited(folder, state, parameters, files)
    with preparing.scratch(folder.root) as space:
        rows = evaluate.held_out_rows(folder, parameters, space)
        some = _affordable(rows, parameters.model.parameters or 0)
        found, better = _compared(folder, files, dtype, some, space)
    return Stored(dtype, audit, why_not, found, len(rows), better)


def trained_values(folder: session.Folder, model: Any) -> Callable[[Any], Any] | None:
    """For held_out.row_losses of a session's model: its values in the float32 master; None where none was kept."""
    if not folder.correction.is_dir():
        return None
    return master.value_of(master.read(folder.correction), model)


def _audited(
    folder: session.Folder, state: session.Session, parameters: Parameters, files: Path
) -> tuple[dict[str, Any] | None, str | None]:
    try:
        base = locate(state.base_model, parameters.model.revision)
        return audit_folders(base, files, context=context_of(folder, parameters)).to_json(), None
    except BadInput as reason:
        return None, reason.message


def _affordable(rows: Rows, weights: int) -> Rows:
    """Of `rows` as many, spread evenly, as take no more work than MOST_WORK; at least two."""
    work = 2.0 * weights * rows.tokens()
    most = MOST_WORK[evaluate.device()]
    if not rows or work <= most:
        return rows
    count = max(2, int(len(rows) * most / work))
    return rows.some([number * len(rows) // count for number in range(min(count, len(rows)))])


def _compared(
    folder: session.Folder, files: Path, dtype: str, rows: Rows, space: Path
) -> tuple[Comparison | None, str | None]:
    """(trained beside stored, the type that keeps what the stored one gives up)."""
    if not rows:
        return None, None
    exported = _losses_of(files, rows, space / "exported")
    model = evaluate.loaded(*evaluate.text_only(str(folder.model), None, space / "trained"))
    wide = trained_values(folder, model) or (lambda weight: weight.data)
    trained = held_out.row_losses(model, rows, wide)
    found = losses.compare(trained, exported)
    better = None
    if found.verdict == "worse" and dtype != "float32":
        better = "float32"
        if dtype != "float16" and _largest(model, wide) <= FLOAT16_LARGEST:
            half = held_out.row_losses(model, rows, lambda weight: wide(weight).half().float())
            better = "float32" if losses.compare(trained, half).verdict == "worse" else "float16"
    del model
    gc.collect()
    return found, better


def _losses_of(folder: Path, rows: Rows, space: Path) -> list[RowLoss]:
    model = evaluate.loaded(*evaluate.text_only(str(folder), None, space))
    try:
        return held_out.row_losses(model, rows)
    finally:
        del model
        gc.collect()


def _largest(model: Any, value: Callable[[Any], Any]) -> float:
    return max(float(value(weight).abs().max()) for weight in model.parameters() if weight.numel())
