"""Which tensors a model's weights consist of, as far as memory and launch counts care.

Two sizes are all that matters: the largest tensor (what one optimizer step holds twice), and how many there are
(kernel launches).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from .blocks import Block
from .shape import ModelShape
from .traits import LayerKind


@dataclass(frozen=True)
class Tensor:
    """`count` tensors of `elements` elements each."""

    elements: int
    count: int


@functools.lru_cache(maxsize=8)
def matrices(shape: ModelShape) -> tuple[Tensor, ...]:
    """Every weight matrix, the embedding first; vectors (norms, biases) are left out: under 0.1% of any model."""
    found = [Tensor(shape.embedding_parameters, 1)]
    if shape.head_parameters:
        found.append(Tensor(shape.head_parameters, 1))
    for block in shape.blocks:
        found.extend(_of_block(block, shape.hidden_size))
    return tuple(tensor for tensor in found if tensor.elements > 0)


@functools.lru_cache(maxsize=8)
def largest(shape: ModelShape) -> int:
    """Elements of the largest single tensor."""
    return max(tensor.elements for tensor in matrices(shape))


def tensor_count(shape: ModelShape) -> int:
    """How many parameters tensors an optimizer loops over, norms and biases included (estimated from their sizes)."""
    vectors = sum(block.count * (2 + (block.biases > 0) * 3) for block in shape.blocks) + 1
    return sum(tensor.count for tensor in matrices(shape)) + vectors


def mlp_matrices_of(block: Block, hidden: int) -> int:
    """3 where the MLP is gated (gate, up, down), else 2; 0 without one."""
    return round(block.mlp_matrices / (hidden * block.mlp_width)) if block.mlp_width else 0


def _of_block(block: Block, hidden: int) -> list[Tensor]:
    return [*_mixer(block, hidden), *_mlp(block, hidden), *_experts(block)]


def _mixer(block: Block, hidden: int) -> list[Tensor]:
    query = hidden * block.heads * block.head_dim
    key = hidden * block.kv_heads * block.head_dim
    if block.kind is LayerKind.RECURRENT or 2 * query + 2 * key != block.mixer_matrices:
        return [Tensor(block.mixer_matrices // 4, 4 * block.count)]
    return [Tensor(query, 2 * block.count), Tensor(key, 2 * block.count)]


def _mlp(block: Block, hidden: int) -> list[Tensor]:
    count = mlp_matrices_of(block, hidden)
    return [Tensor(hidden * block.mlp_width, count * block.count)] if count else []


def _experts(block: Block) -> list[Tensor]:
    """Transformers 5 stacks a layer's experts: gate and up of all of them in one tensor, down in another."""
    if not block.experts:
        return []
    everything = block.expert_matrices * block.experts
    return [Tensor(everything * 2 // 3, block.count), Tensor(everything // 3, block.count)]
