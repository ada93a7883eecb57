"""The table that --explain prints: every kind of setting that was considered, and how it fared."""

from __future__ import annotations

from ..core.columns import aligned
from ..settings.setting import Setting
from .search import Candidate, Outcome

HEADER = ("  setting", "offload", "ckpt", "batch", "GiB", "host", "tokens/s")
LEGEND = "* chosen: {}. GiB: peak on each GPU; host: GiB there; ckpt: recomputed layers"
_SHORT = {"float32": "fp32", "bfloat16": "bf16"}


def explain(outcome: Outcome) -> str:
    """Within 80 columns: a line a kind of setting, the chosen one marked, and one below for what it lacks."""
    best = outcome.best
    rows = [row for candidate in outcome.best_of_each_kind() for row in _rows(candidate, best)]
    table = aligned([HEADER, *rows])
    return table if best is None else f"{table}\n{LEGEND.format(best.exactness)}"


def _rows(candidate: Candidate, best: Candidate | None) -> list[tuple[str, ...]]:
    setting = candidate.setting
    mark = "*" if candidate is best else " "
    first = (
        f"{mark} {_SHORT.get(setting.weights, setting.weights)} {setting.optimizer}",
        _offload(setting),
        setting.checkpointing if setting.checkpointed_layers is None else f"{setting.checkpointed_layers} layers",
        f"{setting.micro_batch}x{setting.accumulation}" + (f"x{setting.gpus}" if setting.gpus > 1 else ""),
        f"{candidate.memory.peak:.1f}",
        f"{candidate.memory.host:.1f}",
        f"{candidate.tokens_per_second:,.0f}",
    )
    more = _lacks(candidate)
    if candidate.fits and best is not None and candidate.exactness != best.exactness:
        more = f"keeps: {candidate.exactness}"
    return [first, (f"    {more}",)] if more else [first]


def _offload(setting: Setting) -> str:
    if setting.weight_offload:
        return "all"
    if setting.gradient_offload:
        return "both"
    return "state" if setting.state_offload else "no"


def _lacks(candidate: Candidate) -> str:
    lacking = [f"{candidate.missing:.1f} GiB"] if candidate.missing > 0 else []
    lacking += [f"{candidate.host_missing:.1f} GiB of host memory"] if candidate.host_missing > 0 else []
    return f"lacks {' and '.join(lacking)}" if lacking else ""
