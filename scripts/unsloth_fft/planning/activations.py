"""Bytes of activations: what one token leaves behind in a layer, and what each checkpointing mode keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from .blocks import Block
from .setting import OFF, UNSLOTH, Setting
from .shape import ModelShape
from .tensors import mlp_matrices_of

# Activations at or under this are not worth offloading: MINIMUM_SIZE in unsloth_zoo 2026.10.9 gradient_checkpointing.py.
OFFLOAD_ABOVE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True)
class Activations:
    """Bytes on one GPU for one micro-batch.

    `kept`: from forward to backward. `working`: what the backward of one layer needs on top of `kept`.
    `late`: of `kept`, what is still there when the backward reaches the first layer.
    `host`: checkpoints in host memory.
    """

    kept: int
    working: int
    late: int
    host: int


@dataclass(frozen=True)
class Widths:
    """Bytes of one element: `compute` in matrix products, `residual` in the stream between layers."""

    compute: int
    residual: int


def widths(setting: Setting, *, is_cpu: bool) -> Widths:
    """bf16 (or fp16) products; float32 weights keep the residual stream in float32 (seen in rows 21 and 22)."""
    if is_cpu:
        return Widths(4, 4)
    return Widths(2, 4 if setting.weights == "float32" else 2)


def activations(shape: ModelShape, setting: Setting, *, is_cpu: bool = False) -> Activations:
    """What `setting` keeps of the activations of one micro-batch."""
    width = widths(setting, is_cpu=is_cpu)
    tokens, hidden = setting.tokens, shape.hidden_size
    layers = sum(block.count for block in shape.blocks)
    whole = [(block.count, layer_bytes_per_token(block, hidden, width) * tokens) for block in shape.blocks]
    gradient = max(gradient_bytes_per_token(block, hidden, width) for block in shape.blocks) * tokens
    one_layer = max(size for _, size in whole)
    checkpoint = tokens * hidden * width.residual
    if setting.checkpointing == OFF:
        return Activations(sum(count * size for count, size in whole), gradient, one_layer, 0)
    offloaded = tokens * hidden * 2
    if setting.checkpointing == UNSLOTH and offloaded > OFFLOAD_ABOVE_BYTES and not is_cpu:
        staging = 2 * offloaded
        host = (layers - 1) * power_of_two(offloaded)
        return Activations(staging + checkpoint, one_layer - checkpoint + gradient, staging, host)
    return Activations(layers * checkpoint, one_layer - checkpoint + gradient, checkpoint, 0)


def layer_bytes_per_token(block: Block, hidden: int, width: Widths) -> int:
    """Everything one layer saves for its backward, its input included.

    Residual stream before and after the mixer, both normalised inputs, queries, keys, values and the mixer's
    output, and the MLP's gate, up and product. Sandwich norms (Gemma) save their inputs too.
    """
    norms = max(round(block.norms / hidden), 2)
    residual = 2 * hidden * width.residual
    normalised = norms * hidden * width.compute
    return residual + normalised + (_mixer(block, hidden) + _feed_forward(block, hidden)) * width.compute + _lse(block)


def gradient_bytes_per_token(block: Block, hidden: int, width: Widths) -> int:
    """Gradients alive while the MLP is walked back: of the layer's output, and of the MLP's product."""
    return hidden * width.residual + _widest(block) * width.compute


def _mixer(block: Block, hidden: int) -> int:
    if block.kind == "recurrent":
        # Inputs and outputs of the projections: their matrices are hidden x (all of them).
        return 2 * block.mixer_matrices // hidden
    return (2 * block.heads + 2 * block.kv_heads) * block.head_dim


def _feed_forward(block: Block, hidden: int) -> int:
    dense = (3 if mlp_matrices_of(block, hidden) >= 3 else 2) * block.mlp_width
    routed = block.experts_per_token * (3 * block.expert_width + 2 * hidden)
    return dense + routed + block.experts


def _widest(block: Block) -> int:
    return max(block.mlp_width, block.experts_per_token * block.expert_width)


def _lse(block: Block) -> int:
    return 4 * block.heads


def power_of_two(size: int) -> int:
    """`size` as torch's caching host allocator rounds it up."""
    return 1 << max(size - 1, 0).bit_length()
