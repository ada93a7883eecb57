"""Bytes of activations: what one token leaves behind in a layer, and what each checkpointing mode keeps of it."""

from __future__ import annotations

from typing import NamedTuple

from ..models.blocks import Block
from ..models.families import FAMILIES, LLAMA
from ..models.shape import ModelShape
from ..models.traits import LayerKind
from ..settings.setting import UNSLOTH, Setting

# Smaller activations stay on the GPU (unsloth_zoo 2026.10.9, gradient_checkpointing.py: MINIMUM_SIZE).
OFFLOAD_ABOVE_BYTES = 2 * 1024 * 1024
FLOAT32 = 4


class Activations(NamedTuple):
    """Bytes on one GPU for one micro-batch.

    `kept`: from forward to backward, `checkpoints` of it layer inputs. `first`: what the backward of the last layer,
    where it begins, needs on top of `kept`; `working`: what that of a recomputed layer needs on top of what is left.
    `late`: of `kept`, what is still there when the backward reaches the first layer.
    `host`: checkpoints in host memory.
    """

    kept: int
    checkpoints: int
    first: int
    working: int
    late: int
    host: int


class Widths(NamedTuple):
    """Bytes of one element: `compute` in matrix products, `residual` in the stream between layers."""

    compute: int
    residual: int


def widths(setting: Setting, *, is_cpu: bool) -> Widths:
    """bf16 or fp16 products; float32 weights keep the residual stream in float32 (so do the measured rows)."""
    if is_cpu:
        return Widths(4, 4)
    return Widths(2, 4 if setting.weights == "float32" else 2)


def activations(shape: ModelShape, setting: Setting, *, is_cpu: bool = False) -> Activations:
    """What `setting` keeps of the activations of one micro-batch."""
    width = widths(setting, is_cpu=is_cpu)
    tokens, hidden = setting.tokens, shape.hidden_size
    layers = sum(block.count for block in shape.blocks)
    whole = [
        (block.count, (layer_bytes_per_token(shape, block, width) - _made_again(block, hidden, setting)) * tokens)
        for block in shape.blocks
    ]
    gradient = max(gradient_bytes_per_token(block, hidden, width) for block in shape.blocks) * tokens
    one_layer = max(size for _, size in whole)
    checkpoint = tokens * hidden * width.residual
    casts = _cast_weights(shape, setting, is_cpu=is_cpu)
    # A dense mask is kept in half precision for every layer's backward, or made again with the layer.
    mask = 2 * tokens * tokens if setting.dense_mask else 0
    shared = joined_mask_bytes(shape, setting, is_cpu=is_cpu)
    everything = sum(count * size for count, size in whole) + casts + layers * mask
    recomputed = setting.recomputed(layers)
    if recomputed == 0:
        return Activations(everything + shared, 0, gradient, gradient, one_layer + shared, 0)
    # Layers that are not recomputed are spread evenly and end with the last (partial_checkpointing.py): what
    # its backward frees is room enough for the first layer that is made again.
    whole_layers = everything * (layers - recomputed) // layers
    one_layer += casts // layers + mask
    working = one_layer - checkpoint + gradient
    first = gradient if whole_layers else working
    offloaded = tokens * hidden * 2
    if setting.checkpointing == UNSLOTH and offloaded > OFFLOAD_ABOVE_BYTES and not is_cpu:
        staging = 2 * offloaded
        host = (recomputed - 1) * power_of_two(offloaded)
        kept = staging + checkpoint + shared
        return Activations(whole_layers + kept, kept, first, working, staging + shared, host)
    kept = recomputed * checkpoint + shared
    return Activations(whole_layers + kept, kept, first, working, checkpoint + shared, 0)


def joined_mask_bytes(shape: ModelShape, setting: Setting, *, is_cpu: bool) -> int:
    """Masks of joined rows: one boolean for each pair of tokens of a micro-batch, for each kind of attention.

    transformers makes them once, whatever kernel attends (unsloth 2026.10.9, utils/hf_packed_attention.py checks one
    for each window: _mask_is_block_causal). That they are held until the backward has passed all layers is inferred
    from peaks, as is the float32 copy from which a dense mask is made. On a CPU Unsloth joins no rows.
    """
    if is_cpu or not setting.padding_free:
        return 0
    booleans = len({block.kind for block in shape.blocks if block.heads})
    return (booleans + (4 if setting.dense_mask else 0)) * setting.tokens * setting.tokens


def _cast_weights(shape: ModelShape, setting: Setting, *, is_cpu: bool) -> int:
    """Half-precision copies of float32 weights that a layer's forward makes and its backward reads again."""
    return 2 * shape.all_layer_parameters if setting.weights == "float32" and not is_cpu else 0


def layer_bytes_per_token(shape: ModelShape, block: Block, width: Widths) -> int:
    """Everything that one compiled layer saves for its backward, its input included, for one token.

    The residual stream before the mixer, the mixer's output, both normalised inputs, queries, keys, values, what
    attention gave, and the MLP's gate, up and product: what Inductor's partitioner keeps
    (references/memory-model.md, "Saved by one layer"; test_memory_model.py compiles real layers to hold it).
    """
    hidden, family = shape.hidden_size, FAMILIES.get(shape.model_type, LLAMA)
    # One norm feeds attention and MLP side by side (Cohere); a second pair (Gemma 2 and later) saves one more input.
    parallel = family.norms_per_layer == 1
    residual = hidden * (width.residual + (0 if parallel else width.compute))
    normalised = (1 if parallel else 3 if family.norms_per_layer >= 4 else 2) * hidden
    # Norms of queries and keys save their inputs beside their outputs.
    qk = (block.heads + block.kv_heads) * block.head_dim if family.qk_norm else 0
    fused = hidden + block.kv_heads * block.head_dim if family.fused_projections else 0
    elements = normalised + qk + fused + _mixer(block) + _feed_forward(block, hidden, family.gated_mlp)
    return residual + elements * width.compute + _statistics(block) + FLOAT32 * block.scan_kept


def _made_again(block: Block, hidden: int, setting: Setting) -> int:
    """Bytes a token that float8 layers do not save: inputs of their products, which Inductor's partitioner makes again
    from what the norms and the MLP save anyway (seen by running it, as for `layer_bytes_per_token`)."""
    if not setting.float8 or block.kind is LayerKind.RECURRENT or block.experts:
        return 0
    elements = 0
    if float8_pays(hidden, block.kv_heads * block.head_dim):  # else keys and values still read the normalised input
        elements += hidden
    if float8_pays(hidden, block.mlp_width):
        elements += hidden
    if float8_pays(block.mlp_width, hidden):
        elements += block.mlp_width
    return 2 * elements


def float8_pays(inputs: int, outputs: int) -> bool:
    """Whether Unsloth makes a matrix of this size a float8 one (unsloth 2026.10.9, models/float8_training.py: _size_ok
    of tensorwise scaling, and sizes that 16 divides)."""
    return inputs % 16 == 0 and outputs % 16 == 0 and not (inputs <= 4096 and outputs <= 1024)


def gradient_bytes_per_token(block: Block, hidden: int, width: Widths) -> int:
    """Gradients alive while a layer is walked back: of its output, and of the MLP's product or a scan's two factors."""
    return hidden * width.residual + max(_widest(block) * width.compute, 2 * FLOAT32 * block.scanned)


def _mixer(block: Block) -> int:
    return (2 * block.heads + 2 * block.kv_heads) * block.head_dim + block.recurrent_passed


def _feed_forward(block: Block, hidden: int, gated: bool) -> int:
    dense = (3 if gated else 2) * block.mlp_width
    routed = block.experts_per_token * (3 * block.expert_width + 2 * hidden)
    return dense + routed + block.experts


def _widest(block: Block) -> int:
    return max(block.mlp_width, block.experts_per_token * block.expert_width)


def _statistics(block: Block) -> int:
    """float32 row statistics: attention's log-sum-exp, and the inverse deviations of the norms."""
    return 4 * (block.heads + 3)


def power_of_two(size: int) -> int:
    """`size` as torch's caching host allocator rounds it up."""
    return 1 << max(size - 1, 0).bit_length()
