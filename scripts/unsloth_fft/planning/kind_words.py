"""What a plan says of the kind of model it is for: how its figures are founded, and what is trained of it."""

from __future__ import annotations

from ..estimates.kinds import kind_of, tunes_kernels
from ..models.shape import ModelShape


def of(shape: ModelShape) -> list[str]:
    """Sentences for a plan's warnings; none for a dense language model of a known type."""
    kind = kind_of(shape)
    found = [kind.words] if kind.words else []
    if kind.words:
        found[0] += f" {kind.margin:.0%} of the peak is left free for that."
    if shape.experts:
        found.append("The loss contains the router's load-balancing loss where the model's own config has one.")
    if tunes_kernels(shape):
        found.append(
            "The first step tunes kernels, once for each kind of card: more than 5 minutes on an H200. The results stay"
            " in Triton's cache (~/.triton/cache, or TRITON_CACHE_DIR): keep that folder between machines."
        )
    if shape.multimodal:
        found.append(
            "The language model alone is loaded and trained; vision and audio parts take no GPU memory, are kept as"
            " they are, and stand beside it in the saved model."
        )
    if shape.assumed_llama_like:
        found.append(
            f"model_type {shape.model_type} is not known; its config has exactly Llama's keys, so Llama was assumed."
        )
    return found
