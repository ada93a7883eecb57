"""Copies to the host on a stream of their own, so that what comes from the host next does not wait for them.

A host link carries as much in one direction as in the other at the same time. An optimizer step whose state lives on
the host goes piece by piece: while a piece that was stepped leaves, the next one comes. Nothing else changes, so the
weights are the same to the bit.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

# What may lie on the GPU at once of pieces that leave and of the one that comes: state offload's own default for a
# chunk. Pieces are cut to half of it, so that two fit; a larger one comes alone.
ROOM_BYTES = 1024 * 2**20
PIECE_BYTES = ROOM_BYTES // 2


class Outward:
    """The stream of one device, and what is leaving on it. Does nothing of its own on a CPU."""

    def __init__(self, device: Any) -> None:
        import torch

        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._leaving: deque[tuple[Any, list[Any], int]] = deque()

    @contextlib.contextmanager
    def copying(self, tensors: Iterable[Any]) -> Iterator[None]:
        """A context in which `tensors` are copied to the host; they are kept alive until that is done."""
        if self._stream is None:
            yield
            return
        import torch

        held = [tensor for tensor in tensors if tensor.device.type == "cuda"]
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            yield
            self._leaving.append((self._stream.record_event(), held, sum(map(_bytes, held))))

    def make_room(self, size: int) -> None:
        """Wait until `size` bytes that come from the host find room beside what is leaving."""
        while self._leaving and size + sum(leaving for _, _, leaving in self._leaving) > ROOM_BYTES:
            self._leaving.popleft()[0].synchronize()

    def finish(self) -> None:
        """Wait for everything that is leaving."""
        while self._leaving:
            self._leaving.popleft()[0].synchronize()


def tensors_in(value: Any) -> list[Any]:
    """The tensors of an entry of optimizer state: itself, those of a list, or those that an object holds."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    held = vars(value).values() if hasattr(value, "__dict__") else ()
    return [tensor for tensor in held if isinstance(tensor, torch.Tensor)]


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


def _expect_back(offloader: Any, parameter: Any, state: dict[Any, Any]) -> None:
    """Note that state which lies on the host belongs beside its parameter.

    Unsloth notes it when it moves state there, and for a checkpoint that was loaded by the identity of tensors; but
    flashoptim makes new ones of them (0.1.4, `_load_state_for_param`), which then never came back: a resumed run gave
    its kernels CPU tensors. Single numbers, such as flashoptim's step, stay where they are.
    """
    import torch

    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            held = {key: value}
        elif isinstance(value, list | tuple):
            held = {(key, number): item for number, item in enumerate(value) if isinstance(item, torch.Tensor)}
        else:
            held = {(key, name): item for name, item in getattr(value, "__dict__", {}).items() if torch.is_tensor(item)}
        for place, tensor in held.items():
            if tensor.dim() and tensor.device.type == "cpu":
                offloader.offloaded.setdefault((parameter, place), parameter.device)


def overlaps_copies(offloader_class: Any) -> None:
    """Have instances of `offloader_class` copy chunks of state outward in this way (unsloth 2026.10.9, optimizers/
    state_offload.py: `restore`, `offload`, `finish`). Does nothing a second time."""
    if hasattr(offloader_class, "outward"):
        return
    restore, offload, finish = offloader_class.restore, offloader_class.offload, offloader_class.finish

    def outward(self: Any) -> Outward:
        if "_outward" not in vars(self):
            self._outward = Outward(self.optimizer.param_groups[0]["params"][0].device)
        found: Outward = self._outward
        return found

    def state_of(self: Any, params: Any) -> list[Any]:
        entries = [value for p in params for value in self.optimizer.state.get(p, {}).values()]
        return [tensor for value in entries for tensor in tensors_in(value)]

    def restored(self: Any, params: Any = None) -> Any:
        if params is not None:
            params = list(params)
            outward(self).make_room(sum(map(_bytes, state_of(self, params))))
        for parameter, state in self._states(params):
            if parameter.device.type != "cpu":
                _expect_back(self, parameter, state)
        return restore(self, params)

    def offloaded(self: Any, params: Any = None, device_of: Any = None) -> Any:
        if params is None:
            return offload(self, params, device_of)
        params = list(params)
        with outward(self).copying(state_of(self, params)):
            return offload(self, params, device_of)

    def finished(self: Any, devices: Any) -> Any:
        outward(self).finish()
        return finish(self, devices)

    offloader_class.outward = property(outward)
    offloader_class.restore, offloader_class.offload, offloader_class.finish = restored, offloaded, finished
