"""The rate of a plain matrix product on this GPU: what a share of the hardware is a share of."""

from __future__ import annotations

import time

SIZE = 8192
WARM_UP, REPEATS = 3, 20


def bf16_tflops() -> float | None:
    """TFLOP/s of an 8192 x 8192 x 8192 bfloat16 product on random data, or None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(WARM_UP):
        left @ right
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(REPEATS):
        left @ right
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / REPEATS
    del left, right
    torch.cuda.empty_cache()
    return 2 * SIZE**3 / seconds / 1e12
