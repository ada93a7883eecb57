"""Page-locked host memory that takes no more than it holds.

torch's allocator of such memory rounds every block up to a power of two (torch 2.14.1, CachingHostAllocator.h,
"PowerOf2Ceil"): 86 GiB for the state and gradients of 8 billion weights, which are 75. A setting against it
(`pinned_max_round_threshold_mb`) came after torch 2.11, so large tensors lie here in memory that is mapped for each
of them and registered with CUDA; small ones stay with torch.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any

from . import outward

# What rounding wastes of smaller tensors is little, and two of them would share a page.
LEAST_BYTES = 2**20


def host_tensor(shape: Any, dtype: Any, *, page_locked: bool) -> Any:
    """An uninitialized CPU tensor; `page_locked` so that a GPU reads and writes it beside other work.

    Raises RuntimeError where no such memory can be had, as torch does.
    """
    import torch

    size = math.prod(shape) * dtype.itemsize
    if page_locked and size >= LEAST_BYTES and hasattr(mmap, "MAP_PRIVATE"):
        try:
            return _registered(shape, dtype, size)
        except (OSError, _NotRegisteredError):  # as under some virtual machines; torch's own may still be had
            pass
    return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=page_locked)


def _registered(shape: Any, dtype: Any, size: int) -> Any:
    import torch

    block = _Block(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for name in ("MADV_HUGEPAGE", "MADV_DONTFORK"):  # a child process neither sees these pages nor makes them copied
        with contextlib.suppress(AttributeError, OSError):
            block.madvise(getattr(mmap, name))
    tensor = torch.frombuffer(block, dtype=dtype, count=math.prod(shape))
    tensor.zero_()  # by many threads: registering would have the pages made by one
    block.register(tensor.data_ptr(), size)
    return tensor.view(shape)


class _NotRegisteredError(Exception):
    """CUDA did not take this memory."""


class _Block(mmap.mmap):
    """Mapped memory that is registered with CUDA until nothing holds it any more."""

    _registered_at: int | None = None

    def register(self, address: int, size: int) -> None:
        failed = int(_cudart().cudaHostRegister(address, size, 0))
        if failed:
            _forget_cuda_error()
            raise _NotRegisteredError
        self._registered_at = address

    def __del__(self) -> None:
        if self._registered_at is not None:
            with contextlib.suppress(Exception):  # at the very end of a process CUDA may be gone before
                _cudart().cudaHostUnregister(self._registered_at)


def _forget_cuda_error() -> None:
    """CUDA tells a failed call once more to whoever asks next, and torch would take it for its own."""
    import torch

    with contextlib.suppress(RuntimeError, AssertionError):
        torch.zeros(1, device="cuda")


def _cudart() -> Any:
    import torch

    return torch.cuda.cudart()


def offloads_without_waste(trainer_class: type) -> type:
    """A subclass of `trainer_class` with which Unsloth's state offload takes its host memory from here."""

    class OffloadsWithoutWaste(trainer_class):  # type: ignore[misc]
        def __init__(self, *args: Any, **settings: Any) -> None:
            from unsloth.optimizers import state_offload

            lend_buffers_to(state_offload._StateOffloader)
            outward.overlaps_copies(state_offload._StateOffloader)
            super().__init__(*args, **settings)

    return OffloadsWithoutWaste


def lend_buffers_to(offloader_class: Any) -> None:
    """Have instances of `offloader_class` find the buffer they are about to make (unsloth 2026.10.9, optimizers/
    state_offload.py, `_host_buffer`). Does nothing a second time."""
    original = offloader_class._host_buffer
    if getattr(original, "finds_buffers", False):
        return

    def host_buffer(self: Any, param: Any, key: Any, source: Any) -> Any:
        held = self.buffers.get((param, key))
        if self.pin_memory and (held is None or held.shape != source.shape or held.dtype != source.dtype):
            with contextlib.suppress(RuntimeError):  # then it makes its own
                self.buffers[(param, key)] = host_tensor(source.shape, source.dtype, page_locked=True)
        return original(self, param, key, source)

    host_buffer.finds_buffers = True  # type: ignore[attr-defined]
    offloader_class._host_buffer = host_buffer
