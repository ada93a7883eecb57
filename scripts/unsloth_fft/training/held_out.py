"""The one held-out loss: float32 arithmetic on the weights as they are stored, each row by itself, a mean over tokens.

Neither the plan's precision nor its packing or batch enters, so the same model has the same loss on the same rows in
every plan, in `train`, `eval` and `export`: within 0.001, measured (references/exactness.md).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..data import arrow_rows

IGNORED = -100  # the label that cross entropy leaves out
LOGITS_AT_ONCE = 2**26  # float32 numbers: 256 MiB, however large the vocabulary

Row = tuple[Sequence[int], Sequence[int]]
"""(input_ids, labels), of one length; a label belongs to the token in its own place."""


@dataclass(frozen=True)
class RowLoss:
    """Summed loss of one row in nats, and over how many tokens."""

    nats: float
    tokens: int


class Rows:
    """The rows of a `datasets.Dataset` with columns input_ids and labels, read from disk when they are asked for."""

    def __init__(self, dataset: Any | None) -> None:
        self._dataset: Any = [] if dataset is None else dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Row]:
        return ((row["input_ids"], row["labels"]) for row in self._dataset)

    def tokens(self) -> int:
        """Tokens of all rows together."""
        return int(arrow_rows.lengths(self._dataset, "input_ids").sum()) if len(self) else 0

    def some(self, numbers: Sequence[int]) -> Rows:
        """The rows of these numbers."""
        return Rows(self._dataset.select(numbers))


def by_tokens(losses: Sequence[RowLoss]) -> float:
    """Mean loss a token over all rows; NaN where no token counts."""
    tokens = sum(row.tokens for row in losses)
    return sum(row.nats for row in losses) / tokens if tokens else float("nan")


def by_rows(losses: Sequence[RowLoss]) -> float:
    """Mean over rows of each row's mean loss a token: short rows weigh as much as long ones. NaN without rows."""
    means = [row.nats / row.tokens for row in losses if row.tokens]
    return sum(means) / len(means) if means else float("nan")


def finite(loss: float) -> float | None:
    """`loss` as JSON may hold it: None where it is no number."""
    return loss if math.isfinite(loss) else None


def row_losses(model: Any, rows: Iterable[Row], value_of: Callable[[Any], Any] | None = None) -> list[RowLoss]:
    """The loss of `model` (a transformers causal language model, on any device, in any type) on each row.

    The model is put into evaluation mode and back. `value_of` maps a parameter to the float32 values to take in its
    place, for example those of a float32 master; without it they are the stored ones.
    """
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), float32_arithmetic(model, value_of):
            return [_row_loss(model, input_ids, labels) for input_ids, labels in rows]
    finally:
        model.train(was_training)


def _row_loss(model: Any, input_ids: Sequence[int], labels: Sequence[int]) -> RowLoss:
    """One row through the model's body, and the places that count through its head, a few at a time."""
    import torch

    wanted = torch.tensor(labels[1:], device=model.device)
    places = (wanted != IGNORED).nonzero().flatten()
    if not len(places):
        return RowLoss(0.0, 0)
    body = getattr(model, model.base_model_prefix)
    hidden = body(input_ids=torch.tensor([input_ids], device=model.device), use_cache=False)
    states, nats = hidden.last_hidden_state, 0.0
    for some in places.split(max(1, LOGITS_AT_ONCE // model.config.get_text_config().vocab_size)):
        with _replaced(body, "forward", lambda *_, part=states[:, some], **__: _with_states(hidden, part)):
            logits = model(input_ids=wanted[None, some], use_cache=False).logits[0].float()
        nats += float(torch.nn.functional.cross_entropy(logits, wanted[some], reduction="sum"))
    return RowLoss(nats, len(places))


def _with_states(output: Any, states: Any) -> Any:
    """The body's `output` with other last states, so that the model's own head and its scaling follow."""
    output.last_hidden_state = states
    return output


@contextlib.contextmanager
def float32_arithmetic(model: Any, value_of: Callable[[Any], Any] | None = None) -> Iterator[None]:
    """Have `model` compute in float32 from its stored weights, a layer at a time: memory holds one layer twice.

    What the trainer put around the model's forward, mixed precision above all, is left out; compiled layers run as
    they are written.
    """
    with contextlib.ExitStack() as stack:
        for unit in _units(model):
            layer = _Float32Layer(unit, value_of)
            # Unsloth's layers may be called with keywords alone.
            stack.callback(unit.register_forward_pre_hook(layer.enter, with_kwargs=True).remove)
            stack.callback(unit.register_forward_hook(layer.leave, always_call=True).remove)
        stack.enter_context(_without_wrappers(model))
        stack.enter_context(_attention_of_any_type(model))
        stack.enter_context(_eager())
        yield


def _units(model: Any) -> list[Any]:
    """Disjoint modules that hold all parameters: each layer of a list as a whole, elsewhere what has weights itself."""
    import torch

    found: list[Any] = []

    def walk(module: Any) -> None:
        for child in module.children():
            if isinstance(child, torch.nn.ModuleList):
                found.extend(one for one in child if any(True for _ in one.parameters()))
            elif next(child.parameters(recurse=False), None) is not None:
                found.append(child)
            else:
                walk(child)

    walk(model)
    return found


class _Float32Layer:
    """Puts float32 values into a module's parameters while it runs."""

    def __init__(self, unit: Any, value_of: Callable[[Any], Any] | None) -> None:
        self._unit = unit
        self._value_of = value_of
        self._stored: list[tuple[Any, Any]] = []

    def enter(self, _: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        import torch

        torch.set_autocast_enabled(self._unit_device(), False)  # whoever turned it on meanwhile
        for parameter in self._unit.parameters():
            value = parameter.data if self._value_of is None else self._value_of(parameter)
            if value.is_floating_point() and (value.dtype != torch.float32 or value is not parameter.data):
                self._stored.append((parameter, parameter.data))
                parameter.data = value.float()
        return tuple(_float32(value) for value in args), {name: _float32(value) for name, value in keywords.items()}

    def leave(self, *_: Any) -> None:
        for parameter, stored in reversed(self._stored):
            parameter.data = stored
        self._stored.clear()

    def _unit_device(self) -> str:
        return str(next(self._unit.parameters()).device.type)


def _float32(value: Any) -> Any:
    """Floating-point tensors in float32, also in tuples (rotary embeddings); everything else as it is."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if type(value) is tuple:
        return tuple(_float32(one) for one in value)
    return value


@contextlib.contextmanager
def _without_wrappers(model: Any) -> Iterator[None]:
    """Without the mixed-precision forward that accelerate 1.x keeps on the model (Accelerator.prepare_model)."""
    original = model.__dict__.get("_original_forward")
    if original is None:
        yield
    else:
        with _replaced(model, "forward", original):
            yield


@contextlib.contextmanager
def _attention_of_any_type(model: Any) -> Iterator[None]:
    """torch's own attention in the place of flash attention, whose kernels take 16-bit numbers alone."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config())}.values()
    flash = [config for config in configs if "flash" in str(config._attn_implementation)]
    kept = [config._attn_implementation for config in flash]
    for config in flash:
        config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        for config, name in zip(flash, kept, strict=True):
            config._attn_implementation = name


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    """Without torch.compile, which would compile every layer again for float32 (set_stance: torch 2.6 and later)."""
    import torch

    stance = getattr(torch.compiler, "set_stance", None)
    with stance("force_eager") if stance else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """`thing.name` is `value` meanwhile; what the object itself had, and only that, comes back."""
    had, kept = name in thing.__dict__, thing.__dict__.get(name)
    thing.__dict__[name] = value
    try:
        yield
    finally:
        if had:
            thing.__dict__[name] = kept
        else:
            del thing.__dict__[name]


def measured_by_tokens(trainer_class: type, rows: Iterable[Row]) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) whose evaluations are this module's, on `rows`."""

    class MeasuredByTokens(trainer_class):  # type: ignore[misc]
        control: Any

        def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
            import torch

            loss = by_tokens(row_losses(self.model, rows))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # blocks of float32 layers fit nothing that training asks for
            found = {f"{metric_key_prefix}_loss": loss}
            self.log(dict(found))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
            return found

    return MeasuredByTokens
