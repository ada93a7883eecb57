"""Gradients that live in host memory: each leaves the GPU as soon as the backward has made it.

What stays on the GPU of an ordinary step is then the weights, the activations of one micro-batch, and a few tensors
at a time. The arithmetic is the ordinary one: micro-batches are added in the gradients' own type, the norm is taken
over the whole sum before anything is clipped, and the optimizer steps once, a chunk of parameters after another, with
its state brought in by Unsloth's own state offload (unsloth 2026.10.9, optimizers/state_offload.py). Nothing of this
outlives a step, so checkpoints are the ordinary ones.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import clipping, outward, pinned_memory, sliced_step, streamed_weights

# Gradients on their way to the host may hold this much of the GPU; then the backward waits for the copies.
IN_FLIGHT_BYTES = 512 * 2**20


class HostGradients:
    """The gradients of `parameters`, summed in host memory over the micro-batches of a step.

    `parameters` are the model's, in its order. `is_last` says whether the running backward is that of the step's last
    micro-batch. `optimizer` is the innermost torch.optim.Optimizer; its step must be one that only touches parameters
    with a gradient. `weights` is what streams the model's layers, where something does.
    """

    def __init__(
        self,
        optimizer: Any,
        parameters: Iterable[Any],
        is_last: Callable[[], bool],
        weights: streamed_weights.StreamedWeights | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._is_last = is_last
        self._weights = weights
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._buffers: dict[Any, Any] = {}
        self._arrived: set[Any] = set()
        self._norms: dict[Any, Any] = {}
        self._coefficient: float | None = None
        self._copies = _Copies(_device_of(self._parameters))
        self._numbers = {parameter: number for number, parameter in enumerate(self._parameters)}
        self._handles = [p.register_post_accumulate_grad_hook(self._take) for p in self._parameters]

    def detach(self) -> None:
        """Leave gradients where they are made from here on."""
        for handle in self._handles:
            handle.remove()

    def norm(self) -> Any:
        """The norm over all gradients of the step, as torch.nn.utils.clip_grad_norm_ takes it."""
        import torch

        self._copies.finish()
        norms = [self._norms[p] for p in self._parameters if p in self._norms]
        if not norms:
            return torch.zeros(())
        return torch.linalg.vector_norm(torch.stack(norms))

    def clip(self, max_norm: float) -> Any:
        """Have the coming step scale the gradients down to `max_norm`; returns the norm they have."""
        norm = self.norm()
        self._coefficient = clipping.coefficient(norm, max_norm)
        return norm

    def step(self) -> None:
        """Step the optimizer chunk by chunk, and forget the gradients."""
        self._copies.finish()
        offloader = getattr(self._optimizer, "_unsloth_state_offloader", None)
        step = type(self._optimizer).step
        if getattr(step, "hooked", False):  # torch wraps step to run hooks; they belong to the whole step
            step = step.__wrapped__
        devices: set[Any] = set()
        if self._weights is not None:
            self._weights.settle()
        for chunk in self._chunks():
            with self._weights_of(chunk, offloader):
                devices |= self._step_chunk(chunk, step, offloader)
        if offloader is not None:
            offloader.finish(devices)
        if self._weights is not None:
            self._weights.finish()
        self._arrived.clear()
        self._norms.clear()
        self._coefficient = None

    def _weights_of(self, chunk: list[Any], offloader: Any) -> Any:
        """A context in which the chunk's weights are on the device."""
        if self._weights is None:
            return contextlib.nullcontext()
        return self._weights.on_card(chunk, None if offloader is None else offloader.outward)

    def _step_chunk(self, chunk: list[Any], step: Callable[[Any], Any], offloader: Any) -> set[Any]:
        """Step these parameters; returns the devices that state left from."""
        if len(chunk) == 1 and offloader is not None and sliced_step.can_slice(self._optimizer, chunk[0]):
            sliced_step.step(self._optimizer, chunk[0], self._buffers[chunk[0]], self._coefficient, offloader.outward)
            return {chunk[0].device}
        for parameter in chunk:
            parameter.grad = self._brought_back(parameter)
        if offloader is not None:
            offloader.restore(chunk)
        step(self._optimizer)
        left: set[Any] = offloader.offload(chunk) if offloader is not None else set()
        for parameter in chunk:
            parameter.grad = None
        return left

    def _take(self, parameter: Any) -> None:
        """Add a fresh gradient to the one on the host, and free it."""
        import torch

        gradient = parameter.grad
        parameter.grad = None
        buffer = self._buffers.get(parameter)
        if buffer is None:
            locked = gradient.device.type == "cuda"
            buffer = pinned_memory.host_tensor(gradient.shape, gradient.dtype, page_locked=locked)
            self._buffers[parameter] = buffer
        with self._copies.of(gradient, self._numbers[parameter]):
            if parameter in self._arrived:
                gradient = buffer.to(gradient.device, non_blocking=True).add_(gradient)
            if self._is_last():
                self._norms[parameter] = torch.nn.utils.get_total_norm([gradient])
            buffer.copy_(gradient, non_blocking=True)
        self._arrived.add(parameter)

    def _brought_back(self, parameter: Any) -> Any:
        gradient = self._buffers[parameter].to(parameter.device, non_blocking=True, copy=True)
        return gradient if self._coefficient is None else gradient.mul_(self._coefficient)

    def _chunks(self) -> Iterator[list[Any]]:
        """Parameters that got a gradient, in pieces whose state (taken as 8 bytes an element) is about a chunk."""
        chunk: list[Any] = []
        size = 0
        for parameter in self._parameters:
            if parameter not in self._arrived:
                continue
            need = 8 * parameter.numel()
            if chunk and size + need > outward.PIECE_BYTES:
                yield chunk
                chunk, size = [], 0
            chunk.append(parameter)
            size += need
        if chunk:
            yield chunk


class _Copies:
    """Streams for copies beside the backward, held back when too much is under way. Does nothing on a CPU.

    There are two, because a link carries as much in both directions at once: while one gradient goes down, the sum so
    far of the next comes up. A tensor keeps to its own, so that its copies stay in order.
    """

    def __init__(self, device: Any) -> None:
        import torch

        self._streams: list[Any] = [torch.cuda.Stream(device) for _ in range(2)] if device.type == "cuda" else []
        self._pending: deque[tuple[Any, int]] = deque()

    def of(self, tensor: Any, number: int) -> Any:
        """A context whose work waits for what made `tensor`, and keeps `tensor` alive until it is done.

        Work with the same `number` is done in the order it came.
        """
        if not self._streams:
            return contextlib.nullcontext()
        return self._queued(tensor, self._streams[number % len(self._streams)])

    def _queued(self, tensor: Any, stream: Any) -> Any:
        import torch

        @contextlib.contextmanager
        def queued() -> Iterator[None]:
            size = tensor.numel() * tensor.element_size()
            while self._pending and size + sum(held for _, held in self._pending) > IN_FLIGHT_BYTES:
                self._pending.popleft()[0].synchronize()
            stream.wait_stream(torch.cuda.current_stream(tensor.device))
            with torch.cuda.stream(stream):
                yield
                tensor.record_stream(stream)
                self._pending.append((stream.record_event(), size))

        return queued()

    def finish(self) -> None:
        """Wait for everything that was queued."""
        for stream in self._streams:
            stream.synchronize()
        self._pending.clear()


def keeps_gradients_on_host(trainer_class: type) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) whose steps keep their gradients in host memory."""

    class GradientsOnHost(trainer_class):  # type: ignore[misc]
        _host_gradients: Any = None

        def __init__(self, *args: Any, **settings: Any) -> None:
            from transformers import TrainerCallback

            super().__init__(*args, **settings)
            trainer = self

            class StepFromHost(TrainerCallback):  # type: ignore[misc]
                def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
                    # The Trainer's own optimizer.step() follows, and finds no gradient left.
                    trainer._host_gradients.step()

            self.add_callback(StepFromHost())

        def training_step(self, *args: Any, **settings: Any) -> Any:
            if self._host_gradients is None:
                state = self.accelerator.gradient_state
                self._host_gradients = HostGradients(
                    _innermost(self.optimizer),
                    self.model.parameters(),
                    lambda: state.sync_gradients,
                    streamed_weights.of(self.model),
                )
            return super().training_step(*args, **settings)

        def _clip_grad_norm(self, model: Any) -> Any:
            return self._host_gradients.clip(self.args.max_grad_norm)

        def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
            return (self._host_gradients.norm() if grad_norm is None else grad_norm).item()

    return GradientsOnHost


def _device_of(parameters: list[Any]) -> Any:
    """Where gradients are made: streamed weights rest on the host, and others are where they compute."""
    return next((p.device for p in parameters if p.device.type != "cpu"), parameters[0].device)


def _innermost(optimizer: Any) -> Any:
    """The optimizer inside accelerate's wrapper."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
