"""What providers call the cards that the planner knows, and how many of them one machine can have.

Sources, read 2026-11-23. Modal: modal.com/docs/guide/gpu. SkyPilot: docs.skypilot.co/en/stable/compute/gpus.html and
sky/catalog/data_fetchers/fetch_runpod.py of skypilot 0.14.1. Hugging Face Jobs: class JobHardware in
huggingface_hub/_jobs_api.py 1.33.0; its A100 is the 80 GB one (huggingface.co/docs/hub/spaces-gpus).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import BadInput
from ..hardware import cards
from ..planning import replan
from ..settings.parameters import Parameters

MODAL: Mapping[str, str] = {
    "T4": "T4",
    "L4": "L4",
    "A10": "A10",
    "A10G": "A10",
    "L40S": "L40S",
    "A100 40GB SXM": "A100-40GB",
    "A100 80GB SXM": "A100-80GB",
    "RTX PRO 6000 Blackwell": "RTX-PRO-6000",
    "H100 SXM 80GB": "H100!",  # without the mark Modal may put the run on another card than the one planned for
    "H200": "H200",
    "B200": "B200",
}
MODAL_MOST = {"A10": 4}
MODAL_MOST_OTHERS = 8

SKYPILOT: Mapping[str, str] = {
    "T4": "T4",
    "V100 16GB SXM2": "V100",
    "V100 32GB SXM2": "V100-32GB",
    "L4": "L4",
    "A10": "A10",
    "A10G": "A10G",
    "A40": "A40",
    "RTX A6000": "RTXA6000",
    "RTX 6000 Ada": "RTX6000-Ada",
    "RTX 3090": "RTX3090",
    "RTX 4090": "RTX4090",
    "RTX 5090": "RTX5090",
    "L40": "L40",
    "L40S": "L40S",
    "A100 40GB SXM": "A100",
    "A100 80GB SXM": "A100-80GB",
    "H100 SXM 80GB": "H100",
    "GH200 96GB": "GH200",
    "RTX PRO 6000 Blackwell": "RTXPRO6000",
    "H200": "H200",
    "B200": "B200",
    "MI300X": "MI300X",
}

HF_JOBS: Mapping[str, Mapping[int, str]] = {
    "cpu": {0: "cpu-upgrade"},
    "T4": {1: "t4-small"},
    "L4": {1: "l4x1", 4: "l4x4"},
    "A10G": {1: "a10g-large", 2: "a10g-largex2", 4: "a10g-largex4"},
    "L40S": {1: "l40sx1", 4: "l40sx4", 8: "l40sx8"},
    "A100 80GB SXM": {1: "a100-large", 4: "a100x4", 8: "a100x8"},
    "RTX PRO 6000 Blackwell": {
        1: "rtx-pro-6000",
        2: "rtx-pro-6000x2",
        4: "rtx-pro-6000x4",
        8: "rtx-pro-6000x8",
    },
    "H200": {1: "h200", 2: "h200x2", 4: "h200x4", 8: "h200x8"},
}


def planned_card(parameters: Parameters, target: str, offered: Mapping[str, object]) -> str | None:
    """The planned card's name among `offered`; None for a CPU plan.

    A plan for a bare memory size takes the offered card with the least memory that is enough. Raises BadInput when
    there is no plan, or when the provider does not offer the card.
    """
    if parameters.plan is None:
        raise BadInput(
            f"a {target} file must say which card to rent, and the parameters carry no plan",
            hint=f"plan again for one that it has: {replan.for_card(parameters, next(iter(offered)))}",
        )
    planned = parameters.plan.hardware
    if planned.name == "cpu":
        return None
    if planned.name in offered:
        return planned.name
    known = {gpu.name: gpu.vram_gib for gpu in cards.gpus() if gpu.name in offered}
    if planned.name == "custom":
        enough = {name: vram for name, vram in known.items() if vram >= planned.vram_gib}
        if enough:
            return min(enough, key=lambda name: enough[name])
    nearest = _nearest(known, planned.vram_gib)
    raise BadInput(
        f"plan/hardware/name is '{planned.name}' with {planned.vram_gib:.1f} GiB, which {target} does not offer",
        hint=f"it has {', '.join(known)}; plan for one of them: {replan.for_card(parameters, nearest)}",
    )


def _nearest(known: Mapping[str, float], vram_gib: float) -> str:
    """Of the `known` cards the smallest with `vram_gib` of memory, or the largest of all."""
    enough = {name: vram for name, vram in known.items() if vram >= vram_gib}
    return min(enough, key=lambda name: enough[name]) if enough else max(known, key=lambda name: known[name])
