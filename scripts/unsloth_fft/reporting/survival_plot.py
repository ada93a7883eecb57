"""The curve of surviving updates over learning rates as a picture.

    PYTHONPATH=scripts python -m unsloth_fft.reporting.survival_plot

draws references/survival.png: the rule for weights of N(0, 0.02), and every measured step on record.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..core import files
from ..estimates import survival

INK, LINE, CURVE, MARK = "#1f2430", "#d9dde5", "#1f5fae", "#c2410c"
MEASUREMENTS = files.BUNDLE_ROOT / "references" / "measurements"
PICTURE = files.BUNDLE_ROOT / "references" / "survival.png"


def curve_png(prediction: dict[str, Any]) -> bytes:
    """A PNG of the JSON prediction's curve, its learning rate, and where the wanted share is reached."""
    figure, axes = _axes(f"{prediction['precision']} weights, {prediction['optimizer']}")
    rates = [point["learning_rate"] for point in prediction["curve"]]
    shares = [100 * point["survival"] for point in prediction["curve"]]
    axes.step(rates, shares, where="post", color=CURVE, linewidth=2, label="share of weights a step moves")
    chosen, share = prediction["learning_rate"], 100 * prediction["survival"]
    axes.plot([chosen], [share], "o", color=MARK)
    label = f"{share:.3g}% at {chosen:g}"
    axes.annotate(label, (chosen, share), textcoords="offset points", xytext=(10, -4), color=MARK)
    smallest = prediction["smallest_learning_rate"]
    if rates[0] <= smallest <= rates[-1]:
        axes.axvline(smallest, color=INK, linewidth=1, linestyle=":", label=f"99% from {smallest:g} on")
    return _png(figure, axes)


def measured_png(rows: list[dict[str, Any]]) -> bytes:
    """A PNG of the rule for N(0, 0.02) and the rows that `measure_survival` wrote."""
    figure, axes = _axes("one AdamW step on bfloat16 weights: predicted and measured")
    rates = [10 ** (-7 + step / 100) for step in range(401)]
    shares = [100 * survival.typical_survival(rate, "bfloat16", "adamw_8bit", {}) for rate in rates]
    axes.plot(rates, shares, color=CURVE, linewidth=2, label="rounding rule, weights of N(0, 0.02)")
    for device in sorted({row["device"] for row in rows}):
        some = [row for row in rows if row["device"] == device]
        xs, ys = [row["learning_rate"] for row in some], [100 * row["measured"] for row in some]
        axes.plot(xs, ys, "o", color=MARK, label=f"measured through train, {device}")
    return _png(figure, axes)


def _axes(title: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(8, 4.2), dpi=110, facecolor="#ffffff", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_ylim(-2, 104)
    axes.set_xlabel("learning rate", color=INK)
    axes.set_ylabel("weights that move, %", color=INK)
    axes.set_title(title, color=INK, loc="left")
    axes.grid(color=LINE, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Any, axes: Any) -> bytes:
    axes.legend(frameon=False, labelcolor=INK, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for file in sorted(folder.glob("survival-*.jsonl")) for line in file.open(encoding="utf-8")
    ]


if __name__ == "__main__":
    files.write_bytes(PICTURE, measured_png(_rows(MEASUREMENTS)))
    sys.exit(0)
