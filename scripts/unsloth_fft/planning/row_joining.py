"""Which rows share a sequence: packed, or laid end to end in a micro-batch, or neither; and what stands against it."""

from __future__ import annotations

from ..models.families import FAMILIES, LLAMA
from ..models.shape import ModelShape
from ..models.traits import LayerKind
from ..settings.setting import Setting
from .request import Request

# Up to this head size a compiled layer calls the kernel for joined rows (unsloth 2026.10.9, hf_packed_attention.py in
# utils); Gemma 4's global layers have heads of 512. Read in the code, not measured.
WIDEST_HEAD = 256
# Rows this full have hardly any padding to save, and padding-free batches then cost 5% of the speed
# (references/evidence.md, padding-free-costs-full-rows).
FULL_ROWS = 0.95


def obstacle(model_type: str, weights: str, *, recurrent: bool = False, widest_head: int = 0) -> str | None:
    """Why rows of such a model had better not share a sequence; None where they may.

    Unsloth's kernels for joined rows take queries in half precision. Others attend over a dense mask of all the tokens
    of a micro-batch, kept for every layer.
    """
    family = FAMILIES.get(model_type, LLAMA)
    if not family.joins_rows:
        return f"Unsloth joins no rows of {model_type} models"
    if recurrent:
        return (
            "Unsloth joins rows of models whose layers carry a state from token to token only where its own check"
            " passes, which was not tried here"
        )
    if weights == "float32":
        return (
            "with float32 weights joined rows would attend over a dense mask of all their tokens"
            " (references/evidence.md, float32-padding-free-dense-mask)"
        )
    if family.float32_queries:
        return (
            f"queries of {model_type} models reach attention as float32, and joined rows would attend over a dense mask"
            " of all their tokens (references/evidence.md, packed-rows-dense-mask-qwen3)"
        )
    if widest_head > WIDEST_HEAD:
        return (
            f"with heads of {widest_head} joined rows may fall back to a dense mask of all their tokens (read in the"
            " code, not measured)"
        )
    return None


def obstacle_of(shape: ModelShape, weights: str) -> str | None:
    """`obstacle` for a model of `shape` with such weights."""
    return obstacle(
        shape.model_type,
        weights,
        recurrent=any(block.kind is LayerKind.RECURRENT for block in shape.blocks),
        widest_head=max(block.head_dim for block in shape.blocks),
    )


def packs(request: Request, setting: Setting) -> bool:
    """Continued pretraining fills every sequence where rows may be joined; instruction rows stay apart."""
    return request.objective == "pretrain" and obstacle_of(request.shape, setting.weights) is None


def lays_end_to_end(request: Request, setting: Setting) -> bool:
    """Whether rows of a micro-batch go in without padding: where lengths differ and rows may be joined."""
    return has_padding_to_save(request, setting) and obstacle_of(request.shape, setting.weights) is None


def has_padding_to_save(request: Request, setting: Setting) -> bool:
    """Whether rows of a micro-batch differ so much in length that laying them end to end would pay."""
    facts = request.data
    if facts is None or request.objective == "pretrain" or setting.micro_batch == 1:
        return False
    return facts.mean_length(request.seq_length) < FULL_ROWS * request.seq_length
