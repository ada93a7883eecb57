"""What to do about a cause, in words for the case at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .predict import REMEDY

SHOWN: Final = 2
"""Tensors that a remedy names before the rest is only counted."""

_REMEDIES: Final = {
    "not_finite": "train again from the base with a lower learning rate or a longer warm-up",
    "bf16_rounding": REMEDY,
    "unused_rows": "none is needed, unless these tokens matter: then add text that uses them",
    "unused_experts": "none is needed, unless they stay unused in a whole run: then train on more varied text",
    "finer_master": "usually none; audit --session DIR can tell a precise master from lost updates",
    "stochastic_rounding": "train for more steps, or plan with --exactness exact",
}
_ALL_FROZEN: Final = (
    "load the model with full_finetuning=True and without get_peft_model, freeze nothing, and train again"
)


def remedy(cause: str, tensors: Sequence[str], of: int) -> str | None:
    """What to do about `cause`, which concerns `tensors` out of `of`."""
    if cause == "frozen":
        return _ALL_FROZEN if 2 * len(tensors) > of else _some_frozen(tensors, of)
    if cause == "unexplained":
        return (
            f"see what the run was meant to do with {_named(tensors)}, and train again from the base if it was to train"
        )
    return _REMEDIES.get(cause)


def _some_frozen(tensors: Sequence[str], of: int) -> str:
    return (
        f"the other {of - len(tensors)} tensors were trained; for {_named(tensors)} see that requires_grad is on and"
        f" the optimizer holds {'them' if len(tensors) > 1 else 'it'}, then train again from the base"
    )


def _named(tensors: Sequence[str]) -> str:
    more = len(tensors) - SHOWN
    if more > 0:
        return f"{', '.join(tensors[:SHOWN])} and {more} more"
    return " and ".join(tensors)
