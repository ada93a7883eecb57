"""Weights that live in host memory: a layer's come to the GPU when it runs, into one of two buffers.

While one layer computes, the next one's weights arrive: upward in the forward, downward in the backward, where a
checkpointed layer runs once more. Between passes every parameter holds its host tensor, so saving, loading, auditing
and checking see an ordinary model; the arithmetic is the ordinary one. Embeddings, the head and the last norm stay on
the GPU. Gradients must leave as they are made (host_gradients.py), and the optimizer steps what it is brought, chunk by
chunk (`on_card`).

Why not an engine that exists (all tried with Unsloth's model, 2026-12-01): accelerate's offload hooks (1.15.0) put
other tensors in the parameters' place, which then get no gradient and say nothing; torch's FSDP2 with CPUOffloadPolicy
(2.14.1, one rank) trains to the same bit, but its step runs on the CPU, where flashoptim's correction term (0.1.4)
does not exist; unsloth_zoo's BlockSwap (2026.10.9) takes frozen layers alone, and leaves parameters of no elements
behind, into which no checkpoint loads. DeepSpeed's ZeRO-3 keeps a float32 master of its own and is no part of Unsloth.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..core.errors import BadInput, TrainingFailed
from . import pinned_memory

BUFFERS = 2
# A layer's tensors start at multiples of this in a buffer, as matrix kernels like them.
ALIGNMENT = 512
_ATTRIBUTE = "_streamed_weights"


class StreamedWeights:
    """The weights of `layers` (modules that run one after another) in host memory, used on `device`."""

    def __init__(self, layers: Sequence[Any], device: Any) -> None:
        import torch

        self._device = device
        self._layers = [_Layer(module, device) for module in layers]
        self._homes = {parameter: home for layer in self._layers for parameter, home in layer.homes.items()}
        size = max(layer.size for layer in self._layers)
        count = min(BUFFERS, len(self._layers))
        self._buffers = [_Buffer(torch.empty(size, dtype=torch.uint8, device=device)) for _ in range(count)]
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._inside: int | None = None
        self.bytes_brought = 0
        for number, layer in enumerate(self._layers):
            layer.module.register_forward_pre_hook(self._entering(number))
            for parameter in layer.homes:
                parameter.register_post_accumulate_grad_hook(self._arriving(number))

    def settle(self) -> None:
        """Give every parameter its host tensor back, and forget what the buffers hold: it may change now."""
        self._leave()
        for buffer in self._buffers:
            buffer.layer = None

    @contextlib.contextmanager
    def on_card(self, parameters: Iterable[Any], outward: Any = None) -> Iterator[None]:
        """`parameters` with their weights on the device; what becomes of those there goes back to the host.

        With `outward` (outward.Outward) the way back is beside other work, and done when that is finished.
        """
        streamed = [parameter for parameter in parameters if parameter in self._homes]
        for parameter in streamed:
            parameter.data = self._homes[parameter].to(self._device, non_blocking=True, copy=True)
        yield
        changed = [parameter.data for parameter in streamed]
        with contextlib.nullcontext() if outward is None else outward.copying(changed):
            for parameter in streamed:
                self._homes[parameter].copy_(parameter.data, non_blocking=True)
        for parameter in streamed:
            parameter.data = self._homes[parameter]

    def finish(self) -> None:
        """Wait until all that went to the host is there."""
        import torch

        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _entering(self, number: int) -> Any:
        import torch

        def entering(*_: Any) -> None:
            self._enter(number)

        return torch.compiler.disable(entering)  # a compiled caller goes around it

    def _arriving(self, number: int) -> Any:
        def arriving(_: Any) -> None:
            if self._inside != number:
                raise TrainingFailed(
                    f"the gradient of layer {number} came after its weights had left: the layer was not recomputed",
                    hint="stream weights with --gradient-checkpointing unsloth or true",
                )

        return arriving

    def _enter(self, number: int) -> None:
        """Have layer `number` run on the device, and fetch the one that follows: the next, or backward the one before.

        A pass upward begins at the first layer. A layer that comes again, or after a later one, is recomputed.
        """
        last = -1 if self._inside is None else self._inside
        forward = number == 0 or number > last
        self._leave()
        buffer = self._fetch(number, keep=None)
        buffer.wait()
        self._layers[number].use(buffer.memory)
        self._inside = number
        follows = number + 1 if forward else number - 1
        if 0 <= follows < len(self._layers) and len(self._buffers) > 1:
            self._fetch(follows, keep=buffer)

    def _leave(self) -> None:
        if self._inside is not None:
            self._layers[self._inside].rest()
            self._inside = None

    def _fetch(self, number: int, keep: _Buffer | None) -> _Buffer:
        """The buffer that holds layer `number`, or will when its copies are done; not `keep`, whose layer runs."""
        held = next((buffer for buffer in self._buffers if buffer.layer == number), None)
        if held is not None:
            return held
        buffer = next(buffer for buffer in self._buffers if buffer is not keep)
        buffer.fill(number, self._layers[number], self._stream)
        self.bytes_brought += self._layers[number].size
        return buffer


class _Layer:
    """A module, its parameters' host tensors, and where each lies in a buffer of `size` bytes."""

    def __init__(self, module: Any, device: Any) -> None:
        self.module = module
        self.homes: dict[Any, Any] = {}
        self._places: dict[Any, int] = {}
        self.size = 0
        for parameter in module.parameters():
            self.homes[parameter] = _moved_to_host(parameter, device)
            self._places[parameter] = self.size
            self.size += math.ceil(parameter.nbytes / ALIGNMENT) * ALIGNMENT
        _keep_where_they_are(module, device)

    def use(self, memory: Any) -> None:
        for parameter in self.homes:
            parameter.data = self.place(parameter, memory)

    def rest(self) -> None:
        for parameter, home in self.homes.items():
            parameter.data = home

    def place(self, parameter: Any, memory: Any) -> Any:
        """The part of a buffer's `memory` that is this parameter's."""
        home, first = self.homes[parameter], self._places[parameter]
        return memory[first : first + home.nbytes].view(home.dtype).view(home.shape)


class _Buffer:
    """Memory of the device for one layer. `layer` is the number of that which is in it, or on its way."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.layer: int | None = None
        self._arrived: Any = None

    def fill(self, number: int, layer: _Layer, stream: Any) -> None:
        """Copy `layer` in: on `stream`, after all work that was queued so far, which may read what was here."""
        import torch

        self.layer = number
        if stream is None:
            self._copy(layer)
            return
        stream.wait_stream(torch.cuda.current_stream(self.memory.device))
        with torch.cuda.stream(stream):
            self._copy(layer)
            self._arrived = stream.record_event()

    def wait(self) -> None:
        """Have what is queued from here on wait for the copies."""
        import torch

        if self._arrived is not None:
            torch.cuda.current_stream(self.memory.device).wait_event(self._arrived)

    def _copy(self, layer: _Layer) -> None:
        import torch

        with torch.no_grad():
            for parameter, home in layer.homes.items():
                layer.place(parameter, self.memory).copy_(home, non_blocking=True)


def install(model: Any) -> StreamedWeights:
    """Stream the layers of `model`, whose other parts are where they are to compute; returns what `of` finds.

    Raises BadInput where it cannot be done: experts, no layers that can be recomputed, or weights that two share.
    """
    import torch

    layers = _layers(model)
    if getattr(model.config.get_text_config(), "num_experts", 0):
        raise BadInput(
            f"weights of {type(model).__name__} were never streamed: it has experts",
            hint="plan again without --weight-offload",
        )
    if not layers:
        raise BadInput(
            f"{type(model).__name__} has no layers that can be recomputed, and so none whose weights can be streamed",
            hint="plan again without --weight-offload",
        )
    owners = [id(parameter) for layer in layers for parameter in layer.parameters()]
    if len(set(owners)) < len(owners):
        raise BadInput(
            f"layers of {type(model).__name__} share weights, which cannot be streamed one layer after another",
            hint="plan again without --weight-offload",
        )
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    streamed = StreamedWeights(layers, device)
    setattr(model, _ATTRIBUTE, streamed)
    for whole in {id(module): module for module in (model, getattr(model, "base_model", model))}.values():
        whole.register_forward_hook(_settles(streamed))
    return streamed


def of(model: Any) -> StreamedWeights | None:
    """What `install` made of this model; None where its weights stay on the device."""
    found: StreamedWeights | None = getattr(model, _ATTRIBUTE, None)
    return found


@contextlib.contextmanager
def loads_to_host() -> Iterator[None]:
    """Models that load in here keep their layers in host memory, one after another as they come from disk.

    On a GPU only, by unsloth_zoo's own means (2026.10.9, block_swap.py: load_layers_to_host), which counts layers and
    takes a larger number as all.
    """
    import torch

    if not torch.cuda.is_available():
        yield
        return
    from unsloth_zoo.block_swap import load_layers_to_host

    with load_layers_to_host(10_000):
        yield


def _settles(streamed: StreamedWeights) -> Any:
    """After a pass that no backward follows, parameters may be read or loaded: each must hold its own tensor."""
    import torch

    def settles(*_: Any) -> None:
        if not torch.is_grad_enabled():
            streamed.settle()

    return torch.compiler.disable(settles)


def _layers(model: Any) -> list[Any]:
    """The outermost modules that can be recomputed and have weights, in the model's order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    found: list[Any] = []
    inner: set[int] = set()
    for module in model.modules():  # outer ones come first
        if id(module) in inner or not isinstance(module, GradientCheckpointingLayer):
            continue
        inner.update(map(id, module.modules()))
        if next(module.parameters(), None) is not None:
            found.append(module)
    return found


def _moved_to_host(parameter: Any, device: Any) -> Any:
    """The parameter's weights in host memory that `device` reads beside other work; the parameter holds them.

    Loading to the host freezes what it moves; every weight is to train.
    """
    home = pinned_memory.host_tensor(parameter.shape, parameter.dtype, page_locked=device.type == "cuda")
    home.copy_(parameter.data)
    parameter.data = home
    if parameter.is_floating_point():
        parameter.requires_grad_(True)
    return home


def _keep_where_they_are(module: Any, device: Any) -> None:
    """Leave the weights alone when someone moves the whole model, as every trainer does; buffers go to `device` now."""
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)
    module._apply = lambda *_, **__: module
