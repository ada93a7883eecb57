"""Holding a process to the memory of a smaller card, so that its plan can be tried on a larger one."""

from __future__ import annotations

from ..estimates.memory import CUDA_CONTEXT_GIB

GIB = 2**30


def hold_to(vram_gib: float) -> float:
    """Let torch reserve no more than a card of `vram_gib` would leave it; returns that limit in GiB.

    What CUDA takes outside torch is subtracted. Does nothing without a GPU, and on a card that is no larger.
    """
    import torch

    if not torch.cuda.is_available():
        return 0.0
    device = torch.cuda.current_device()
    total = torch.cuda.get_device_properties(device).total_memory / GIB
    limit = vram_gib - CUDA_CONTEXT_GIB
    if vram_gib >= total:
        return 0.0
    torch.cuda.set_per_process_memory_fraction(limit / total, device)
    return limit
