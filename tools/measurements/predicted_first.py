"""How far the planner's predictions were off that were written into rows before the rows were measured.

    python -m tools.measurements.predicted_first            print the figures
    python -m tools.measurements.predicted_first --write    put them into references/predicted-and-measured.md

Only Unsloth rows that carry `predicted_peak_gb` count, one batch of rows after another: the constants of a batch's
predictions had seen the batches before it. Rows with a dense mask, which plans no longer make, are named apart.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from tools import ROOT
from tools.pages import evidence
from tools.pages.marked_block import Block, print_or_write

FIGURES = Block(
    ROOT / "references" / "predicted-and-measured.md",
    "<!-- figures: printed by tools/measurements/predicted_first.py -->",
    "<!-- end of figures -->",
)
BATCHES = {
    "2026-11-25": r"-2026-11-25-\d+",
    "2026-11-27": r"-2026-11-27-\d+",
    "2026-11-27, again": r"-2026-11-27-again-\d+",
    "2026-11-27, third": r"-2026-11-27-third-\d+",
}
SMALL = ("Qwen2.5-0.5B", "Qwen3-0.6B", "SmolLM2-135M", "SmolLM2-360M")
Row = dict[str, Any]


def figures() -> str:
    """The figures as a Markdown list."""
    return "\n".join(line for batch, ids in BATCHES.items() for line in _of_batch(batch, ids))


def _of_batch(batch: str, ids: str) -> list[str]:
    rows = [row for name, row in evidence.measured_rows().items() if re.fullmatch(rf"h\d+{ids}", name)]
    rows = [row for row in rows if row["stack"] == "unsloth" and "predicted_peak_gb" in row and "oom" not in row]
    dense = [row for row in rows if row["precision"] == "fp32mp" and row["padding_free"] and row["gc"] == "false"]
    usual = [row for row in rows if row not in dense]
    alone = [row for row in usual if "beside" not in row]
    small = [row for row in alone if row["model"].endswith(SMALL)]
    large = [row for row in alone if row not in small]
    lines = [
        _line(f"peak memory, {len(usual)} rows", usual, "predicted_peak_gb", "peak_res_gb"),
        _line(f"speed, {len(large)} rows of a billion weights and more", large, "predicted_tok_s", "tok_s"),
        _line(f"speed, {len(small)} smaller ones", small, "predicted_tok_s", "tok_s"),
    ]
    if dense:
        what = f"peak memory, {len(dense)} rows that kept a dense mask in every layer"
        lines.append(_line(what, dense, "predicted_peak_gb", "peak_res_gb"))
    return [f"- {batch}: {line}" for line in lines]


def _line(what: str, rows: Sequence[Row], predicted: str, measured: str) -> str:
    errors = [row[predicted] / row[measured] - 1 for row in rows]
    middle = statistics.median(abs(error) for error in errors)
    return f"{what}: median error {middle:.1%}, from {min(errors):+.1%} to {max(errors):+.1%}"


if __name__ == "__main__":
    sys.exit(print_or_write(__doc__, figures, FIGURES))
