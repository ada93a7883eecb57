"""What else must be said of two checkpoints, beside the verdict: files not read, names, changes that are very large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from ..weights.checkpoint import Checkpoint
from ..weights.naming import WRAPPERS
from .alignment import Alignment
from .compare import Moves
from .verdict import Finding, Verdict

LARGE: Final = 0.5
"""A change of this share of the weights is remarked on: full fine-tuning changes them by a few per cent at most."""


def of(base: Checkpoint, trained: Checkpoint, alignment: Alignment, judgement: Verdict) -> tuple[str, ...]:
    """Sentences on the files, the names and the size of the change."""
    sides = [base] if base.path == trained.path else [base, trained]
    return (
        *(remark for side in sides for remark in side.remarks),
        *(remark for side in sides for remark in _wrapped(side)),
        *_prefixes(alignment),
        *_unloaded(alignment),
        *_large(judgement),
    )


def _wrapped(side: Checkpoint) -> Iterator[str]:
    names = [name for name in side.tensors if WRAPPERS.search(name)]
    if names:
        wrapper = WRAPPERS.search(names[0])
        assert wrapper is not None
        yield (
            f"{side.path}: {len(names)} names hold `{wrapper.group()}`, as in {names[0]}; they were compared without"
            " it, but loaders do not find such names and begin with random weights: save the unwrapped model"
        )


def _prefixes(alignment: Alignment) -> Iterator[str]:
    for prefix in alignment.prefixes:
        if not WRAPPERS.search(prefix.base) and not WRAPPERS.search(prefix.trained):
            yield (
                f"{prefix.tensors} tensors are named `{prefix.base}...` in the base and `{prefix.trained}...` in the"
                " trained checkpoint; they were compared as the same"
            )


def _unloaded(alignment: Alignment) -> Iterator[str]:
    if alignment.unloaded:
        yield (
            f"{len(alignment.unloaded)} tensors of the base predict further tokens ({alignment.unloaded[0]}, ...);"
            " transformers does not load them, so the trained checkpoint is without them"
        )


def _large(judgement: Verdict) -> Iterator[str]:
    """The change of all weights, or else of the matrix that changed most."""
    whole = _relative(judgement.findings)
    if whole is not None and whole >= LARGE:
        yield (
            f"the change is {whole:.2g} times as large as the weights themselves: this is hardly fine-tuning any more;"
            " was the learning rate right, and is this the base that training began from?"
        )
        return
    matrices = [f for f in judgement.findings if f.group not in ("norms", "biases") and f.pair.elements > 1]
    sizes = [(_relative([finding]) or 0.0, finding.pair.name) for finding in matrices]
    far = sorted((size, name) for size, name in sizes if size >= LARGE)
    if far:
        size, name = far[-1]
        more = f", and {len(far) - 1} more by half or more" if len(far) > 1 else ""
        yield f"{name} changed by {size:.2g} times its own size{more}: fine-tuning changes weights by a few per cent"


def _relative(findings: tuple[Finding, ...] | list[Finding]) -> float | None:
    """The norm of the change over that of the base; None where that is zero or not finite."""
    moves = sum((finding.comparison.moves for finding in findings), Moves())
    squares = sum(finding.comparison.base_squares for finding in findings)
    value = math.sqrt(moves.squares / squares) if squares else math.inf
    return value if math.isfinite(value) else None
