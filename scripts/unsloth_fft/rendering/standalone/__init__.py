"""The training that every rendered file carries, in parts that the renderer joins to one file without the bundle.

What decides which tokens are learned is the bundle's own source, joined unchanged. The rest is written short here,
to be read in a notebook; tests hold its arguments, tokens and counts equal to what training/, data/ and auditing/ give.
What changes how the trainer steps or evaluates is the bundle's own source as well, joined where a plan needs it.
"""

from __future__ import annotations

from ...settings.parameters import Parameters

# Modules below unsloth_fft, in the order in which they are joined.
_SHARED = (
    "core.errors",
    "data.row_format",
    "data.templates",
    "data.supervision",
    "data.splitting",
    "rendering.standalone.process",
    "rendering.standalone.rows",
    "rendering.standalone.checks",
    "rendering.standalone.loading",
)
_AFTER = ("rendering.standalone.audit", "rendering.standalone.results", "rendering.standalone.main")
PREFERENCE_PARTS = (*_SHARED, "rendering.standalone.preferences", *_AFTER)

# What a plan may need of its trainer: the function that makes the class (as training/trainer.py uses it), its modules.
_ON_HOST = ("keeps_gradients_on_host", ("training.sliced_step", "training.host_gradients"))
_SHARDED = ("trains_sharded", ("training.sharding",))


def parts_for(parameters: Parameters) -> tuple[str, ...]:
    """The modules of the script that trains with `parameters`."""
    needed = [module for _, modules in _adaptations(parameters) for module in modules]
    return (*_SHARED, *needed, "rendering.standalone.training", *_AFTER)


def training_for(parameters: Parameters) -> str:
    """The `train` of that script as an expression, told how to adapt the trainer."""
    names = [name for name, _ in _adaptations(parameters)]
    return f"adapted(train, {', '.join(names)})" if names else "train"


def _adaptations(parameters: Parameters) -> list[tuple[str, tuple[str, ...]]]:
    several = parameters.distributed.gpus * parameters.distributed.nodes > 1
    return [*([_SHARDED] if several else []), *([_ON_HOST] if parameters.memory.gradient_offload else [])]
