"""From the request to the parameters file: search, take the best, and write down what is expected of it."""

from __future__ import annotations

from typing import NamedTuple

from ..estimates import disk
from ..settings.parameters import (
    Alternative,
    Batch,
    Data,
    Distributed,
    Memory,
    Model,
    Optimizer,
    Parameters,
    Plan,
    PlannedHardware,
    Precision,
    Predicted,
    Schedule,
    contradictions,
    master_kept_by,
)
from ..settings.setting import Setting
from ..weights.expected import Expected, expected
from . import basis, exact_alternative, whole_run, words
from .amount import RunLength, run_length
from .defaults import TrainingDefaults, defaults_for
from .request import Request
from .row_joining import lays_end_to_end, packs
from .search import Candidate, Outcome, search

SEED = 3407


class Planned(NamedTuple):
    """The parameters and the search that found them."""

    parameters: Parameters
    outcome: Outcome


def make_plan(request: Request, *, alternatives: int, dataset: str | None) -> Planned:
    """The best plan that fits. Raises NothingFits with the nearest plan and what would make it fit."""
    return plan_from(request, search(request), alternatives=alternatives, dataset=dataset)


def plan_from(request: Request, outcome: Outcome, *, alternatives: int, dataset: str | None) -> Planned:
    """The best plan of `outcome`, the search for `request`. Raises NothingFits as `make_plan` does."""
    best = outcome.best
    if best is None:
        from . import advice  # only a plan that fails pays for it

        raise advice.nothing_fits(request, outcome)
    defaults = defaults_for(request.objective, request.shape.parameters)
    parameters = _parameters(request, outcome, best, defaults, alternatives, dataset)
    problems = contradictions(parameters)
    assert not problems, problems
    return Planned(parameters, outcome)


def _parameters(
    request: Request,
    outcome: Outcome,
    best: Candidate,
    defaults: TrainingDefaults,
    alternatives: int,
    dataset: str | None,
) -> Parameters:
    setting = best.setting
    optimizer = _optimizer(request, best, defaults)
    epochs = request.amount.epochs or defaults.num_train_epochs
    length = run_length(request, setting, epochs)
    save_steps = disk.steps_between_saves(request.shape.parameters, setting.weights, length.steps, best.step_s)
    schedule = _schedule(request, defaults, length, epochs, save_steps)
    beside = whole_run.beside(request, setting, length, best.step_s, save_steps)
    disk_gib = disk.needed_gib(request.shape.parameters, setting.weights, schedule, length.steps)
    if request.shape.multimodal:
        disk_gib += disk.copy_gib(request.shape.parameters)
    return Parameters(
        schema_version="1.0",
        model=Model(request.model, None, False, request.seq_length, request.shape.parameters),
        data=_data(request, setting, dataset),
        precision=Precision(
            best.exactness, setting.weights, master_kept_by(setting.weights, optimizer), _compute(request)
        ),
        optimizer=optimizer,
        memory=Memory(
            setting.checkpointing, setting.gradient_offload, setting.checkpointed_layers, setting.weight_offload
        ),
        batch=Batch(setting.micro_batch, setting.accumulation, request.effective_batch),
        schedule=schedule,
        distributed=Distributed(request.hardware.gpus, request.hardware.nodes, setting.strategy),
        plan=_plan(request, outcome, best, optimizer, length, beside, alternatives, disk_gib),
    )


def _compute(request: Request) -> str:
    if request.hardware.is_cpu:
        return "float32"
    if request.float8:
        return "float8"
    return "bfloat16" if request.hardware.has_bf16 else "float16"


def _data(request: Request, setting: Setting, dataset: str | None) -> Data:
    facts = request.data
    return Data(
        dataset=dataset,
        format=request.reading.form or "auto",
        objective=request.objective,
        loss_on="all" if request.objective == "pretrain" else "responses",
        packing=packs(request, setting),
        padding_free=lays_end_to_end(request, setting),
        eval_fraction=request.reading.eval_fraction,
        rows=facts.rows + facts.empty if facts else None,
        tokens_per_row=round(facts.mean_row(request.seq_length), 1) if facts else None,
        chat_template=request.reading.chat_template,
        seed=SEED,
        sample_by=request.reading.sample_by,
        columns=dict(request.reading.columns),
        ignored_columns=list(request.reading.ignored_columns),
        allow_cut_ends=request.reading.allow_cut_ends,
    )


def _optimizer(request: Request, best: Candidate, defaults: TrainingDefaults) -> Optimizer:
    return Optimizer(
        name=best.setting.optimizer,
        args={name: bool(value) for name, value in best.setting.optimizer_args},
        learning_rate=request.learning_rate or defaults.learning_rate,
        weight_decay=defaults.weight_decay,
        adam_beta1=defaults.adam_beta1,
        adam_beta2=defaults.adam_beta2,
        adam_epsilon=defaults.adam_epsilon,
        max_grad_norm=defaults.max_grad_norm,
        state_offload=best.setting.state_offload,
    )


def _schedule(
    request: Request, defaults: TrainingDefaults, length: RunLength, epochs: float, save_steps: int
) -> Schedule:
    in_passes = request.amount.in_passes
    return Schedule(
        num_train_epochs=epochs if in_passes else None,
        max_steps=None if in_passes else length.steps,
        lr_scheduler_type=defaults.lr_scheduler_type,
        warmup_steps=defaults.warmup_steps,
        logging_steps=1,
        eval_steps=whole_run.eval_steps(request, length.steps),
        save_steps=save_steps,
        save_total_limit=2,
        seed=SEED,
        report_to=request.report_to,
    )


def _plan(
    request: Request,
    outcome: Outcome,
    best: Candidate,
    optimizer: Optimizer,
    length: RunLength,
    beside: whole_run.Beside,
    alternatives: int,
    disk_gib: float,
) -> Plan:
    hardware = request.hardware
    kind = "extrapolated" if best.spilled else basis.basis_of(request, best.setting)
    survival = expected(request.model, optimizer.learning_rate, best.setting.weights, optimizer.name, optimizer.args)
    predicted = _predicted(request, best, length, beside, survival, kind, disk_gib)
    return Plan(
        hardware=PlannedHardware(
            name=hardware.name,
            vram_gib=hardware.vram_gib,
            safety_margin_gib=round(best.margin, 2),
            gpus=hardware.gpus,
            nodes=hardware.nodes,
            host_ram_gib=hardware.host_ram_gib,
            price_per_hour=request.price_per_hour,
            network_gbs=hardware.network_gbs,
        ),
        predicted=predicted,
        basis=kind,
        why=[
            *words.why(request, outcome, best),
            *exact_alternative.sentences(request, outcome, best),
            *basis.measured_sentence(request, best.setting),
            *words.row_reasons(request),
        ],
        warnings=words.warnings(request, best, predicted, kind, survival),
        alternatives=[_alternative(one) for one in outcome.runners_up(alternatives)],
    )


def _predicted(
    request: Request,
    best: Candidate,
    length: RunLength,
    beside: whole_run.Beside,
    survival: Expected,
    kind: str,
    disk_gib: float,
) -> Predicted:
    rate = best.tokens_per_second
    steps_h = length.steps * best.step_s / 3600
    by_speed = steps_h + beside.evaluation / 3600  # what a faster or slower card changes
    fixed = (beside.start + beside.saving) / 3600
    hours = by_speed + fixed
    price = None if request.price_per_hour is None else request.price_per_hour * request.gpus
    extrapolated = kind == "extrapolated"  # then every figure that follows from the speed has a range
    low, high = basis.spread(request)
    hours_range = [_digits(by_speed / high + fixed), _digits(by_speed / low + fixed)]
    breakdown = {name: round(size, 3) for name, size in sorted(best.memory.components.items())}
    return Predicted(
        peak_vram_gib=round(best.memory.peak, 2),
        vram_breakdown_gib=breakdown,
        host_ram_gib=round(best.memory.host, 1),
        tokens_per_second=rate,
        unpadded_tokens_per_second=round(best.learned, 1),
        tokens_per_second_range=[round(rate * low, 1), round(rate * high, 1)] if extrapolated else None,
        steps=length.steps,
        tokens=length.tokens,
        hours=_digits(hours),
        hours_breakdown={
            "start": _digits(beside.start / 3600),
            "steps": _digits(steps_h),
            "evaluation": _digits(beside.evaluation / 3600),
            "saving": _digits(beside.saving / 3600),
        },
        hours_range=hours_range if extrapolated else None,
        cost_usd=None if price is None else round(hours * price, 2),
        cost_usd_range=None if price is None or not extrapolated else [round(end * price, 2) for end in hours_range],
        update_survival=round(survival.share, 4),
        update_survival_range=survival.range,
        disk_gib=round(disk_gib, 1),
    )


def _digits(hours: float) -> float:
    """Five digits: enough for a long run, and no run of seconds becomes 0."""
    return float(f"{hours:.5g}")


def _alternative(candidate: Candidate) -> Alternative:
    setting = candidate.setting
    return Alternative(
        weights=setting.weights,
        optimizer=setting.optimizer,
        state_offload=setting.state_offload,
        gradient_checkpointing=setting.checkpointing,
        per_device_train_batch_size=setting.micro_batch,
        gradient_accumulation_steps=setting.accumulation,
        strategy=setting.strategy,
        exactness=candidate.exactness,
        peak_vram_gib=round(candidate.memory.peak, 2),
        host_ram_gib=round(candidate.memory.host, 1),
        tokens_per_second=candidate.tokens_per_second,
        unpadded_tokens_per_second=round(candidate.learned, 1),
        gradient_offload=setting.gradient_offload,
        checkpointed_layers=setting.checkpointed_layers,
        weight_offload=setting.weight_offload,
    )
