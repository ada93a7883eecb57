"""An optimizer step of one large tensor, some rows at a time, with its state in host memory.

An embedding's state is the largest thing a chunked step brings to the GPU: 3.9 GiB for Llama-3.1-8B. AdamW works
element by element, so a slice of rows, with its slice of gradient and state, steps as if it were a parameter of its
own; the result is the same to the bit (a test holds it so). Only for adamw_flash without quantized moments: there the
state of an element depends on that element alone (flashoptim 0.1.4, FlashOptimizer.step_param).
"""

from __future__ import annotations

import copy
from typing import Any

from . import pinned_memory
from .outward import Outward, tensors_in

# Tensors of more elements are cut, into slices of half as many: 8 bytes of state, 2 of gradient and 4 borrowed for each
# element of the one that is stepped and 8 of the one that leaves are under 1 GiB together.
SLICE_ELEMENTS = 2**26


def can_slice(optimizer: Any, parameter: Any) -> bool:
    """Whether `parameter` is large enough to be worth it and `optimizer` one whose state can be cut by rows."""
    large = parameter.dim() == 2 and parameter.numel() > SLICE_ELEMENTS
    return large and hasattr(optimizer, "step_param") and not any(g.get("quantize") for g in optimizer.param_groups)


def step(
    optimizer: Any, parameter: Any, gradient: Any, coefficient: float | None, outward: Outward | None = None
) -> None:
    """One step of `parameter`, whose gradient and state are host tensors; the gradient is scaled by `coefficient`.

    With `outward` the state of one slice leaves while the next one's comes.
    """
    import torch

    group = next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
    outward = outward or Outward(torch.device("cpu"))
    rows = max(SLICE_ELEMENTS // 2 // parameter.shape[1], 1)
    before = dict(optimizer.state.get(parameter, {}))  # its step count, too, is the same for every slice
    whole = dict(before)
    for first in range(0, parameter.shape[0], rows):
        piece = slice(first, first + rows)
        outward.make_room(sum(_bytes_of(value, piece) for value in before.values()))
        part = torch.nn.Parameter(parameter.data[piece])  # a view: what it becomes, the parameter becomes
        part.grad = gradient[piece].to(part.device, non_blocking=True)
        if coefficient is not None:
            part.grad.mul_(coefficient)
        if before:
            optimizer.state[part] = {name: _cut(value, piece, part.device) for name, value in before.items()}
        optimizer.step_param(part, group)
        after = optimizer.state.pop(part)
        with outward.copying(tensor for value in after.values() for tensor in tensors_in(value)):
            for name, value in after.items():
                whole[name] = _put(whole.get(name), value, piece, parameter)
    optimizer.state[parameter] = whole


def _bytes_of(value: Any, piece: slice) -> int:
    cut = [tensor[piece] for tensor in tensors_in(value) if tensor.dim()]
    return sum(tensor.numel() * tensor.element_size() for tensor in cut)


def _cut(value: Any, piece: slice, device: Any) -> Any:
    """The rows `piece` of a state entry, on `device`: a tensor, or an object that holds one."""
    import torch

    if isinstance(value, torch.Tensor):
        return value[piece].to(device, non_blocking=True) if value.dim() else value.clone()
    part = copy.copy(value)
    for name, tensor in _tensors(value):
        setattr(part, name, tensor[piece].to(device, non_blocking=True))
    return part


def _put(whole: Any, part: Any, piece: slice, parameter: Any) -> Any:
    """`whole` with its rows `piece` replaced by `part`; made anew on the host where there was none."""
    import torch

    if isinstance(part, torch.Tensor):
        if not part.dim():
            return part
        whole = _host_tensor(part, parameter) if whole is None else whole
        whole[piece].copy_(part, non_blocking=True)
        return whole
    if whole is None:
        whole = copy.copy(part)
        for name, tensor in _tensors(part):
            setattr(whole, name, _host_tensor(tensor, parameter))
    for name, tensor in _tensors(part):
        getattr(whole, name)[piece].copy_(tensor, non_blocking=True)
    return whole


def _host_tensor(part: Any, parameter: Any) -> Any:
    return pinned_memory.host_tensor(parameter.shape, part.dtype, page_locked=part.device.type == "cuda")


def _tensors(value: Any) -> list[tuple[str, Any]]:
    import torch

    return [(name, held) for name, held in vars(value).items() if isinstance(held, torch.Tensor)]
