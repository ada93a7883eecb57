"""After out of memory: the command that plans the same run for less memory, tried before it is named."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Sequence

from ..core.errors import BadInput, FFTError, NothingFits
from ..hardware import cards
from ..hardware.cards import Hardware
from ..models import source
from ..settings.parameters import Parameters
from . import data_facts
from .plan import make_plan
from .request import EVAL_FRACTION, Amount, Pins, Reading, Request

# A plan that ran out was predicted too low; the next one must be predicted lower by at least what the worst of the
# project's own measurements missed (references/predicted-and-measured.md).
LESS = 0.93


def smaller(parameters: Parameters, available_gib: float) -> str:
    """A hint: the exact command for the fastest plan that is predicted to need less, or what else would help.

    `available_gib` is what this process could have used of the card.
    """
    if parameters.plan is None:
        return f"plan for less: {for_this_machine(parameters, available_gib)}"
    planned = parameters.plan
    predicted = planned.predicted.peak_vram_gib + planned.hardware.safety_margin_gib
    budget = math.floor(10 * min(LESS * predicted, max(available_gib, 1.0), planned.hardware.vram_gib)) / 10
    try:
        make_plan(_request(parameters, budget), alternatives=0, dataset=parameters.data.dataset)
    except NothingFits as error:
        return f"no smaller plan fits; {error.hint}"
    except FFTError:
        return f"plan for less: {_command(parameters, budget)}"
    return f"the next plan that fits, in a new session: {_command(parameters, budget)}"


def _request(parameters: Parameters, vram_gib: float) -> Request:
    data, plan = parameters.data, parameters.plan
    assert plan is not None
    return Request(
        model=parameters.model.name,
        shape=source.resolve(parameters.model.name),
        hardware=dataclasses.replace(_machine(parameters), vram_gib=vram_gib),
        seq_length=parameters.model.max_seq_length,
        effective_batch=parameters.batch.effective_batch_size,
        exactness=parameters.precision.exactness,
        objective=data.objective,
        amount=_amount(parameters),
        learning_rate=parameters.optimizer.learning_rate,
        data=data_facts.read_facts(
            data.dataset,
            data.sample_by,
            data.columns,
            data.ignored_columns,
            form=data.format,
            model=parameters.model.name,
            template=data.chat_template,
        )
        if data.dataset
        else None,
        price_per_hour=plan.hardware.price_per_hour,
        # Not --vram-gib: the limit is this module's, and to leave it out would give the plan that ran out.
        given=frozenset({"--gpus", "--host-ram-gib"}),
        pins=Pins(
            compute="float8" if parameters.precision.compute == "float8" else None,
            weight_offload=parameters.memory.weight_offload or None,
        ),
        reading=Reading(
            chat_template=data.chat_template,
            sample_by=data.sample_by,
            eval_fraction=data.eval_fraction,
            columns=tuple(data.columns.items()),
            ignored_columns=tuple(data.ignored_columns),
            allow_cut_ends=data.allow_cut_ends,
        ),
    )


def _machine(parameters: Parameters) -> Hardware:
    assert parameters.plan is not None
    planned = parameters.plan.hardware
    settings = {"gpus": planned.gpus, "nodes": planned.nodes, "host_ram_gib": planned.host_ram_gib}
    try:
        found = cards.on_gpu(cards.find_gpu(planned.name), **settings)  # type: ignore[arg-type]
    except BadInput:
        found = cards.on_memory(planned.vram_gib, **settings)  # type: ignore[arg-type]
    return dataclasses.replace(found, network_gbs=planned.network_gbs)


def _amount(parameters: Parameters) -> Amount:
    schedule = parameters.schedule
    return Amount(epochs=schedule.num_train_epochs, max_steps=schedule.max_steps)


def for_this_machine(parameters: Parameters, vram_gib: float | None = None) -> str:
    """The planner's command line for the same run on what this machine has, or `vram_gib` of it."""
    limit = [] if vram_gib is None else ["--vram-gib", f"{math.floor(10 * max(vram_gib, 1.0)) / 10:g}"]
    return _line(parameters, ["--gpu", "auto", *limit], "here.json")


def for_card(parameters: Parameters, card: str) -> str:
    """The planner's command line for the same run on a card of the table."""
    return _line(parameters, ["--gpu", card], "params.json")


def _command(parameters: Parameters, vram_gib: float) -> str:
    """The planner's command line for the same run on `vram_gib`."""
    assert parameters.plan is not None
    planned = parameters.plan.hardware
    words: list[object] = ["--gpu", planned.name] if _machine(parameters).gpu is not None else []
    words += ["--vram-gib", f"{vram_gib:g}"]
    words += ["--gpus", planned.gpus] if planned.gpus > 1 else []
    words += ["--nodes", planned.nodes] if planned.nodes > 1 else []
    words += ["--network-gbs", f"{planned.network_gbs:g}"] if planned.network_gbs is not None else []
    words += ["--host-ram-gib", f"{planned.host_ram_gib:g}"] if planned.host_ram_gib is not None else []
    return _line(parameters, words, "smaller.json")


def _line(parameters: Parameters, hardware: Sequence[object], output: str) -> str:
    """The planner's command line for the same run on other hardware."""
    data, schedule = parameters.data, parameters.schedule
    words: list[object] = ["generate_fft_params.py", "--model", parameters.model.name, *hardware]
    words += ["--dataset", data.dataset] if data.dataset else []
    words += ["--chat-template", data.chat_template] if data.chat_template else []
    words += ["--sample-by", data.sample_by] if data.sample_by != "line" else []
    words += ["--eval-fraction", f"{data.eval_fraction:g}"] if data.eval_fraction != EVAL_FRACTION else []
    words += ["--columns", *(f"{name}={column}" for name, column in data.columns.items())] if data.columns else []
    words += ["--ignore-columns", *data.ignored_columns] if data.ignored_columns else []
    words += ["--allow-cut-ends"] if data.allow_cut_ends else []
    words += ["--objective", data.objective] if data.objective != "sft" else []
    words += ["--seq-length", parameters.model.max_seq_length]
    words += ["--effective-batch", parameters.batch.effective_batch_size]
    words += ["--exactness", parameters.precision.exactness] if parameters.precision.exactness != "exact" else []
    words += ["--compute", "float8"] if parameters.precision.compute == "float8" else []
    words += ["--weight-offload", "on"] if parameters.memory.weight_offload else []
    words += ["--learning-rate", f"{parameters.optimizer.learning_rate:g}"]
    if schedule.max_steps is not None:
        words += ["--max-steps", schedule.max_steps]
    else:
        words += ["--epochs", f"{schedule.num_train_epochs:g}"]
    return shlex.join([*map(str, words), "--output", output])
