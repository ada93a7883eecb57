"""The search: what it may never do, and what it must find."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plans import CPU, MODELS, plan, request
from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput, NothingFits
from unsloth_fft.estimates import disk
from unsloth_fft.hardware import cards
from unsloth_fft.models import catalogue
from unsloth_fft.planning import words
from unsloth_fft.planning.request import Amount, Pins, Request
from unsloth_fft.planning.search import search
from unsloth_fft.settings import parameters, recipes

pins = st.builds(
    Pins,
    weights=st.sampled_from([None, None, "float32", "bfloat16"]),
    optimizer=st.sampled_from([None, None, *sorted({recipe.optimizer for recipe in recipes.RECIPES})]),
    state_offload=st.sampled_from([None, None, True, False]),
    checkpointing=st.sampled_from([None, None, "unsloth", "true", "off"]),
    checkpointed_layers=st.sampled_from([None, None, None, 1, 20]),
    compute=st.sampled_from([None, None, None, "bfloat16", "float8"]),
    micro_batch=st.sampled_from([None, None, 1, 2, 3, 8]),
    accumulation=st.sampled_from([None, None, 1, 4, 16]),
)
machines = st.builds(
    cards.on_memory,
    st.floats(4, 200).map(lambda value: round(value, 1)),
    gpus=st.sampled_from([1, 1, 2, 8]),
    nodes=st.sampled_from([1, 1, 2]),
    host_ram_gib=st.sampled_from([None, 32.0, 128.0, 1024.0]),
)
requests = st.builds(
    request,
    model=st.sampled_from(MODELS),
    machine=machines,
    seq_length=st.sampled_from([512, 2048, 8192]),
    effective_batch=st.sampled_from([1, 6, 16, 64]),
    exactness=st.sampled_from(["exact", "stochastic", "any"]),
    pins=pins,
)


@settings(max_examples=60, deadline=None)
@given(requests)
def test_a_plan_stays_in_its_budget_keeps_its_promise_and_honours_every_pin(asked: Request) -> None:
    try:
        found = plan(asked)
    except (BadInput, NothingFits) as refusal:
        assert refusal.message and refusal.hint
        return
    predicted, pinned = found.plan.predicted, asked.pins
    assert predicted.peak_vram_gib + found.plan.hardware.safety_margin_gib <= asked.hardware.vram_gib + 0.02
    assert asked.hardware.host_ram_gib is None or predicted.host_ram_gib <= asked.hardware.host_ram_gib
    assert sum(predicted.vram_breakdown_gib.values()) == pytest.approx(predicted.peak_vram_gib, abs=0.02)
    assert recipes.RANK[found.precision.exactness] >= recipes.RANK[asked.exactness]
    chosen = {
        "weights": found.precision.weights,
        "optimizer": found.optimizer.name,
        "state_offload": found.optimizer.state_offload,
        "gradient_offload": found.memory.gradient_offload,
        "weight_offload": found.memory.weight_offload,
        "checkpointing": found.memory.gradient_checkpointing,
        "checkpointed_layers": found.memory.checkpointed_layers,
        "compute": found.precision.compute,
        "micro_batch": found.batch.per_device_train_batch_size,
        "accumulation": found.batch.gradient_accumulation_steps,
    }
    assert all(value in (None, chosen[name]) for name, value in dataclasses.asdict(pinned).items())
    assert parameters.from_json(json.loads(json.dumps(found.to_json())), "the plan") == found


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.floats(6, 140),
    st.floats(0.1, 60),
    st.sampled_from(["exact", "any"]),
    st.sampled_from([None, 48.0, 256.0]),
)
def test_more_memory_is_never_slower(model: str, vram: float, more: float, exactness: str, host: float | None) -> None:
    small = search(request(model, cards.on_memory(vram, host_ram_gib=host), exactness=exactness)).best
    large = search(request(model, cards.on_memory(vram + more, host_ram_gib=host), exactness=exactness)).best
    if small is not None:
        assert large is not None
        assert large.speed.tokens_per_second >= small.speed.tokens_per_second * (1 - 1e-9)


@settings(max_examples=15, deadline=None)
@given(st.floats(20, 60), st.floats(16, 400), st.floats(1, 600))
def test_more_host_memory_is_never_slower(vram: float, host: float, more: float) -> None:
    small = search(request(machine=cards.on_memory(vram, host_ram_gib=host))).best
    large = search(request(machine=cards.on_memory(vram, host_ram_gib=host + more))).best
    assert small is None or (large is not None and large.speed.tokens_per_second >= small.speed.tokens_per_second)


def test_8b_on_40_gib_offloads_the_optimizer_state_and_fits() -> None:
    found = plan(request(machine=cards.on_memory(40.0, host_ram_gib=128.0)))
    assert found.optimizer.state_offload
    assert found.precision.exactness == "exact"
    assert found.plan.predicted.peak_vram_gib + found.plan.hardware.safety_margin_gib <= 40.0
    # 8 bytes of state for each of 8.03 billion weights, pinned.
    assert 60 <= found.plan.predicted.host_ram_gib <= 128


def test_8b_on_40_gib_without_host_memory_for_the_state_fits_nothing() -> None:
    with pytest.raises(NothingFits, match="host memory"):
        plan(request(machine=cards.on_memory(40.0, host_ram_gib=48.0)))


def test_8b_on_an_h200_keeps_activations_and_an_exact_optimizer() -> None:
    found = plan(request())
    assert found.memory.gradient_checkpointing == "off"
    assert (found.precision.weights, found.optimizer.name) == ("bfloat16", "adamw_flash")
    assert found.precision.exactness == "exact"
    assert not found.optimizer.state_offload
    # The fastest exact row by hand: 11,493 tokens/s at 2 x 8.
    assert found.plan.predicted.tokens_per_second >= 0.95 * 11_493


@pytest.mark.parametrize(
    ("optimizer", "checkpointing", "offload"),
    [("adamw_flash", "unsloth", True), ("adamw_8bit", "unsloth", False), ("paged_adamw_8bit", "unsloth", False),
     ("adamw_torch_fused", "unsloth", True)],
)  # fmt: skip
def test_8b_on_80_gib_is_at_least_as_good_as_any_table_made_by_hand(
    optimizer: str, checkpointing: str, offload: bool
) -> None:
    machine = cards.on_gpu(cards.find_gpu("H100 SXM 80GB"), host_ram_gib=256.0)
    best = plan(request(machine=machine))
    by_hand = Pins(optimizer=optimizer, checkpointing=checkpointing, state_offload=offload)
    try:
        other = plan(request(machine=machine, pins=by_hand))
    except (NothingFits, BadInput):
        return
    assert best.plan.predicted.tokens_per_second >= other.plan.predicted.tokens_per_second


def test_a_measured_setting_is_called_measured_and_quotes_its_row() -> None:
    found = plan(request(pins=Pins(micro_batch=4, checkpointing="off", optimizer="adamw_flash")))
    assert found.plan.basis == "measured"
    quoted = next(sentence for sentence in found.plan.why if "126.2 GiB and 12,121 tokens/s" in sentence)
    assert quoted.startswith("The figures are those of the memory and speed model; this very setting was measured at ")
    assert quoted.endswith("(row h200-2026-11-25-04).")
    assert f"{found.plan.predicted.tokens_per_second:,.0f}" not in quoted, "what is planned with is not the row's"


def test_the_fitted_card_and_model_are_calibrated_and_anything_else_is_extrapolated_with_a_range() -> None:
    assert plan(request()).plan.basis == "measured"
    assert plan(request(pins=Pins(micro_batch=2))).plan.basis == "calibrated"
    for other in (
        request(machine=cards.on_gpu(cards.find_gpu("RTX 6000 Ada"), host_ram_gib=256.0)),
        request("Qwen/Qwen3-8B"),
        request(machine=cards.on_memory(139.8)),
        request(seq_length=256),
    ):
        found = plan(other).plan
        assert found.basis == "extrapolated"
        low, high = found.predicted.tokens_per_second_range
        assert low < found.predicted.tokens_per_second < high


@pytest.mark.parametrize(("steps", "least", "most"), [(20, 1, 1), (2000, 2, 9), (100_000, 10, 10)])
def test_a_run_saves_ten_times_unless_that_takes_over_a_tenth_of_it(steps: int, least: int, most: int) -> None:
    found = plan(request(amount=Amount(max_steps=steps)))
    seconds_a_save = disk.CHECKPOINT_BYTES["bfloat16"] * found.model.parameters / disk.WRITTEN_A_SECOND
    saves = math.ceil(steps / found.schedule.save_steps)
    assert least <= saves <= most
    assert saves == 1 or saves * seconds_a_save <= 0.11 * found.plan.predicted.hours * 3600


def test_the_template_named_for_a_base_model_is_one_of_unsloths() -> None:
    known = schema.load("parameters")["properties"]["data"]["properties"]["chat_template"]["enum"]
    assert {template for _, template in words.TEMPLATES} | {"chatml"} <= set(known)
    assert words.template_for("meta-llama/Llama-3.1-8B") == "llama-3.1"
    assert words.template_for("acme/press-llm-3b") == "chatml"


def test_gradients_stay_on_a_card_without_bfloat16() -> None:
    """float16 scales the loss; the scaler unscales the gradients it finds on the GPU, and fails where it finds none."""
    machine = cards.on_gpu(cards.find_gpu("T4"), host_ram_gib=256.0)
    for model in ("meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-0.5B"):
        asked = request(model, machine)
        assert not any(one.setting.gradient_offload for one in search(asked).candidates)
    with pytest.raises(BadInput, match="without bfloat16"):
        plan(request("Qwen/Qwen2.5-0.5B", machine, pins=Pins(gradient_offload=True)))


def test_paged_state_that_spills_is_counted_as_slow_and_said() -> None:
    machine = cards.on_gpu(cards.find_gpu("H100"), host_ram_gib=256.0)
    paged = Pins(optimizer="paged_adamw_8bit", weights="float32")
    assert plan(request(machine=machine)).optimizer.name != "paged_adamw_8bit"
    spilling, roomy = plan(request(machine=machine, pins=paged)).plan, plan(request(pins=paged)).plan
    assert spilling.basis == "extrapolated" != roomy.basis
    assert any("find no room on the GPU" in warning for warning in spilling.warnings)
    assert not any("find no room on the GPU" in warning for warning in roomy.warnings)
    assert spilling.predicted.tokens_per_second < 0.8 * roomy.predicted.tokens_per_second


def test_plain_bf16_is_warned_about_with_the_share_that_survives_and_the_flag_that_mends_it() -> None:
    machine = cards.on_memory(60.0, host_ram_gib=64.0)
    found = plan(request(machine=machine, exactness="any", learning_rate=1e-5, pins=Pins(optimizer="adamw_8bit")))
    assert found.precision.exactness == "any"
    assert found.plan.predicted.update_survival == pytest.approx(0.103, abs=0.002), "the middle of the models known"
    assert found.plan.predicted.update_survival_range == pytest.approx([0.02, 0.155], abs=0.001)
    warning = next(sentence for sentence in found.plan.warnings if "survive" in sentence)
    assert "2.0% to 15.5% of the weights, over the models known (its own were not seen)" in warning
    assert "--exactness exact" in warning


@pytest.mark.parametrize("pinned", [Pins(), Pins(optimizer="adamw_8bit", weights="bfloat16")])
def test_less_exactness_is_compared_with_the_best_exact_plan_on_the_same_card(pinned: Pins) -> None:
    machine = cards.on_gpu(cards.find_gpu("L40S"), host_ram_gib=256.0)
    exact = plan(request(machine=machine)).plan.predicted
    found = plan(request(machine=machine, exactness="any", pins=pinned)).plan
    sentence = next(sentence for sentence in found.why if "best exact plan" in sentence)
    assert f"{exact.tokens_per_second:,.0f} tokens/s instead of {found.predicted.tokens_per_second:,.0f}" in sentence
    assert f"{exact.peak_vram_gib:.2f} GiB instead of {found.predicted.peak_vram_gib:.2f}" in sentence


def test_where_no_exact_plan_fits_or_exact_is_the_fastest_that_is_said() -> None:
    small = cards.on_memory(34.0, host_ram_gib=64.0)
    found = plan(request(machine=small, exactness="any", effective_batch=1)).plan
    assert "No exact plan fits here." in found.why
    cpu = plan(request(MODELS[0], CPU, effective_batch=4, seq_length=512, exactness="any")).plan
    assert any("the plan is exact" in sentence for sentence in cpu.why)
    assert not any("exact plan" in sentence for sentence in plan(request()).plan.why)


def test_less_exactness_is_never_slower() -> None:
    machine = cards.on_memory(80.0, host_ram_gib=256.0)
    speeds = [
        plan(request(machine=machine, exactness=name)).plan.predicted.tokens_per_second
        for name in ("exact", "stochastic", "any")
    ]
    assert speeds == sorted(speeds)


def test_a_cpu_gets_what_unsloth_runs_there() -> None:
    found = plan(request(MODELS[0], CPU, effective_batch=4, seq_length=512))
    assert found.precision == parameters.Precision("exact", "float32", "float32", "float32")
    assert found.optimizer.name == "adamw_torch_fused"
    assert found.plan.hardware.name == "cpu"
    assert found.plan.basis == "extrapolated"
    assert any("slow" in sentence for sentence in found.plan.warnings)


def test_a_card_without_bf16_keeps_float32_weights_and_computes_in_float16() -> None:
    found = plan(request(MODELS[0], cards.on_gpu(cards.find_gpu("T4"))))
    assert (found.precision.weights, found.precision.compute) == ("float32", "float16")


def test_adamw_flash_is_refused_where_it_cannot_run() -> None:
    for machine in (CPU, cards.on_gpu(cards.find_gpu("MI300X")), cards.on_gpu(cards.find_gpu("T4"))):
        with pytest.raises(BadInput) as refusal:
            plan(request(MODELS[0], machine, pins=Pins(optimizer="adamw_flash")))
        assert "adamw_flash" in refusal.value.message


@pytest.mark.parametrize(
    ("pinned", "words"),
    [
        (Pins(weights="bfloat16", optimizer="adamw_8bit"), "'any'"),
        (Pins(weights="float32", optimizer="adamw_flash"), "cannot be planned"),
        (Pins(state_offload=True, optimizer="paged_adamw_8bit"), "does not offload"),
        (Pins(micro_batch=3), "cannot make --effective-batch 16"),
        (Pins(micro_batch=4, accumulation=8), "cannot make --effective-batch 16"),
    ],
)
def test_a_pin_that_cannot_be_met_is_refused_with_the_reason(pinned: Pins, words: str) -> None:
    with pytest.raises(BadInput) as refusal:
        plan(request(pins=pinned))
    assert words in refusal.value.message
    assert refusal.value.hint


def test_an_effective_batch_is_never_changed_silently() -> None:
    machine = cards.on_gpu(cards.find_gpu("H100 SXM 80GB"), gpus=3)
    with pytest.raises(BadInput) as refusal:
        plan(request(machine=machine))
    assert "--effective-batch 15 or 18" in refusal.value.hint


def test_nothing_fits_names_the_nearest_plan_the_missing_gib_and_changes_that_do_fit() -> None:
    machine = cards.on_memory(24.0, host_ram_gib=64.0)
    with pytest.raises(NothingFits) as refusal:
        plan(request(machine=machine))
    assert "nearest plan" in refusal.value.message
    assert "GiB more than the 24.0 GiB there are" in refusal.value.message
    assert refusal.value.exit_code == 3
    for kind in ("--gpu", "--model"):
        assert kind in refusal.value.hint


def test_every_suggested_model_and_card_was_tried() -> None:
    from unsloth_fft.planning.advice import nothing_fits

    asked = request(machine=cards.on_memory(16.0, host_ram_gib=256.0))
    hint = nothing_fits(asked, search(asked)).hint
    suggestions = [part.strip() for part in hint.removeprefix("any one of these fits: ").split(";")]
    model = next(part.split()[1] for part in suggestions if part.startswith("--model"))
    card = next(part.split('"')[1] for part in suggestions if part.startswith("--gpu "))
    assert search(request(model, asked.hardware)).best is not None
    larger = cards.on_gpu(cards.find_gpu(card), host_ram_gib=256.0)
    assert search(request(machine=larger)).best is not None


def test_several_gpus_shard_with_fsdp2() -> None:
    machine = cards.on_gpu(cards.find_gpu("A100 80GB SXM"), gpus=4, nodes=2, host_ram_gib=1024.0)
    found = plan(request(machine=machine, effective_batch=64))
    assert found.distributed == parameters.Distributed(4, 2, "fsdp2")
    assert found.batch.per_device_train_batch_size * found.batch.gradient_accumulation_steps * 8 == 64
    assert any("network" in sentence for sentence in found.plan.warnings)


def test_alternatives_are_slower_other_kinds_that_fit() -> None:
    found = plan(request())
    speeds = [one.tokens_per_second for one in found.plan.alternatives]
    assert len(speeds) == 3
    assert speeds == sorted(speeds, reverse=True)
    assert all(speed <= found.plan.predicted.tokens_per_second for speed in speeds)
    others = found.plan.alternatives
    assert len({(one.weights, one.optimizer, one.state_offload, one.gradient_checkpointing) for one in others}) == 3


@pytest.mark.parametrize("name", catalogue.names())
def test_every_model_of_the_catalogue_can_be_planned_or_is_refused_clearly(name: str) -> None:
    machine = cards.on_gpu(cards.find_gpu("H200"), gpus=8, host_ram_gib=2048.0)
    asked = request(name, machine, seq_length=min(2048, catalogue.find(name).max_positions), effective_batch=8)
    best = search(asked).best
    if best is not None:
        assert schema.problems(plan(asked).to_json(), "parameters") == []


def test_where_launching_kernels_decides_the_speed_that_is_said() -> None:
    """The same short step was measured at 12,387 and 16,000 tokens/s on one host."""
    short = Pins(micro_batch=1, checkpointing="unsloth")
    for model, pins, said in (("Qwen/Qwen2.5-0.5B", short, True), ("meta-llama/Llama-3.1-8B", Pins(), False)):
        found = plan(request(model, pins=pins)).plan.warnings
        assert any("host's processor decides" in sentence for sentence in found) is said
    assert not any("host's processor" in sentence for sentence in plan(request(MODELS[0], CPU)).plan.warnings)
