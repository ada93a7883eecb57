"""Draws references/survival.png: the rule for weights of N(0, 0.02), and every measured step on record.

`python -m tools.pages.survival_picture` reads references/measurements/survival-*.jsonl.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tools.pages import pictures
from unsloth_fft.core.files import BUNDLE_ROOT
from unsloth_fft.estimates import survival
from unsloth_fft.reporting import survival_plot

MEASUREMENTS = BUNDLE_ROOT / "references" / "measurements"
PICTURE = BUNDLE_ROOT / "references" / "survival.png"


def draw(rows: list[dict[str, Any]]) -> Any:
    """A figure of the rule and of the rows that `measure_survival` wrote."""
    figure, axes = survival_plot.empty("one AdamW step on bfloat16 weights: predicted and measured")
    rates = [10 ** (-7 + step / 100) for step in range(401)]
    shares = [100 * survival.typical_survival(rate, "bfloat16", "adamw_8bit", {}) for rate in rates]
    axes.plot(rates, shares, color=survival_plot.CURVE, linewidth=2, label="rounding rule, weights of N(0, 0.02)")
    for device in sorted({row["device"] for row in rows}):
        some = [row for row in rows if row["device"] == device]
        xs, ys = [row["learning_rate"] for row in some], [100 * row["measured"] for row in some]
        axes.plot(xs, ys, "o", color=survival_plot.MARK, label=f"measured through train, {device}")
    axes.legend(**survival_plot.LEGEND)
    return figure


def main() -> int:
    """The command."""
    found = sorted(MEASUREMENTS.glob("survival-*.jsonl"))
    rows = [json.loads(line) for file in found for line in file.read_text(encoding="utf-8").splitlines()]
    pictures.write(draw(rows), PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
