"""A plan in four lines of at most 80 columns: what a person asks first."""

from __future__ import annotations

from pathlib import PurePath

from ..settings.parameters import Parameters, Plan, Predicted
from . import duration
from .words import HOST_DECIDES

WIDTH = 80
NOTABLE = 0.1  # of the time: less may be spent beside the steps without a word (a judgement)
_SURE = {
    "measured": "measured: this setting was run",
    "calibrated": "calibrated: fitted on this card and model",
    "extrapolated": "extrapolated: an estimate, so try a few steps first",
}


def lines(parameters: Parameters) -> list[str]:
    """The four lines; none without a plan."""
    plan = parameters.plan
    if plan is None:
        return []
    told = (_fits(parameters, plan), _lasts(plan), _does(parameters), _sure(plan))
    return [line if len(line) <= WIDTH else line[: WIDTH - 3] + "..." for line in told]


def _fits(parameters: Parameters, plan: Plan) -> str:
    hardware, predicted = plan.hardware, plan.predicted
    count = hardware.gpus * hardware.nodes
    card = hardware.name if count == 1 else f"{count} x {hardware.name}"
    model = PurePath(parameters.model.name).name
    memory = f"{predicted.peak_vram_gib:.1f} of {hardware.vram_gib:.1f} GiB"
    decides = ", which decides" if any(sentence.startswith(HOST_DECIDES) for sentence in plan.why) else ""
    host = f"fits      {model} on {card}: {memory}, host {predicted.host_ram_gib:.0f} GiB{decides}"
    if predicted.disk_gib is None:
        return host
    return _first_that_fits(f"{host}, disk {predicted.disk_gib:.0f} GiB", host)


def _lasts(plan: Plan) -> str:
    """Time and money; what the time is made of, as far as it fits the line."""
    predicted = plan.predicted
    around = _around(None if predicted.hours_range is None else [duration.short(one) for one in predicted.hours_range])
    cost = ""
    if predicted.cost_usd is not None:
        ends = None if predicted.cost_usd_range is None else [f"{one:,.2f}" for one in predicted.cost_usd_range]
        cost = f"; {predicted.cost_usd:,.2f} USD{_around(ends)}"
    begun = f"takes     {duration.short(predicted.hours)}{around}"
    amount, beside = f"{predicted.steps:,} steps, {_short(predicted.tokens)} tokens", _beside(predicted)
    speed = f"{predicted.tokens_per_second:,.0f} tokens/s{cost}"
    return _first_that_fits(
        f"{begun}{beside}: {amount} at {speed}",
        f"{begun}: {amount} at {speed}",
        f"{begun}{beside}, {speed}",
        f"{begun}, {speed}",
    )


def _first_that_fits(*forms: str) -> str:
    """The first of `forms`, the fullest first, that is no longer than a line; else the last."""
    return next((form for form in forms if len(form) <= WIDTH), forms[-1])


def _around(ends: list[str] | None) -> str:
    return f" ({ends[0]} to {ends[1]})" if ends is not None and ends[0] != ends[1] else ""


def _beside(predicted: Predicted) -> str:
    """What of the time is spent beside the steps, where that is too much to be overlooked."""
    if predicted.hours_breakdown is None:
        return ""
    hours = predicted.hours - predicted.hours_breakdown["steps"]
    return f", {duration.short(hours)} beside the steps" if hours > NOTABLE * predicted.hours else ""


def _short(tokens: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{letter}"
    return str(tokens)


def _does(parameters: Parameters) -> str:
    optimizer, batch = parameters.optimizer, parameters.batch
    offload = ", offload" if optimizer.state_offload else ""
    split = f"{batch.per_device_train_batch_size} x {batch.gradient_accumulation_steps}"
    mode, rate = parameters.memory.gradient_checkpointing, f"rate {optimizer.learning_rate:g}"
    begun = f"settings  {parameters.precision.weights} {optimizer.name}{offload}"
    return _first_that_fits(
        f"{begun}, checkpointing {mode}, {split} rows, {rate}",
        f"{begun}, checkpointing {mode}, {split}, {rate}",
        f"{begun}, recompute {mode}, {split}, {rate}",
        f"{begun}, {mode}, {split}, {rate}",
    )


def _sure(plan: Plan) -> str:
    count = len(plan.warnings)
    warned = f"; {count} warning{'s' * (count > 1)} below" if count else ""
    return f"sure?     {_SURE[plan.basis]}{warned}"
