"""Rows an optimizer step where nobody said how many: they follow the number of GPUs, and a plan says so."""

from __future__ import annotations

from dataclasses import replace

from ..hardware.cards import Hardware
from .request import Request

# One GPU's default, and what each of many gets at least: four GPUs were measured with four rows of 2,048 tokens each
# (references/several-gpus.md); with one or two rows, gathering the weights takes longer than the products.
ROWS, ROWS_A_GPU = 16, 4
# The largest batches of the recipes that the default learning rates come from (references/hyperparameters.md).
RECIPES_UP_TO = 256


def rows_for(gpus: int) -> int:
    """Rows a step for so many GPUs: a multiple of their number, and 16 for one, two and four."""
    a_gpu = max(-(-ROWS // gpus), ROWS_A_GPU)
    return a_gpu * gpus


def on(request: Request, hardware: Hardware) -> Request:
    """The same request on other hardware, as its command line would ask for it: a default batch follows the GPUs."""
    moved = replace(request, hardware=hardware)
    return replace(moved, effective_batch=rows_for(moved.gpus)) if request.batch_by_default else moved


def sentences(request: Request) -> list[str]:
    """What the default became for several GPUs, and the learning rate that goes with it."""
    batch, gpus = request.effective_batch, request.gpus
    if not request.batch_by_default or batch == ROWS:
        return []
    text = f"The effective batch was not given: {batch} rows a step, {batch // gpus} for each of {gpus} GPUs"
    if request.learning_rate is not None:
        return [f"{text}; the learning rate is as given (--effective-batch N says otherwise)."]
    if batch <= RECIPES_UP_TO:
        kept = f"the default learning rate stays: its recipes take up to {RECIPES_UP_TO} rows a step"
    else:
        kept = (
            f"the default learning rate stays, although its recipes take at most {RECIPES_UP_TO} rows a step: four"
            " times the batch bears about twice the rate, by a rule of thumb"
        )
    return [f"{text}; {kept} (--effective-batch N and --learning-rate X say otherwise)."]
