"""How far the model is off on the measured rows: as tables, figures and pictures."""

from __future__ import annotations

import statistics
from pathlib import Path

from tools.measurements.rows import Row
from tools.pages import markdown, pictures
from unsloth_fft.estimates.calibration import MemoryConstants, SpeedConstants

HeldOut = dict[str, tuple[float, float]]  # by row, its errors of memory and speed under constants fitted to all others
FAR_MEMORY, FAR_SPEED = 0.05, 0.12  # what the page lists row by row
FURTHEST = (
    f"Furthest off, by more than {FAR_MEMORY:.0%} in memory, or {FAR_SPEED:.0%} in speed above a billion weights:"
)


def table(rows: list[Row], held_out: HeldOut | None = None) -> str:
    """Measured against predicted, as Markdown."""
    errors = ("predicted", "error", "left out")
    head = ("row", "setting", "GiB", *errors, "tokens/s", *errors)
    return markdown.table(head, [(row.id, describe(row), *_cells(row, held_out)) for row in rows])


def _cells(row: Row, held_out: HeldOut | None) -> list[str]:
    peak = row.memory().peak
    if row.ran_out:
        verdict = "right" if peak > row.cap_gib else "WRONG"
        return [f"out of memory at {row.cap_gib:g}", f"{peak:.2f}", verdict, "", "", "", "", ""]
    left_out = [f"{error:+.1%}" for error in held_out[row.id]] if held_out else ["", ""]
    return [
        f"{row.peak_reserved:.2f}",
        f"{peak:.2f}",
        f"{row.memory_error():+.1%}",
        left_out[0],
        f"{row.tokens_per_second:,.0f}",
        f"{row.speed():,.0f}",
        f"{row.speed_error():+.1%}" if row.times else "not alone",
        left_out[1] if row.times else "",
    ]


def page(rows: list[Row], held_out: HeldOut) -> str:
    """What the page of predictions shows of the rows that were fitted to."""
    return f"{summary(rows, held_out)}\n\n{by_kind(rows)}\n\n{FURTHEST}\n\n{furthest(rows)}"


def by_kind(rows: list[Row]) -> str:
    """The errors of all rows that ran as Markdown, a line a kind of plan: how far off, and on how many rows."""
    kinds: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if not row.ran_out), key=_kind):
        kinds.setdefault(_kind(row), []).append(row)
    lines = []
    for kind, some in kinds.items():
        peaks = [row.peak_reserved for row in some]
        timed = [row for row in some if row.times]
        cells = [
            kind,
            str(len(some)),
            f"{min(peaks):.1f} to {max(peaks):.1f}",
            _span([row.memory_error() for row in some]),
            _span([row.speed_error() for row in timed if row.is_large]),
            _span([row.speed_error() for row in timed if not row.is_large]),
        ]
        lines.append(cells)
    return markdown.table(("plan", "rows", "GiB", "memory error", "speed error, 1B and more", "smaller"), lines)


def _kind(row: Row) -> str:
    setting = row.setting
    where = ", state offloaded" if setting.state_offload else ""
    where = ", state and gradients offloaded" if setting.gradient_offload else where
    return f"{setting.weights} {setting.optimizer}{where}" + (", several GPUs" if setting.gpus > 1 else "")


def _span(errors: list[float]) -> str:
    if len(errors) < 2:
        return "".join(f"{error:+.1%}" for error in errors)
    return f"{min(errors):+.1%} to {max(errors):+.1%}"


def furthest(rows: list[Row]) -> str:
    """The rows that the model is furthest off on as Markdown: more than FAR_MEMORY, or FAR_SPEED of a large model."""
    lines = []
    for row in rows:
        off = not row.ran_out and abs(row.memory_error()) > FAR_MEMORY
        if off or (row.times and row.is_large and abs(row.speed_error()) > FAR_SPEED):
            peak, peak_error, speed_, speed_error = (_cells(row, None)[at] for at in (0, 2, 4, 6))
            lines.append((row.id, describe(row), peak, peak_error, speed_, speed_error))
    return markdown.table(("row", "setting", "GiB", "error", "tokens/s", "error"), lines)


def describe(row: Row) -> str:
    """The setting of `row` in a few words."""
    setting = row.setting
    args = "".join(f" {name}={value}" for name, value in setting.optimizer_args)
    extras = ", float8" if setting.float8 else ""
    extras += f", {setting.checkpointed_layers} layers recomputed" if setting.checkpointed_layers is not None else ""
    extras += ", state offload" if setting.state_offload else ""
    extras += ", gradient offload" if setting.gradient_offload else ""
    extras += ", weights streamed" if setting.weight_offload else ""
    extras += ", padding-free" if setting.padding_free else ""
    extras += f", {setting.gpus} GPUs" if setting.gpus > 1 else ""
    return (
        f"{row.shape.parameters / 1e9:.1f}B {setting.weights} {setting.optimizer}{args}, gc {setting.checkpointing},"
        f" {setting.micro_batch} x {setting.accumulation} x {setting.seq_length}{extras}"
    )


def summary(rows: list[Row], held_out: HeldOut | None = None) -> str:
    """The figures that decide, one a line."""
    ran = [row for row in rows if not row.ran_out]
    rates = [row.speed_error() for row in ran if row.times]
    on_h200 = [row for row in ran if row.times and row.is_large and row.machine.name == "H200"]
    lines = [
        f"{len(ran)} rows that ran, {len(MemoryConstants._fields)} fitted memory constants,"
        f" {len(SpeedConstants._fields)} fitted speed constants",
        _line("peak reserved memory", [row.memory_error() for row in ran]),
        _line("allocated memory", [row.alloc_error() for row in ran]),
        _line("speed", rates),
        _line(
            "speed, models of a billion parameters and more",
            [row.speed_error() for row in ran if row.times and row.is_large],
        ),
        _line("speed, the same on an H200", [row.speed_error() for row in on_h200]),
        f"rows whose speed is off by more than 12%: {sum(abs(error) > 0.12 for error in rates)}",
    ]
    if held_out:
        lines += [
            _line("peak reserved memory, each row left out of the fit", [error[0] for error in held_out.values()]),
            _line("speed, each row left out of the fit", [held_out[row.id][1] for row in ran if row.times]),
        ]
    return "\n".join(f"- {line}" for line in lines)


def _line(what: str, errors: list[float]) -> str:
    absolute = [abs(error) for error in errors]
    return (
        f"{what}: median error {statistics.median(absolute):.1%}, worst {max(absolute):.1%},"
        f" most under {min(errors):+.1%}, most over {max(errors):+.1%}"
    )


COLOURS = {"adamw_torch_fused": "#4c72b0", "adamw_8bit": "#dd8452", "paged_adamw_8bit": "#8172b3",
           "adamw_flash": "#55a868", "adamw_torch_8bit": "#c44e52"}  # fmt: skip
Point = tuple[float, float, str]


def plot(rows: list[Row], folder: Path) -> None:
    """Predicted against measured, memory and speed, each on equal axes; one colour an optimizer."""
    ran = [row for row in rows if not row.ran_out]
    peaks = [(row.peak_reserved, row.memory().peak, row.setting.optimizer) for row in ran]
    rates = [(row.tokens_per_second or 0.0, row.speed(), row.setting.optimizer) for row in ran if row.times]
    _scatter(peaks, "Peak reserved memory of a GPU, GiB", 0.07, folder / "memory-model.png")
    _scatter(rates, "Tokens a second over all GPUs", 0.12, folder / "speed-model.png")


def _scatter(points: list[Point], label: str, band: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 6.0), dpi=110)
    low = 0.8 * min(min(measured, predicted) for measured, predicted, _ in points)
    high = 1.25 * max(max(measured, predicted) for measured, predicted, _ in points)
    axes.plot([low, high], [low, high], color="#444444", linewidth=1)
    axes.fill_between(
        [low, high], [low * (1 - band), high * (1 - band)], [low * (1 + band), high * (1 + band)],
        color="#dddddd", zorder=0, label=f"within {band:.0%}",
    )  # fmt: skip
    for name, colour in COLOURS.items():
        mine = [point for point in points if point[2] == name]
        axes.scatter([p[0] for p in mine], [p[1] for p in mine], s=36, color=colour, label=name, zorder=3)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel=f"{label}: measured",
             ylabel=f"{label}: predicted", title=f"{len(points)} measured runs on NVIDIA H100 and H200")  # fmt: skip
    axes.set_aspect("equal")
    axes.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    pictures.write(figure, path)
    pyplot.close(figure)
