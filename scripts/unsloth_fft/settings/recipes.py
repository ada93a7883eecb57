"""The table of recipes: every fact about a stored type and an optimizer, read by all that plan, check, train or render.

CONTRIBUTING.md lists what a new recipe touches.
State bytes are read in the code (bitsandbytes 0.50.2, torchao 0.18.0, flashoptim 0.1.4 as unsloth 2026.10.9 wraps it);
which step temporaries were read and which inferred from rows: references/memory-model.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from ..core.errors import BadInput
from ..hardware.cards import Hardware

FUSED, BNB, PAGED, FLASH, TORCHAO = (
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "adamw_flash",
    "adamw_torch_8bit",
)
RANK: Final = {"any": 0, "stochastic": 1, "exact": 2}
BYTES: Final = {"float32": 4, "bfloat16": 2}
"""Bytes of one weight by stored type; a gradient has the type of its weight."""

Arguments = Mapping[str, bool | int]

_CORRECTED: Final = (
    "The optimizer keeps an error-correction term beside bf16 weights, so the effective master is float32."
)


class Keeping(Enum):
    """How stored weights take an update: what is promised, where the precise weight lives, and the words for it.

    `rounds_to` is the type whose rounding can lose an update; None means the stored type.
    """

    FLOAT32 = (
        "exact",
        "float32",
        "float32",
        "the float32 weight itself takes the update",
        "Weights are float32, so every update is kept to float32 precision.",
    )
    CORRECTED = (
        "exact",
        "error_correction",
        "float32",
        "an error-correction term keeps what bfloat16 rounds off",
        _CORRECTED,
    )
    CORRECTED_8BIT = (
        "any",
        "error_correction",
        "float32",
        "an error-correction term keeps what bfloat16 rounds off, from 8-bit optimizer states that make it inexact",
        _CORRECTED,
    )
    STOCHASTIC = (
        "stochastic",
        "none",
        "bfloat16",
        "stochastic rounding keeps every update on average, with noise on each one",
        "bf16 updates are rounded stochastically: right on average, with noise on every step.",
    )
    NEAREST = (
        "any",
        "none",
        None,
        "the {weights} weight is rounded to nearest after every step",
        "Plain bf16 weights: an update smaller than half the spacing of a weight is lost.",
    )

    def __init__(self, exactness: str, master: str, rounds_to: str | None, detail: str, reason: str) -> None:
        self.exactness = exactness
        self.master = master
        self.rounds_to = rounds_to
        self.detail = detail
        self.reason = reason


class Package(NamedTuple):
    """What must be installed: the least version that works, the one that was measured with, and whether Unsloth's own
    requirements bring it."""

    name: str
    least: str | None = None
    measured: str | None = None
    comes_with_unsloth: bool = False

    @property
    def requirement(self) -> str:
        """As an installer takes it."""
        version = self.least or self.measured
        return self.name if version is None else f"{self.name}>={version}"


# flashoptim's floor is the one that unsloth 2026.10.9 checks (optimizers/flash_adamw.py: _FLASH_ADAMW_MIN_VERSION);
# torchao's is the version that was measured with (references/measurements/h200-2026-11-22.jsonl).
_BITSANDBYTES = Package("bitsandbytes", comes_with_unsloth=True)
_FLASHOPTIM = Package("flashoptim", least="0.1.4")
TORCHAO_PACKAGE = Package("torchao", measured="0.18.0")

# Blockwise 8-bit states: one byte each of two moments, and a float32 scale for every 256 elements of each.
_EIGHT_BIT, _SCALES = 2.0, 2 * 4 / 256
# flashoptim quantises in groups of 32 with a float16 scale for each of two moments.
_FLASH_SCALES = 2 * 2 / 32


class OptimizerFacts(NamedTuple):
    """Facts about one value of `optim`. Bytes are an element.

    `moments` of None: two moments as wide as the weights. `scales` stay where they are when moments are `paged` into
    managed memory. `wide_embeddings`: the states of nn.Embedding are float32 (Trainer's bitsandbytes override,
    transformers 5.17.0). `corrects`: bfloat16 weights have an error-correction term. `borrowed` is what a step takes
    while it updates a tensor. `step_bound` names the constant of estimates/calibration.json that bounds its step.
    `offloads`: Unsloth moves the state to the host and steps it in chunks (optimizers/state_offload.py:
    _CHUNK_SAFE_MODULES, 2026.10.9); torchao is not among them, paged state pages itself. `late_state` is made after
    the first backward, and breaks up the room of recomputed activations. `sliced`: large tensors are stepped some rows
    at a time where gradients live on the host. `several_gpus` and `offloads` are true unless said otherwise, and a step
    without `step_bound` is as fast as memory: say what was not seen, or a recipe that nobody measured wins plans.
    `least_capability` keeps one to NVIDIA cards from that compute capability on; `package` is what must be installed;
    `only_unsloth`: Transformers alone does not have it. `streams`: its state can be loaded beside weights that rest on
    the host, and step with them on a GPU.
    """

    name: str
    moments: float | None
    scales: float = 0.0
    borrowed: float = 0.0
    paged: bool = False
    wide_embeddings: bool = False
    corrects: bool = False
    step_bound: str | None = None
    package: Package | None = None
    offloads: bool = True
    late_state: bool = False
    sliced: bool = False
    streams: bool = False
    only_unsloth: bool = False
    several_gpus: bool = True
    least_capability: float | None = None


_FLASH_RUNS = {
    "corrects": True,
    "step_bound": "flash_tensor_s",
    "package": _FLASHOPTIM,
    "late_state": True,
    "sliced": True,
    "streams": True,
    "only_unsloth": True,
    # flashoptim's Triton kernels support "only Linux with NVIDIA CUDA GPUs" (unsloth/optimizers/flash_adamw.py,
    # 2026.10.9), and it is wanted here for bf16 weights, which need this compute capability.
    "least_capability": 8.0,
}
_BNB_BOUND = "bnb_elements_per_byte_of_bandwidth"
OPTIMIZERS: Final = {
    FUSED: OptimizerFacts(FUSED, None),
    BNB: OptimizerFacts(
        BNB, _EIGHT_BIT, _SCALES, wide_embeddings=True, step_bound=_BNB_BOUND, package=_BITSANDBYTES
    ),
    PAGED: OptimizerFacts(
        PAGED, _EIGHT_BIT, _SCALES, paged=True, wide_embeddings=True, step_bound=_BNB_BOUND, package=_BITSANDBYTES,
        offloads=False,
    ),
    # bf16 momentum, float32 variance (unsloth/optimizers/flash_adamw.py); the new variance of a tensor is written
    # beside the old one.
    FLASH: OptimizerFacts(FLASH, 6.0, borrowed=4.0, **_FLASH_RUNS),  # type: ignore[arg-type]
    # torchao computes in float32 (optim/adam.py, single_param_adam); that two copies of the largest tensor are alive
    # at once is inferred from the rows.
    TORCHAO: OptimizerFacts(
        TORCHAO, _EIGHT_BIT, _SCALES, borrowed=8.0, step_bound="torchao_tensor_s", package=TORCHAO_PACKAGE,
        offloads=False, several_gpus=False,
    ),
}  # fmt: skip
# The byte an element that a quantised step borrows is inferred from one row.
_FLASH_QUANTIZED = OptimizerFacts(FLASH, _EIGHT_BIT, _FLASH_SCALES, borrowed=1.0, **_FLASH_RUNS)  # type: ignore[arg-type]


def optimizer_of(name: str, args: Arguments) -> OptimizerFacts:
    """The facts of `optim=name` with these `optim_args`. Raises BadInput for a name that the table lacks."""
    if name not in OPTIMIZERS:
        raise BadInput(
            f"optimizer/name: '{name}' is not known here", hint=f"choose one of: {', '.join(sorted(OPTIMIZERS))}"
        )
    return _FLASH_QUANTIZED if name == FLASH and args.get("quantize") else OPTIMIZERS[name]


def packages() -> tuple[str, ...]:
    """The packages that optimizers come from, each once."""
    found = (facts.package.name for facts in OPTIMIZERS.values() if facts.package is not None)
    return tuple(dict.fromkeys(found))


def keeping_of(weights: str, name: str, args: Arguments) -> Keeping:
    """How weights stored as `weights` take the updates of this optimizer. Raises BadInput for an unknown optimizer."""
    optimizer = optimizer_of(name, args)
    if weights == "float32":
        return Keeping.FLOAT32
    if optimizer.corrects:
        return Keeping.CORRECTED_8BIT if args.get("quantize") else Keeping.CORRECTED
    if args.get("bf16_stochastic_round"):
        return Keeping.STOCHASTIC
    return Keeping.NEAREST


def correction_bytes(args: Arguments) -> int:
    """Bytes of adamw_flash's error-correction term an element: 2 for a 32-bit master, 1 for a 24-bit one."""
    return 1 if args.get("master_weight_bits") == 24 else 2


STOCHASTIC: Final = (("bf16_stochastic_round", True),)
QUANTIZED: Final = (("quantize", True),)


class Recipe(NamedTuple):
    """A pair of stored type and optimizer that the planner plans."""

    weights: str
    optimizer: str
    optimizer_args: tuple[tuple[str, bool], ...] = ()

    @property
    def name(self) -> str:
        args = "".join(f" {key}={value}" for key, value in self.optimizer_args)
        return f"{self.weights} {self.optimizer}{args}"

    @property
    def exactness(self) -> str:
        """The most that these weights and this optimizer promise about updates."""
        return keeping_of(self.weights, self.optimizer, dict(self.optimizer_args)).exactness

    @property
    def checkpoint_bytes(self) -> float:
        """Bytes an element of a checkpoint: the weight, both moments, and the correction; scales do not count."""
        facts = optimizer_of(self.optimizer, dict(self.optimizer_args))
        wide = BYTES[self.weights]
        moments = 2 * wide if facts.moments is None else facts.moments
        return wide + moments + (correction_bytes(dict(self.optimizer_args)) if facts.corrects else 0)

    @property
    def offloads(self) -> bool:
        return optimizer_of(self.optimizer, dict(self.optimizer_args)).offloads


RECIPES: Final = (
    Recipe("float32", FUSED),
    Recipe("float32", BNB),
    Recipe("float32", PAGED),
    Recipe("bfloat16", FLASH),
    Recipe("bfloat16", TORCHAO, STOCHASTIC),
    Recipe("bfloat16", BNB),
    Recipe("bfloat16", PAGED),
    Recipe("bfloat16", FUSED),
)


def objection(recipe: Recipe, hardware: Hardware) -> str | None:
    """Why `recipe` cannot run on `hardware`, or None."""
    if hardware.is_cpu:
        if recipe.weights != "float32" or recipe.optimizer != FUSED:
            return f"without a GPU, Unsloth trains float32 weights with {FUSED}"
        return None
    if recipe.weights == "bfloat16" and not hardware.has_bf16:
        return f"{hardware.name} has no bfloat16; Unsloth keeps float32 weights there and computes in float16"
    optimizer = OPTIMIZERS[recipe.optimizer]
    if optimizer.least_capability is not None and not _reaches(hardware, optimizer.least_capability):
        return (
            f"{optimizer.name} needs Linux and an NVIDIA GPU of compute capability {optimizer.least_capability:g} or"
            f" higher, not {hardware.name}{'' if hardware.system == 'Linux' else f' on {hardware.system}'}"
        )
    if not optimizer.several_gpus and hardware.gpus * hardware.nodes > 1:
        return f"{optimizer.name} on several GPUs is not known to work with Unsloth's FSDP2"
    return None


def is_nvidia(hardware: Hardware) -> bool:
    """AMD's architectures are called gfx..., NVIDIA's are numbers; an unnamed card counts as NVIDIA."""
    return hardware.gpu is None or not hardware.gpu.compute_capability.startswith("gfx")


def _reaches(hardware: Hardware, capability: float) -> bool:
    """What needs a capability is made with Triton's CUDA kernels, for Linux (see FLASH above)."""
    if hardware.system != "Linux":
        return False
    if hardware.gpu is None:
        return True
    return is_nvidia(hardware) and float(hardware.gpu.compute_capability) >= capability
