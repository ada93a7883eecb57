"""Peak memory of a setting, by component and by moment: what is alive when decides, not the sum of everything.

The moments of one optimizer step, and the formulas with every symbol, are in references/memory-model.md. The peak is
torch's peak *reserved* memory of one GPU; the CUDA context outside torch is not in it (see `budget_gib`).
"""

from __future__ import annotations

from typing import NamedTuple

from ..models.shape import ModelShape
from ..models.tensors import largest
from ..settings.setting import OFF, TRUE, Setting
from .activations import Activations, activations
from .calibration import MemoryConstants, memory_constants
from .kinds import Kind
from .optimizer_memory import OptimizerMemory, optimizer_memory

GIB = 2**30
STEP = "optimizer step"

# UNSLOTH_OFFLOAD_OPTIMIZER_STATE_CHUNK_MB's default (unsloth 2026.10.9, optimizers/state_offload.py).
OFFLOAD_CHUNK_BYTES = 1024 * 2**20
# What gradients on their way to the host may hold of the GPU (memory_savers/host_gradients.py, IN_FLIGHT_BYTES).
GRADIENTS_IN_FLIGHT_BYTES = 512 * 2**20
# Elements of a large tensor that are stepped at once then (memory_savers/sliced_step.py).
SLICE_ELEMENTS = 2**26
# Layers of streamed weights that the GPU holds (memory_savers/streamed_weights.py, BUFFERS).
STREAMED_LAYERS = 2
# Logit rows per chunk of the fused loss: at least 512 x 151,936 logits, at most 4,096 rows, within 2 GiB
# (unsloth_zoo 2026.10.9, fused_losses/fused_linear.py).
LOSS_MIN_LOGITS = 512 * 151_936
LOSS_MAX_ROWS = 4096
LOSS_BUDGET_BYTES = 2 * GIB
# The model counts as fitting one GPU up to this share of it (UNSLOTH_FSDP2_FIT_FRACTION, unsloth/models/fsdp2_perf.py).
FSDP2_FIT_SHARE = 0.4
# Allowances for a process with its libraries and data pipeline, not fitted: importing Unsloth takes 1.0 GiB on a
# CPU (measured 2026-11-23), and CUDA's libraries and the loader come on top.
PROCESS_GIB = 6.0
CPU_PROCESS_GIB = 2.0
# Memory of the device that CUDA takes outside torch. Row h200-2026-11-22-14 says so: 139.80 GiB in all, 91.37 free, and
# 47.61 reserved by torch.
CUDA_CONTEXT_GIB = 0.82


class MemoryEstimate(NamedTuple):
    """GiB. `peak` is per GPU and equals the sum of `components`; `host` is for one node; `moment` names the peak.

    `paged` is managed memory that may live on either side (paged optimizers), `pinned` offloaded optimizer state and
    gradients; both are counted in `host`.
    """

    peak: float
    components: dict[str, float]
    moment: str
    host: float
    paged: float
    pinned: float = 0.0


class _Parts(NamedTuple):
    """Bytes on one GPU that the moments are put together from."""

    weights: float
    gathered: float
    gradients: float
    head_gradient: float
    embedding_gradient: float
    optimizer: OptimizerMemory
    resident_state: float
    step: float
    loss_forward: float
    loss_backward: float
    hidden: float
    acts: Activations
    accumulates: bool
    tied: bool
    gradients_leave: bool
    visiting_gradients: float
    visiting_weights: float


def estimate(shape: ModelShape, setting: Setting, vram_gib: float, *, is_cpu: bool = False) -> MemoryEstimate:
    """What `setting` needs. `vram_gib` matters only for how Unsloth lays out FSDP2 on a card of that size."""
    constants = memory_constants()
    parts = _parts(shape, setting, vram_gib, constants, is_cpu=is_cpu)
    moments = _moments(parts, constants)
    if not is_cpu:
        for moment, components in moments.items():
            components["fragmentation"] = _fragmentation(shape, setting, parts, constants, moment)
    name = max(moments, key=lambda moment: sum(moments[moment].values()))
    in_gib = {component: size / GIB for component, size in moments[name].items() if size > 0}
    paged = parts.optimizer.paged / setting.gpus / GIB
    host = _host_gib(shape, setting, parts, is_cpu=is_cpu)
    peak = sum(in_gib.values())
    pinned = _pinned(shape, setting, parts.optimizer) / GIB
    return MemoryEstimate(peak, in_gib, name, peak + CPU_PROCESS_GIB if is_cpu else host, paged, pinned)


def _parts(shape: ModelShape, setting: Setting, vram_gib: float, constants: MemoryConstants, *, is_cpu: bool) -> _Parts:
    wide, ranks = setting.weight_bytes, setting.gpus
    weights = float(wide * shape.parameters)
    on_card = _weights_on_card(shape, setting) if setting.weight_offload else weights
    optimizer = optimizer_memory(shape, setting)
    acts = activations(shape, setting, is_cpu=is_cpu)
    head = float(wide * shape.vocab_size * shape.hidden_size)
    hidden = float(setting.tokens * shape.hidden_size * (4 if is_cpu else 2))
    accumulates = setting.accumulation > 1
    return _Parts(
        weights=on_card / ranks,
        gathered=_gathered(shape, setting, vram_gib),
        gradients=_gradients(weights, shape, setting),
        head_gradient=head,
        embedding_gradient=float(wide * shape.embedding_parameters),
        optimizer=optimizer,
        resident_state=0.0 if setting.state_offload else optimizer.state / ranks,
        step=_step(shape, setting, optimizer),
        loss_forward=head + _loss_chunk(shape, setting, is_cpu=is_cpu),
        loss_backward=2 * head,
        hidden=constants.loss_hidden_units * hidden,
        acts=acts,
        accumulates=accumulates,
        tied=shape.tied_embeddings,
        gradients_leave=setting.gradient_offload,
        visiting_gradients=_visiting_gradients(shape, setting),
        visiting_weights=_visiting_weights(shape, setting) if setting.weight_offload else 0.0,
    )


def _moments(parts: _Parts, constants: MemoryConstants) -> dict[str, dict[str, float]]:
    """Components in bytes at each moment that can be the peak."""
    always = {"weights": parts.weights, "gathered_weights": parts.gathered, "workspace": constants.resident_gib * GIB}
    state = _state_components(parts)
    earlier = parts.gradients if parts.accumulates else 0.0
    if parts.gradients_leave:
        return _moments_without_gradients(parts, always, state, constants)
    acts = parts.acts
    loss = max(parts.loss_forward, parts.loss_backward) + constants.loss_extra_gib * GIB
    # A tied head's gradient waits, apart from earlier ones, until the input embedding adds its own to it.
    waiting = parts.head_gradient if parts.tied else 0.0
    # Late in the backward of a first micro-batch an untied input embedding has no gradient yet.
    untied = 0.0 if parts.tied else parts.embedding_gradient
    late = parts.gradients + waiting if parts.accumulates else max(parts.gradients - untied, 0.0)
    second_embedding = parts.embedding_gradient if parts.accumulates or parts.tied else 0.0
    return {
        "loss": {
            **always, **state, "gradients": earlier, "loss": loss, "activations": acts.kept + parts.hidden,
        },
        "first layer walked back": {
            **always, **state, "gradients": max(earlier + waiting, parts.head_gradient),
            "activations": acts.kept + acts.first,
        },
        "last layer walked back": {
            **always, **state, "gradients": late, "activations": acts.late + acts.working,
        },
        "embedding gradient": {
            **always, **state, "gradients": parts.gradients + second_embedding,
        },
        STEP: {
            **always, **state, "gradients": parts.gradients, "optimizer_step": parts.step,
        },
    }  # fmt: skip


def _moments_without_gradients(
    parts: _Parts, always: dict[str, float], state: dict[str, float], constants: MemoryConstants
) -> dict[str, dict[str, float]]:
    """The same moments where gradients go to the host as they are made: a few are on their way, a tied head's waits
    for the embedding's, and with accumulation the sum so far of one tensor visits beside its new gradient."""
    acts = parts.acts
    loss = max(parts.loss_forward, parts.loss_backward) + constants.loss_extra_gib * GIB
    waiting = parts.head_gradient if parts.tied else 0.0
    visiting = parts.embedding_gradient if parts.accumulates else 0.0
    flight = float(GRADIENTS_IN_FLIGHT_BYTES)
    return {
        "loss": {**always, **state, "loss": loss, "activations": acts.kept + parts.hidden},
        "first layer walked back": {
            **always, **state, "gradients": waiting + flight, "activations": acts.kept + acts.first,
        },
        "last layer walked back": {
            **always, **state, "gradients": waiting + flight, "activations": acts.late + acts.working,
        },
        "embedding gradient": {
            **always, **state, "gradients": parts.embedding_gradient + max(waiting, visiting) + flight,
        },
        STEP: {
            **always, **state, "gradients": parts.visiting_gradients,
            "optimizer_step": parts.step, "visiting_weights": parts.visiting_weights,
        },
    }  # fmt: skip


def _state_components(parts: _Parts) -> dict[str, float]:
    """Resident optimizer state, with an error-correction term told apart from the moments."""
    if not parts.optimizer.state:
        return {}
    share = parts.resident_state / parts.optimizer.state
    return {"optimizer_states": parts.optimizer.moments * share, "error_correction": parts.optimizer.correction * share}


def _gradients(weights: float, shape: ModelShape, setting: Setting) -> float:
    """In the weights' type; FSDP2 keeps unsharded float32 ones between micro-batches (torch, reduce dtype float32)."""
    if setting.gpus == 1:
        return weights
    if setting.accumulation > 1:
        return 4.0 * shape.parameters
    return 0.0  # reduced to shards at once, on a stream of their own: see _fragmentation


def _step(shape: ModelShape, setting: Setting, optimizer: OptimizerMemory) -> float:
    """Memory borrowed by the optimizer step: temporaries, and with offload the largest chunk of state."""
    step = optimizer.step / setting.gpus
    if not setting.state_offload:
        return step
    per_element = max(optimizer.state / shape.parameters, 0.0)
    if setting.gradient_offload and setting.optimizer_facts.sliced and largest(shape) > SLICE_ELEMENTS:
        # Large tensors are stepped a slice at a time, with 8 bytes of state and 4 borrowed for each element.
        return max(12.0 * SLICE_ELEMENTS, float(OFFLOAD_CHUNK_BYTES))
    chunk = max(OFFLOAD_CHUNK_BYTES, per_element * largest(shape) / setting.gpus)
    # Before the first step the state does not exist, and chunks are cut for 8 bytes an element.
    return step + min(chunk, optimizer.state / setting.gpus)


def _visiting_gradients(shape: ModelShape, setting: Setting) -> float:
    """Gradients that come back for one chunk of the step: a quarter of its state, or the largest tensor's."""
    biggest = min(largest(shape), SLICE_ELEMENTS) if setting.optimizer_facts.sliced else largest(shape)
    return max(float(setting.weight_bytes * biggest), OFFLOAD_CHUNK_BYTES / 4)


def _weights_on_card(shape: ModelShape, setting: Setting) -> float:
    """Bytes of what is not streamed (embeddings, head, last norm), and of the buffers for layers. Not measured."""
    resident = shape.parameters - shape.all_layer_parameters
    return float(setting.weight_bytes * (resident + STREAMED_LAYERS * shape.layer_parameters))


def _visiting_weights(shape: ModelShape, setting: Setting) -> float:
    """Weights of one chunk of the step that come while those of the one before leave: a quarter of its 8 bytes of state
    each, or the largest matrix of a layer. Not measured."""
    widest = max(shape.hidden_size * block.mlp_width for block in shape.blocks)
    return 2 * max(float(setting.weight_bytes * widest), setting.weight_bytes / 8 * OFFLOAD_CHUNK_BYTES / 2)


def _loss_chunk(shape: ModelShape, setting: Setting, *, is_cpu: bool) -> float:
    """The fused loss's buffer of float32 logits, its float32 gradient of the hidden states, and with float32
    weights a half-precision copy of the head."""
    vocabulary, hidden = shape.vocab_size, shape.hidden_size
    rows = _loss_rows(setting.tokens, hidden, vocabulary)
    copy = 2.0 * vocabulary * hidden if setting.weights == "float32" and not is_cpu else 0.0
    return 4.0 * rows * (vocabulary + hidden) + copy


def _loss_rows(tokens: int, hidden: int, vocabulary: int) -> int:
    floor = min(max(_power_below(LOSS_MIN_LOGITS / vocabulary), 512), LOSS_MAX_ROWS)
    rows = min(max(_power_below(tokens * hidden / vocabulary), floor), LOSS_MAX_ROWS)
    return max(min(rows, LOSS_BUDGET_BYTES // (4 * vocabulary), tokens), 1)


def _power_below(value: float) -> int:
    return 1 << (int(value).bit_length() - 1) if value >= 1 else 1


def fsdp2_keeps_gathered(shape: ModelShape, setting: Setting, vram_gib: float) -> bool:
    """Whether Unsloth keeps every weight gathered between forward and backward, because the model fits one GPU.

    Float32 weights are gathered, and weighed for this, as they are stored: with float32_mixed_precision the config's
    dtype is float32 (unsloth_zoo/training_utils.py), for which fsdp2_native._compute_dtype finds no 16-bit type.
    """
    return setting.gpus > 1 and setting.weight_bytes * shape.parameters <= FSDP2_FIT_SHARE * vram_gib * GIB


def _gathered(shape: ModelShape, setting: Setting, vram_gib: float) -> float:
    """Whole weights that FSDP2 holds beside this GPU's shard, and one more output head.

    The head is inferred from the rows on two GPUs, not read in the code.
    """
    if setting.gpus == 1:
        return 0.0
    wide = setting.weight_bytes
    root = wide * (shape.embedding_parameters + shape.head_parameters)
    head = wide * shape.vocab_size * shape.hidden_size
    if fsdp2_keeps_gathered(shape, setting, vram_gib):
        return float(wide * shape.parameters + head)
    # The root (embeddings) stays gathered; of the layers the running one and the prefetched one are.
    return float(root + head + 2 * wide * shape.layer_parameters)


def _fragmentation(
    shape: ModelShape, setting: Setting, parts: _Parts, constants: MemoryConstants, moment: str
) -> float:
    """Bytes reserved by torch's allocator and not in use at `moment`: holes that the largest tensors leave.

    Activations that are recomputed lie between gradients that stay, so the room they leave is too small for the large
    tensors of an optimizer step; without checkpointing whole layers are freed, and their room serves. Seen in rows:
    adamw_flash's state, made after the first backward, breaks up the room of checkpoints that stay on the GPU; and
    where gradients leave, sums that come back for the next micro-batch hold as much again as those on their way.
    """
    if setting.gpus > 1:
        return _held_by_reduction(shape, setting)
    holes = constants.fragmentation_of_head * parts.head_gradient
    if setting.checkpointing != OFF:
        holes += (constants.fragmentation_of_layer + _more_at_step(parts, constants, moment)) * parts.acts.working
    if setting.gradient_offload:  # blocks that the copying stream still holds serve no other stream
        recomputed_sums = setting.checkpointing != OFF and parts.accumulates
        holes += GRADIENTS_IN_FLIGHT_BYTES * (2 if recomputed_sums else 1)
    elif setting.optimizer_facts.late_state:
        more = 0.0 if setting.state_offload else _more_at_step(parts, constants, moment)
        holes += (constants.fragmentation_of_step + more) * parts.step
    if setting.optimizer_facts.late_state and not setting.state_offload and setting.checkpointing == TRUE:
        holes += constants.fragmentation_of_checkpoints * parts.acts.checkpoints
    return holes


def _held_by_reduction(shape: ModelShape, setting: Setting) -> float:
    """Bytes that no other stream can reuse, because FSDP2 reduces gradients on one of its own: the sharded gradients,
    and float32 buffers of this rank's part of the root and of three layers.

    Which buffers count was inferred from eleven rows on two and four GPUs, which show no other holes.
    """
    root = 4.0 * (shape.embedding_parameters + shape.head_parameters)
    sharded = setting.weight_bytes * shape.parameters
    return (sharded + root) / setting.gpus + 3 * 4.0 * shape.layer_parameters


def _more_at_step(parts: _Parts, constants: MemoryConstants, moment: str) -> float:
    """What a step that borrows memory adds to the shares of holes, at its own moment."""
    return constants.fragmentation_at_step if moment == STEP and parts.step else 0.0


def _host_gib(shape: ModelShape, setting: Setting, parts: _Parts, *, is_cpu: bool) -> float:
    """Host memory of one node: one process a GPU, offloaded state, offloaded checkpoints, paged state."""
    if is_cpu:
        return 0.0
    per_node = max(setting.gpus // setting.nodes, 1)
    each = PROCESS_GIB * GIB + parts.acts.host + parts.optimizer.paged / setting.gpus
    each += _pinned(shape, setting, parts.optimizer)
    return per_node * each / GIB


def _pinned(shape: ModelShape, setting: Setting, optimizer: OptimizerMemory) -> float:
    """Offloaded state, gradients and layers' weights: what they hold (memory_savers/pinned_memory.py)."""
    if not setting.state_offload:
        return 0.0
    gradients = setting.weight_bytes * shape.parameters if setting.gradient_offload else 0
    weights = setting.weight_bytes * shape.all_layer_parameters if setting.weight_offload else 0
    return (optimizer.state + gradients + weights) / setting.gpus


def margin_gib(peak_gib: float, setting: Setting, kind: Kind, *, is_cpu: bool) -> float:
    """Memory left free on purpose: the CUDA context, and what the estimate may be wrong by.

    The share of the peak that models of this kind ask for. At least 6% where float32 weights meet recomputed layers: a
    whole run with padded rows needed 5.7% more. At least half a GiB.
    """
    if is_cpu:
        return max(0.1 * peak_gib, 1.0) + CPU_PROCESS_GIB
    least = 0.06 if setting.weights == "float32" and setting.checkpointing != OFF else 0.0
    share = max(kind.margin, least)
    return CUDA_CONTEXT_GIB + max(share * peak_gib, 0.5)
