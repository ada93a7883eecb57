"""What a plan says of weights that are streamed from host memory: what it costs, and that nobody has measured it."""

from __future__ import annotations

from ..estimates.memory import GIB, STREAMED_LAYERS
from .request import Request
from .search import Candidate


def why(request: Request, best: Candidate) -> list[str]:
    """For the plan's reasons; empty where weights stay on the GPU."""
    if not best.setting.weight_offload:
        return []
    layers = best.setting.weight_bytes * request.shape.all_layer_parameters / GIB
    return [
        f"The layers' weights live in host memory: {layers:.1f} GiB come to the GPU twice in every micro-batch, a layer"
        f" at a time into {STREAMED_LAYERS} buffers, and once more for the step. Embeddings and the head stay on the"
        " GPU. Large micro-batches make up for the traffic."
    ]


def warnings(best: Candidate) -> list[str]:
    """For the plan's warnings; empty where weights stay on the GPU."""
    if not best.setting.weight_offload:
        return []
    return [
        "Streamed weights were not measured on any GPU: that they train the same was tested on a CPU, and memory and"
        " speed follow from counting bytes. Try a few steps first: train DIR --dry-run-steps 4."
    ]
