"""The pairs of weight type and optimizer that the planner knows, what each promises, and where each can run."""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware.cards import Hardware
from .optimizers import BNB, FLASH, FUSED, PAGED, TORCHAO
from .setting import STOCHASTIC

RANK = {"any": 0, "stochastic": 1, "exact": 2}
# flashoptim's Triton kernels support "only Linux with NVIDIA CUDA GPUs" (unsloth/optimizers/flash_adamw.py,
# 2026.10.9), and it is wanted here for bf16 weights, which need this compute capability.
FLASH_CAPABILITY = 8.0


@dataclass(frozen=True)
class Recipe:
    """`exactness` is the most that these weights and this optimizer promise about updates."""

    weights: str
    optimizer: str
    optimizer_args: tuple[tuple[str, bool], ...]
    exactness: str
    offloads: bool

    @property
    def name(self) -> str:
        args = "".join(f" {key}={value}" for key, value in self.optimizer_args)
        return f"{self.weights} {self.optimizer}{args}"


# `offloads`: Unsloth moves the state to the host and steps it in chunks only for optimizers whose step it knows
# (unsloth/optimizers/state_offload.py: _CHUNK_SAFE_MODULES); torchao is not among them, paged state pages itself.
RECIPES = (
    Recipe("float32", FUSED, (), "exact", True),
    Recipe("float32", BNB, (), "exact", True),
    Recipe("float32", PAGED, (), "exact", False),
    Recipe("bfloat16", FLASH, (), "exact", True),
    Recipe("bfloat16", TORCHAO, STOCHASTIC, "stochastic", False),
    Recipe("bfloat16", BNB, (), "any", True),
    Recipe("bfloat16", PAGED, (), "any", False),
    Recipe("bfloat16", FUSED, (), "any", True),
)


def objection(recipe: Recipe, hardware: Hardware) -> str | None:
    """Why `recipe` cannot run on `hardware`, or None."""
    if hardware.is_cpu:
        if recipe.weights != "float32" or recipe.optimizer != FUSED:
            return "without a GPU, Unsloth trains float32 weights with adamw_torch_fused"
        return None
    if recipe.weights == "bfloat16" and not hardware.has_bf16:
        return f"{hardware.name} has no bfloat16; Unsloth keeps float32 weights there and computes in float16"
    if recipe.optimizer == FLASH and not _runs_flash(hardware):
        return (
            f"adamw_flash needs an NVIDIA GPU of compute capability {FLASH_CAPABILITY:g} or higher, not {hardware.name}"
        )
    if recipe.optimizer == TORCHAO and hardware.gpus * hardware.nodes > 1:
        return "adamw_torch_8bit on several GPUs is not known to work with Unsloth's FSDP2"
    return None


def is_nvidia(hardware: Hardware) -> bool:
    """AMD's architectures are called gfx..., NVIDIA's are numbers; an unnamed card counts as NVIDIA."""
    return hardware.gpu is None or not hardware.gpu.compute_capability.startswith("gfx")


def _runs_flash(hardware: Hardware) -> bool:
    if hardware.gpu is None:
        return True
    return is_nvidia(hardware) and float(hardware.gpu.compute_capability) >= FLASH_CAPABILITY
