"""Refuse to train inside another launcher: what it set up is not in the plan, and processes would wait for others.

With WORLD_SIZE=2 and one process torch waits for a second one that never comes, until it is killed; with
ACCELERATE_MIXED_PRECISION or ACCELERATE_USE_FSDP the Trainer trains in another way than the plan says (transformers
5.17.0, training_args.py; accelerate 1.x, utils/launch.py and state.py name the variables).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from ..core.errors import BadInput
from ..hardware import detection

_COUNTS: Final = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
_RANKS: Final = ("RANK", "LOCAL_RANK")
# Values with which a variable of accelerate asks for nothing, and variables that never change what is trained.
_ASKS_NOTHING: Final = frozenset({"", "0", "no", "false", "none", "default"})
_HARMLESS: Final = frozenset(
    {"ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE", "ACCELERATE_DISABLE_RICH", "ACCELERATE_ENABLE_RICH"}
    | {"ACCELERATE_LOG_LEVEL", "ACCELERATE_BYPASS_DEVICE_MAP", "ACCELERATE_CONFIG_DS_FIELDS"}
)
# As this process was started: the Trainer itself sets some of them later.
_AT_START: Final = dict(os.environ)


def refuse(environment: Mapping[str, str] = _AT_START) -> None:
    """Raise BadInput when a launcher has set up other processes, or another way to train, than the plan's."""
    for name in _COUNTS:
        value = environment.get(name, "1").strip()
        if value not in ("", "0", "1"):
            raise _refusal(name, value, "more processes than this one")
    for name in _RANKS:
        value = environment.get(name, "0").strip()
        if value not in ("", "0", "-1"):
            raise _refusal(name, value, "another process before this one")
    for name, value in sorted(environment.items()):
        if not name.startswith("ACCELERATE_") or name in _HARMLESS or value.strip().lower() in _ASKS_NOTHING:
            continue
        if name == "ACCELERATE_GRADIENT_ACCUMULATION_STEPS" and value.strip() == "1":
            continue
        if name == "ACCELERATE_USE_CPU" and detection.detect().is_cpu:  # it trains there anyway
            continue
        raise _refusal(name, value, "a way to train that the plan does not have")


def _refusal(name: str, value: str, meaning: str) -> BadInput:
    shown = value if value.isprintable() and len(value) <= 40 else "..."
    return BadInput(
        f"the environment has {name}={shown}: a launcher asks for {meaning}",
        hint=f"start train by itself, it starts the plan's processes; or first: unset {name}",
    )
