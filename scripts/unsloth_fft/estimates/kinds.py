"""Kinds of model, as far as estimates are founded: how much memory is left free for what one may be wrong by.

Shares and ranges cover the rows of 2026-12-01 (references/measurements/families-h200-2026-12-01.json). A kind that no
row was measured of has judged ones, and a plan of it says "not measured".
"""

from __future__ import annotations

from typing import NamedTuple

from ..models.shape import ModelShape
from ..models.traits import LayerKind


class Kind(NamedTuple):
    """`margin`: share of the peak that is left free. `speed`: factors below and above an estimate of speed.

    `words` is what a plan says of it; empty where rows of many such models were fitted.
    """

    margin: float
    speed: tuple[float, float]
    words: str = ""


DENSE = Kind(0.03, (0.8, 1.15))
# Dense shapes that were not fitted: ten rows of eight families, at most 3.5% above their estimate.
OTHER_DENSE = Kind(0.045, (0.8, 1.15))
EXPERTS = Kind(
    0.2,
    (0.75, 1.15),
    "Mixture of experts: two small ones needed at most 2.1% more memory than estimated, but the largest that was tried"
    " ran out 19% above its estimate, and why was not found.",
)
CONVOLUTIONS = Kind(0.06, (0.75, 1.2), "Convolution layers: one row was measured (LFM2-1.2B).")
STATE_SPACE = Kind(
    0.1,
    (0.5, 1.5),
    "State-space layers: one row was measured, of the plain torch form, and the estimate was fitted to it; with the"
    " packages mamba_ssm and causal_conv1d they need less and are many times faster (doctor names them), not measured.",
)
RECURRENT = Kind(0.15, (0.3, 1.3), "Recurrent layers: memory and speed are derived from the shape, not measured.")


def kind_of(shape: ModelShape, *, fitted: bool = False) -> Kind:
    """The kind of `shape`: the least well founded part of it decides. `fitted`: rows of this very shape were."""
    if shape.experts:
        return EXPERTS
    if any(block.scanned for block in shape.blocks):
        return STATE_SPACE
    if any(block.kind is LayerKind.RECURRENT for block in shape.blocks):
        return CONVOLUTIONS if shape.model_type.startswith("lfm2") else RECURRENT
    return DENSE if fitted else OTHER_DENSE


def tunes_kernels(shape: ModelShape) -> bool:
    """Whether the first step tries out kernels for minutes: the gated delta rule's, which Triton tunes on the card."""
    recurrent = any(block.kind is LayerKind.RECURRENT and not block.scanned for block in shape.blocks)
    return recurrent and not shape.model_type.startswith(("lfm2", "minimax"))
