"""The curve of surviving updates over learning rates as a picture."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, LINE, CURVE, MARK = "#1f2430", "#d9dde5", "#1f5fae", "#c2410c"
LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": INK, "loc": "upper left"}


def curve_png(prediction: dict[str, Any]) -> bytes:
    """A PNG of the JSON prediction's curve, its learning rate, and where the wanted share is reached."""
    figure, axes = empty(f"{prediction['precision']} weights, {prediction['optimizer']}")
    rates = [point["learning_rate"] for point in prediction["curve"]]
    shares = [100 * point["survival"] for point in prediction["curve"]]
    seen = prediction["source"] == "checkpoint"
    middle = "" if seen else ", middle of the models known"
    axes.step(rates, shares, where="post", color=CURVE, linewidth=2, label=f"share of weights a step moves{middle}")
    chosen, share = prediction["learning_rate"], 100 * prediction["survival"]
    axes.plot([chosen], [share], "o", color=MARK)
    label = f"{share:.3g}% at {chosen:g}"
    axes.annotate(label, (chosen, share), textcoords="offset points", xytext=(10, -4), color=MARK)
    smallest = prediction["smallest_learning_rate"]
    if rates[0] <= smallest <= rates[-1]:
        label = f"99%{'' if seen else ' in all of them'} from {smallest:g} on"
        axes.axvline(smallest, color=INK, linewidth=1, linestyle=":", label=label)
    axes.legend(**LEGEND)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def empty(title: str) -> tuple[Any, Any]:
    """A figure and its axes: share of weights that move (%) over the learning rate."""
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
