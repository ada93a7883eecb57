"""Draws references/methods-and-rates.png: held-out loss over the learning rate, one line a method.

`python -m tools.pages.methods_picture` reads references/measurements/methods-and-rates-h200-2026-12-01.jsonl.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tools.pages import pictures
from unsloth_fft.core.files import BUNDLE_ROOT

ROWS = BUNDLE_ROOT / "references" / "measurements" / "methods-and-rates-h200-2026-12-01.jsonl"
PICTURE = BUNDLE_ROOT / "references" / "methods-and-rates.png"

KINDS = {"texts": "new source code, 40 steps", "instructions": "shipped questions, 89 steps"}
# Method, where its loss stands in a row, its name and its look.
LINES = (
    ("float32", "held", "float32 weights", "#1f5fae", "o-"),
    ("flash", "held_master", "adamw_flash, its float32 master", "#2f9e44", "s--"),
    ("flash", "held", "adamw_flash, stored as bfloat16", "#2f9e44", "s:"),
    ("stochastic", "held", "bfloat16, stochastic rounding", "#7048a8", "^-"),
    ("recipe", "held", "bfloat16, adamw_8bit (one rate)", "#c2410c", "X"),
    ("lora64", "held", "LoRA, rank 64", "#555555", "d-"),
    ("lora16", "held", "LoRA, rank 16", "#999999", "d-"),
)


def points(rows: list[dict[str, Any]], kind: str, method: str, key: str) -> list[tuple[float, float]]:
    """(learning rate, held-out loss) of one line, by rate."""
    return sorted((row["learning_rate"], row[key]) for row in rows if row["data"] == kind and row["method"] == method)


def main() -> int:
    """The command."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (kind, title) in zip(figure.subplots(1, 2), KINDS.items(), strict=True):
        base = next(row["held"] for row in rows if row["data"] == kind and row["method"] == "base")
        axes.axhline(base, color="#1f2430", linewidth=1, linestyle=(0, (1, 3)), label="before training")
        for method, key, name, colour, look in LINES:
            axes.plot(*zip(*points(rows, kind, method, key), strict=True), look, color=colour, label=name, markersize=5)
        axes.set(xscale="log", xlabel="learning rate", ylabel="held-out loss, nats a token", title=title)
        axes.grid(color="#e5e8ee", linewidth=0.7)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle("SmolLM2-135M-Instruct, one H200, one seed: what each way learned")
    pictures.write(figure, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
