"""The table that --explain prints: every kind of setting that was considered, and how it fared."""

from __future__ import annotations

from ..core.columns import aligned
from ..settings.setting import Setting
from . import words
from .search import Candidate, Outcome

HEADER = (
    "",
    "weights",
    "optimizer",
    "offload",
    "checkpointing",
    "batch",
    "peak GiB",
    "host GiB",
    "tokens/s",
    "verdict",
)


def explain(outcome: Outcome) -> str:
    """One line a kind of setting, the chosen one first and marked."""
    return aligned([HEADER, *(_row(candidate, outcome.best) for candidate in outcome.best_of_each_kind())])


def _row(candidate: Candidate, best: Candidate | None) -> tuple[str, ...]:
    setting = candidate.setting
    return (
        "*" if candidate is best else "",
        setting.weights,
        setting.optimizer,
        _offload(setting),
        words.checkpointing(setting),
        f"{setting.micro_batch} x {setting.accumulation}" + (f" x {setting.gpus}" if setting.gpus > 1 else ""),
        f"{candidate.memory.peak:.1f}",
        f"{candidate.memory.host:.1f}",
        f"{candidate.tokens_per_second:,.0f}",
        _verdict(candidate, candidate is best),
    )


def _offload(setting: Setting) -> str:
    if setting.gradient_offload:
        return "state, gradients"
    return "state" if setting.state_offload else "no"


def _verdict(candidate: Candidate, chosen: bool) -> str:
    if chosen:
        return f"chosen: {candidate.exactness}"
    if candidate.fits:
        return f"fits: {candidate.exactness}"
    lacking = [f"{candidate.missing:.1f} GiB"] if candidate.missing > 0 else []
    lacking += [f"{candidate.host_missing:.1f} GiB of host memory"] if candidate.host_missing > 0 else []
    return f"lacks {' and '.join(lacking)}"
