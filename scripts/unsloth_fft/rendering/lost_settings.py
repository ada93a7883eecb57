"""What other trainers cannot keep of a plan, said the same way for all of them."""

from __future__ import annotations

from ..core.errors import BadInput
from ..models import catalogue
from ..settings.parameters import Parameters, exactness_of
from ..settings.recipes import BYTES, FUSED, RECIPES, optimizer_of
from .target import Lost

# Bytes a parameter of weights, gradients and optimizer state in float32 with AdamW in float32 (4 + 4 + 8), and with
# its moments in 8 bits (4 + 4 + 2): measured as 16 and 10 in references/measurements, h200-2026-11-22.
FLOAT32_BYTES = {
    recipe.optimizer: BYTES["float32"] + recipe.checkpoint_bytes for recipe in RECIPES if recipe.weights == "float32"
}


def unsloth_losses(parameters: Parameters, trainer: str) -> list[Lost]:
    """What goes with Unsloth itself: its kernels, its checkpointing, and the audit."""
    losses = [
        Lost("kernels", "Unsloth's", f"{trainer}'s own, so predicted memory and speed no longer hold"),
        Lost("audit", "after the run", "yours to run: unsloth_fft_tool.py audit BASE TRAINED"),
    ]
    if parameters.memory.gradient_checkpointing == "unsloth":
        losses.append(Lost("memory/gradient_checkpointing", "unsloth", "true", breaks=False))
    if parameters.optimizer.state_offload:
        losses.append(Lost("optimizer/state_offload", "on", "off, and optimizer state must fit the GPU", breaks=True))
    losses += [*layer_losses(parameters), *float8_losses(parameters)]
    return [*losses, *gradient_losses(parameters), *padding_losses(parameters), *tower_losses(parameters)]


def tower_losses(parameters: Parameters) -> list[Lost]:
    """The language model of a multimodal checkpoint, which this bundle takes out before it trains and puts back."""
    try:
        multimodal = catalogue.load_shape(parameters.model.name).multimodal
    except BadInput:  # a shape that is not known
        return []
    if not multimodal:
        return []
    becomes = "the whole checkpoint with its processor: its towers take memory, and train along unless they are frozen"
    return [Lost("model/name", "its language model alone", becomes)]


def layer_losses(parameters: Parameters) -> list[Lost]:
    """Layers that keep their activations, which a trainer of this bundle sees to."""
    count = parameters.memory.checkpointed_layers
    return [] if count is None else [Lost("memory/checkpointed_layers", str(count), "all of them, which is slower")]


def float8_losses(parameters: Parameters) -> list[Lost]:
    """Float8 products, which Unsloth's Python call alone takes."""
    return [Lost("precision/compute", "float8", "bfloat16")] if parameters.precision.compute == "float8" else []


def padding_losses(parameters: Parameters) -> list[Lost]:
    """Rows laid end to end need attention kernels for rows of different lengths, which Unsloth brings itself."""
    if not parameters.data.padding_free:
        return []
    return [Lost("data/padding_free", "true", "false: rows are padded to the longest of a micro-batch")]


def gradient_losses(parameters: Parameters) -> list[Lost]:
    """Gradients in host memory until the step: done by a trainer of this bundle, which no other program has."""
    if not parameters.memory.gradient_offload:
        return []
    return [
        Lost(
            "memory/gradient_offload",
            "on",
            f"off, and gradients{_gradient_size(parameters)} must fit the GPU",
            breaks=True,
        ),
        *_weight_losses(parameters),
    ]


def _weight_losses(parameters: Parameters) -> list[Lost]:
    """Weights streamed from host memory, by this bundle alone: they are as large as the gradients."""
    if not parameters.memory.weight_offload:
        return []
    return [
        Lost(
            "memory/weight_offload", "on", f"off, and weights{_gradient_size(parameters)} must fit the GPU", breaks=True
        )
    ]


def _gradient_size(parameters: Parameters) -> str:
    """Gradients have the type of the weights."""
    size = (parameters.model.parameters or 0) * BYTES[parameters.precision.weights] / 2**30
    return f" of {size:.1f} GiB" if size else ""


def selection_losses(parameters: Parameters, becomes: str = "none") -> list[Lost]:
    """Early stopping, which Transformers' Trainer only does with a callback of its own."""
    patience = parameters.schedule.early_stopping_patience
    return [] if patience is None else [Lost("schedule/early_stopping_patience", str(patience), becomes, breaks=True)]


def replaced_optimizer(parameters: Parameters, trainer: str) -> tuple[str, str, list[Lost]]:
    """(weights, optimizer name, losses) for a trainer that lacks what only Unsloth's has (adamw_flash).

    Its effective float32 master is kept by float32 weights instead, at 16 bytes a parameter. Raises BadInput when
    those alone exceed the planned memory.
    """
    weights, name = parameters.precision.weights, parameters.optimizer.name
    if not optimizer_of(name, parameters.optimizer.args).only_unsloth:
        return weights, name, []
    if exactness_of(weights, parameters.optimizer) != "exact":
        raise BadInput(
            f"optimizer/args {parameters.optimizer.args} of {name} have no counterpart in {trainer}",
            hint="plan with --optimizer adamw_8bit, or render --target script",
        )
    require_room(parameters, trainer, FUSED)
    return (
        "float32",
        FUSED,
        [
            Lost(
                "optimizer/name",
                f"{name} on {weights} weights with error correction",
                f"{FUSED} on float32 weights: as exact, at {FLOAT32_BYTES[FUSED]:.0f} bytes a parameter",
                breaks=True,
            )
        ],
    )


def require_room(parameters: Parameters, trainer: str, optimizer: str) -> None:
    """Raise BadInput when float32 weights, gradients and states alone exceed the memory of all planned GPUs."""
    if parameters.plan is None or parameters.model.parameters is None:
        return
    gpus = parameters.distributed.gpus * parameters.distributed.nodes
    need = parameters.model.parameters * FLOAT32_BYTES[optimizer] / 2**30 / gpus
    room = parameters.plan.hardware.vram_gib
    if need > room:
        raise BadInput(
            f"without {parameters.optimizer.name}, {trainer} keeps updates exact only in float32: {need:.0f} GiB a GPU"
            f" before any activation, and {parameters.plan.hardware.name} has {room:.0f}",
            hint="stay with Unsloth (render --target script), or plan for more memory or GPUs",
        )
