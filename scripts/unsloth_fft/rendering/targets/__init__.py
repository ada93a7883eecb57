"""The render targets: one module each, and the list of them."""

from __future__ import annotations

from ...core.errors import BadInput
from ..target import Target
from . import (
    accelerate,
    axolotl,
    carrying_script,
    docker,
    dpo,
    hf_jobs,
    modal,
    notebook,
    skypilot,
    slurm,
    trl,
    unsloth_cli,
    unsloth_studio,
)

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET
    for module in (
        carrying_script,
        notebook,
        modal,
        hf_jobs,
        skypilot,
        slurm,
        docker,
        accelerate,
        unsloth_cli,
        unsloth_studio,
        axolotl,
        trl,
        dpo,
    )
}


def find(name: str) -> Target:
    """The target called `name`. Raises BadInput with the list of names."""
    if name not in TARGETS:
        raise BadInput(f"unknown target '{name}'", hint=f"choose one of: {', '.join(TARGETS)}")
    return TARGETS[name]
