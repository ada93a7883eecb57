"""How long one optimizer step takes: products, memory traffic, kernel launches, optimizer, offload and network.

Formulas and symbols: references/memory-model.md. The constants were fitted on NVIDIA H100 and H200; another card's
figure is carried over by its data-sheet TFLOP/s, bandwidth and host link, and is called extrapolated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..hardware.cards import Gpu, Hardware
from ..models.families import FAMILIES, LLAMA
from ..models.shape import ModelShape
from ..models.tensors import tensor_count
from ..models.traits import LayerKind
from ..settings.setting import UNSLOTH, Setting
from .activations import activations
from .calibration import SpeedConstants, speed_constants
from .memory import fsdp2_keeps_gathered
from .optimizer_memory import optimizer_memory

TERA, GIGA = 1e12, 1e9
# How often a state-space scan without its own kernels passes over its largest product, forward and backward: one row of
# a model like granite-4.0-h-350m on an H200 (references/measurements/families-h200-2026-12-01.json).
SCAN_PASSES = 9

# Between nodes: one 400 Gb/s port for every GPU, the usual build of H100 clusters; an assumption, said in the plan;
# --network-gbs names another.
NETWORK_GBS = 50.0
# A bare memory size says nothing of speed; an A100's is assumed (NVIDIA A100 80GB data sheet), whatever the size.
ASSUMED = Gpu("A100-like", 80.0, 312.0, 2039.0, 32.0, True, "8.0", "assumed", "2026-11-23", "assumed", nvlink_gbs=300.0)
# Managed memory that finds no room moves page by page: at this share of the host link's rate. A judgement on the slow
# side; asking for more managed memory than is free can hang a GPU, so it was not measured.
SPILL_SHARE = 0.25
# Of what leaves for the host while other state comes, the share that takes no time of its own: 22,372 tokens/s became
# 25,578 (references/measurements/offload-host-h200-2026-12-01.json).
BESIDE_SHARE = 0.73
# What casting to float8 costs: at this hidden size as much as bfloat16 products. Taken from one pair of runs, 11,851
# and 14,400 tokens/s of an 8B shape (another: rows h200-2026-12-01-speed-01 and 02); the form is a judgement.
FLOAT8_CAST_WIDTH = 1147.0
# A CPU core's float32 rate in such training: 20 GFLOP/s, the order seen on 2 cores; the range says how little it is.
CPU_FLOPS = 4e10
CPU_BANDWIDTH = 2e10


class SpeedEstimate(NamedTuple):
    """Seconds of one optimizer step by part, and tokens/s over all GPUs."""

    parts: dict[str, float]
    tokens_per_second: float

    @property
    def step_s(self) -> float:
        return sum(self.parts.values())


def estimate(shape: ModelShape, setting: Setting, hardware: Hardware, *, spilled_gib: float = 0.0) -> SpeedEstimate:
    """Time of one step of `setting` on `hardware`; `spilled_gib` of paged state a GPU does not stay on the card."""
    if hardware.is_cpu:
        return _on_cpu(shape, setting)
    constants, gpu = speed_constants(), hardware.gpu or ASSUMED
    micro = _micro_batch(shape, setting, gpu, constants)
    parts = {
        "micro_batches": setting.accumulation * micro,
        "optimizer": _optimizer(shape, setting, gpu, constants),
        "host_transfer": _host_transfer(shape, setting, gpu, constants, spilled_gib),
        "network": _network(shape, setting, hardware, gpu),
    }
    parts = {name: seconds for name, seconds in parts.items() if seconds > 0}
    return SpeedEstimate(parts, setting.tokens_per_step / sum(parts.values()))


def flops_per_token(shape: ModelShape, setting: Setting) -> float:
    """Operations of forward, backward and (with checkpointing) recomputation, causal attention counted as half."""
    return matrix_flops_per_token(shape, setting) + _passes(shape, setting) * attention_flops_per_token(
        shape, setting.seq_length
    )


def matrix_flops_per_token(shape: ModelShape, setting: Setting) -> float:
    """Operations in the weights' matrices. The output head is never recomputed."""
    return _layer_flops_per_token(shape, setting) + _head_flops_per_token(shape)


def _layer_flops_per_token(shape: ModelShape, setting: Setting) -> float:
    head = shape.vocab_size * shape.hidden_size
    return 2 * (shape.matmul_parameters_per_token - head) * _passes(shape, setting)


def _head_flops_per_token(shape: ModelShape) -> float:
    return 2 * shape.vocab_size * shape.hidden_size * 3


def _passes(shape: ModelShape, setting: Setting) -> float:
    """Forward, two of backward, and the forward again of the layers that are recomputed."""
    return 3 + recomputed_share(shape, setting)


def recomputed_share(shape: ModelShape, setting: Setting) -> float:
    """The share of layers that the backward makes again."""
    layers = sum(block.count for block in shape.blocks)
    return setting.recomputed(layers) / layers


def attention_flops_per_token(shape: ModelShape, length: int) -> float:
    """Scores and values of the forward pass, averaged over a row: half the length, less where a window is shorter."""
    total = 0.0
    for block in shape.blocks:
        seen = length / 2
        if block.kind is LayerKind.SLIDING and shape.sliding_window and shape.sliding_window < length:
            seen = shape.sliding_window * (1 - shape.sliding_window / (2 * length))
        if block.kind is not LayerKind.RECURRENT:
            total += 4 * block.count * block.heads * block.head_dim * seen
    return total


def _micro_batch(shape: ModelShape, setting: Setting, gpu: Gpu, constants: SpeedConstants) -> float:
    """Seconds of one forward and backward: at least as long as launching its kernels takes."""
    peak = gpu.bf16_tflops * TERA
    # Narrow matrices keep a GPU less busy.
    wide = shape.hidden_size / (shape.hidden_size + constants.matmul_half_width)
    flops = matrix_flops_per_token(shape, setting)
    if setting.float8:
        flops = _layer_flops_per_token(shape, setting) * float8_share(shape) + _head_flops_per_token(shape)
    compute = setting.tokens * flops / (peak * constants.matmul_share * wide)
    if setting.weights == "float32":
        compute *= constants.float32_slowdown
    compute += setting.tokens * _attention_s(shape, setting, peak, constants)
    if setting.padding_free:
        compute *= constants.padding_free_slowdown
    if setting.dense_mask:
        compute += setting.tokens * _dense_attention_s(shape, setting, peak, constants)
    compute += setting.tokens * _scan_s(shape, gpu, constants)
    # Gradients are written, then read, added and written again.
    traffic = 4 * setting.weight_bytes * shape.parameters / _bandwidth(gpu, constants)
    launch = _launch_s(shape, setting, constants)
    return max(compute + traffic, launch, checkpoint_transfer_s(shape, setting, gpu, constants))


def float8_share(shape: ModelShape) -> float:
    """Time of a layer's float8 products as a share of that of bfloat16 ones: half, and casts that weigh the more the
    narrower the matrices are. Above 1 they are slower."""
    return 0.5 + FLOAT8_CAST_WIDTH / shape.hidden_size


def _scan_s(shape: ModelShape, gpu: Gpu, constants: SpeedConstants) -> float:
    """Seconds a token of state-space scans in plain torch: their large products are written and read many times."""
    scanned = sum(block.count * block.scanned for block in shape.blocks)
    return SCAN_PASSES * 4 * scanned / _bandwidth(gpu, constants)


def _launch_s(shape: ModelShape, setting: Setting, constants: SpeedConstants) -> float:
    """Seconds that the host needs to launch the kernels of one micro-batch."""
    layers = sum(block.count for block in shape.blocks)
    layer = constants.softcapped_layer_launch_s if _softcapped(shape) else constants.layer_launch_s
    return layers * layer * (0.75 + 0.25 * recomputed_share(shape, setting))


def launches_decide(shape: ModelShape, setting: Setting, hardware: Hardware) -> bool:
    """Whether a micro-batch takes as long as launching its kernels: the host's processor then decides the speed."""
    if hardware.is_cpu:
        return False
    constants = speed_constants()
    micro = _micro_batch(shape, setting, hardware.gpu or ASSUMED, constants)
    return micro <= _launch_s(shape, setting, constants)


def _attention_s(shape: ModelShape, setting: Setting, peak: float, constants: SpeedConstants) -> float:
    """Seconds a token of causal attention. Heads narrower than 128 use less of a kernel's rate, and soft-capped scores
    take a slower path."""
    usual = constants.attention_share * _head_rate(shape)
    share = constants.softcapped_attention_share if _softcapped(shape) else usual
    return _passes(shape, setting) * attention_flops_per_token(shape, setting.seq_length) / (peak * share)


def _softcapped(shape: ModelShape) -> bool:
    """Whether attention caps its scores: Unsloth then runs it as plain operations, more of them and slower ones."""
    return FAMILIES.get(shape.model_type, LLAMA).softcapped_attention


def _dense_attention_s(shape: ModelShape, setting: Setting, peak: float, constants: SpeedConstants) -> float:
    """Seconds a token of attention over a dense mask: every token meets every other of its micro-batch, and nothing is
    skipped."""
    rate = peak * constants.dense_attention_share * _head_rate(shape)
    return _passes(shape, setting) * attention_flops_per_token(shape, 2 * setting.tokens) / rate


def _head_rate(shape: ModelShape) -> float:
    """An attention kernel's rate by head size, 1 from 128; the root between was taken from rows with heads of 64."""
    return min(math.sqrt(max(block.head_dim for block in shape.blocks) / 128), 1.0)


def _optimizer(shape: ModelShape, setting: Setting, gpu: Gpu, constants: SpeedConstants) -> float:
    elements = shape.parameters / setting.gpus
    wide, state = setting.weight_bytes, optimizer_memory(shape, setting).state / shape.parameters
    # Weights read and written, gradients read twice (norm and update), state read and written.
    traffic = elements * (4 * wide + 2 * state) / _bandwidth(gpu, constants)
    return max(traffic, _least_step_s(shape, setting, gpu, constants, elements))


def _least_step_s(shape: ModelShape, setting: Setting, gpu: Gpu, constants: SpeedConstants, elements: float) -> float:
    """Seconds that a step takes at least, however little it moves: the bound that the table of recipes names."""
    bound = setting.optimizer_facts.step_bound
    if bound is None:
        return 0.0
    constant: float = getattr(constants, bound)
    if bound.endswith("_tensor_s"):
        return tensor_count(shape) * constant
    return elements / (constant * gpu.memory_bandwidth_gbs * GIGA)


def _host_transfer(
    shape: ModelShape, setting: Setting, gpu: Gpu, constants: SpeedConstants, spilled_gib: float
) -> float:
    """Offloaded state goes to the GPU and back once a step; paged state likewise where it does not fit beside."""
    link = gpu.host_link_gbs * GIGA * constants.host_link_share
    memory = optimizer_memory(shape, setting)
    if setting.gradient_offload:
        # State both ways, and every micro-batch's gradients down; all but the first come up again to be added to,
        # and the sum once more for the step. Copies of gradients run beside the backward and are mostly hidden.
        gradients = setting.weight_bytes * shape.parameters
        weights = _streamed_bytes(shape, setting)
        inward, outward = memory.state + gradients + weights, memory.state + weights
        backward = _backward_s(shape, setting, gpu, constants)
        copies = setting.accumulation * 2 * gradients / (link * constants.gradient_copy_share)
        copies += _streamed_backward_s(shape, setting, weights, link)
        shown = max(copies - backward, 0.0) + max(setting.accumulation * weights / link - backward / 2, 0.0)
        return _there_and_back(inward, outward, setting) / link + shown
    if setting.state_offload:
        return _there_and_back(memory.state, memory.state, setting) / setting.gpus / link
    if memory.paged:
        spilled = 2 * spilled_gib * 2**30 / SPILL_SHARE
        return (constants.paged_extra_share * 2 * memory.paged / setting.gpus + spilled) / link
    return 0.0


def _streamed_bytes(shape: ModelShape, setting: Setting) -> float:
    """Bytes of weights that come to the GPU in each pass over the layers; 0 where they live there.

    Derived, not measured. A micro-batch passes over the layers twice, upward and, recomputing, downward; the next
    layer's weights come while one computes, so a pass takes the longer of the two: its computing, which grows with
    the tokens of a micro-batch, or bytes / link, which does not. The forward is taken as half the backward's time, and
    the backward has offloaded checkpoints and gradients on the link beside. The step has every weight come and go once.
    8B in bfloat16: 14 GB of layers, 0.26 s a pass at 53 GB/s, hidden from about 4,000 tokens a micro-batch on an H200.
    """
    return float(setting.weight_bytes * shape.all_layer_parameters) if setting.weight_offload else 0.0


def _streamed_backward_s(shape: ModelShape, setting: Setting, weights: float, link: float) -> float:
    """Seconds a step that streamed weights, and the checkpoints that share their direction, take in the backward."""
    if not weights:
        return 0.0
    return setting.accumulation * (weights + activations(shape, setting).host) / link


def _there_and_back(inward: float, outward: float, setting: Setting) -> float:
    """Bytes that the link's time is taken for, where what leaves does so beside what comes."""
    return inward + outward - (BESIDE_SHARE * min(inward, outward) if setting.both_ways else 0.0)


def _backward_s(shape: ModelShape, setting: Setting, gpu: Gpu, constants: SpeedConstants) -> float:
    """Seconds of a step in which the backward makes gradients: about two thirds of the micro-batches' time."""
    return 2 / 3 * setting.accumulation * _micro_batch(shape, setting, gpu, constants)


def checkpoint_transfer_s(shape: ModelShape, setting: Setting, gpu: Gpu, constants: SpeedConstants) -> float:
    """Seconds that offloaded checkpoints of one micro-batch need on the host link, both ways."""
    if setting.checkpointing != UNSLOTH:
        return 0.0
    return 2 * activations(shape, setting).host / (gpu.host_link_gbs * GIGA * constants.host_link_share)


def _network(shape: ModelShape, setting: Setting, hardware: Hardware, gpu: Gpu) -> float:
    """FSDP2: weights gathered once or twice for each micro-batch, float32 gradients reduced once a step."""
    if setting.gpus == 1:
        return 0.0
    gathers = 1 if fsdp2_keeps_gathered(shape, setting, hardware.vram_gib) else 2
    share = (setting.gpus - 1) / setting.gpus
    weights = setting.weight_bytes * shape.parameters * gathers * setting.accumulation
    rate = (hardware.network_gbs or NETWORK_GBS) if setting.nodes > 1 else gpu.card_link_gbs
    return share * (weights + 4 * shape.parameters) / (rate * GIGA)


def _bandwidth(gpu: Gpu, constants: SpeedConstants) -> float:
    return gpu.memory_bandwidth_gbs * GIGA * constants.bandwidth_share


def _on_cpu(shape: ModelShape, setting: Setting) -> SpeedEstimate:
    compute = setting.accumulation * setting.tokens * flops_per_token(shape, setting) / CPU_FLOPS
    update = 28 * shape.parameters / CPU_BANDWIDTH
    return SpeedEstimate({"micro_batches": compute, "optimizer": update}, setting.tokens_per_step / (compute + update))
