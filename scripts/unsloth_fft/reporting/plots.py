"""Plots of a run as PNG bytes, for light and for dark pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..training.metrics import Line

LIGHT = {"text": "#1f2430", "grid": "#d9dde5", "back": "#ffffff", "train": "#3b6fd4", "held_out": "#c8501e"}
DARK = {"text": "#e6e8ee", "grid": "#3a4050", "back": "#171a21", "train": "#7ea6ff", "held_out": "#ff9a62"}


@dataclass(frozen=True)
class Shape:
    """A plot's size in inches, and dots an inch; words keep their size, so a small plot has larger words."""

    width: float
    height: float
    dpi: int

    @property
    def pixels(self) -> tuple[int, int]:
        return round(self.width * self.dpi), round(self.height * self.dpi)


DESKTOP = Shape(8, 4.2, 110)
PHONE = Shape(3.8, 3.6, 190)
_SMOOTHING = 0.15  # weight of the newest step in the running mean


def loss_png(lines: Sequence[Line], colors: dict[str, str] = LIGHT, shape: Shape = DESKTOP) -> bytes:
    """Training and held-out loss (nats a token) over optimizer steps."""
    figure, axes = _empty(colors, shape)
    steps = [(line.step, line.loss) for line in lines if line.kind == "train" and line.loss is not None]
    held_out = [(line.step, line.loss) for line in lines if line.kind == "eval" and line.loss is not None]
    if steps:
        xs, ys = zip(*steps, strict=True)
        axes.plot(xs, ys, color=colors["train"], alpha=0.35, linewidth=1, label="training, each step")
        axes.plot(xs, _running_mean(ys), color=colors["train"], linewidth=2, label="training, running mean")
    if held_out:
        xs, ys = zip(*held_out, strict=True)
        axes.plot(xs, ys, color=colors["held_out"], marker="o", linewidth=1.5, label="held-out rows")
        for x, y in (held_out[0], held_out[-1]):
            axes.annotate(f"{y:.2f}", (x, y), textcoords="offset points", xytext=(6, 8), color=colors["held_out"])
    axes.set_xlabel("optimizer step", color=colors["text"])
    axes.set_ylabel("loss, nats a token", color=colors["text"])
    axes.margins(y=0.1)
    losses = [loss for _, loss in (*steps, *held_out)]
    if losses and min(losses) < max(losses) / 2:  # else a fall would lie flat at the top of an empty picture
        axes.set_ylim(bottom=0)
    if losses:
        axes.legend(frameon=False, labelcolor=colors["text"])
    return _png(figure)


def _running_mean(values: Sequence[float]) -> list[float]:
    means, mean = [], values[0]
    for value in values:
        mean += _SMOOTHING * (value - mean)
        means.append(mean)
    return means


def _empty(colors: dict[str, str], shape: Shape) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(shape.width, shape.height), dpi=shape.dpi, facecolor=colors["back"], layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=colors["back"])
    axes.grid(color=colors["grid"], linewidth=0.6)
    axes.tick_params(colors=colors["text"])
    for side, spine in axes.spines.items():
        spine.set_color(colors["grid"])
        spine.set_visible(side in ("left", "bottom"))
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.canvas.print_png(buffer, metadata={"Software": None})  # savefig, which draws it twice, gives the same bytes
    return buffer.getvalue()
