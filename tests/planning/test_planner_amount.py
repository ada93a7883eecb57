"""How much a plan trains, on which rows, and how long that takes: what it counts, says and warns about."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plans import MODELS, plan, request
from unsloth_fft.core.errors import BadInput
from unsloth_fft.hardware import cards
from unsloth_fft.planning import duration
from unsloth_fft.planning.data_facts import DataFacts
from unsloth_fft.planning.request import Amount, Pins
from unsloth_fft.planning.search import search


def test_rows_decide_steps_and_tokens() -> None:
    facts = DataFacts(1000, tuple([100] * 500 + [3000] * 500))
    found = plan(request(data=facts, amount=Amount(epochs=2.0), pins=Pins(micro_batch=1)))
    assert found.plan.predicted.steps == 114  # 900 training rows in batches of 16, the last a short one, twice
    assert found.data.tokens_per_row == pytest.approx((100 + 2048) / 2)
    assert found.plan.predicted.tokens == pytest.approx(2 * 900 * (100 + 2048) / 2, rel=1e-3)
    assert any("500 of 1000 rows are longer" in sentence for sentence in found.plan.warnings)


@pytest.mark.parametrize("amount", [Amount(tokens=10**18), Amount(epochs=1e6)], ids=str)
def test_allowed_numbers_that_come_to_more_than_any_run_are_refused_by_what_they_come_to(amount: Amount) -> None:
    with pytest.raises(BadInput, match="the run comes to .* steps") as refused:
        plan(request(data=DataFacts(10**12, (2048,)), amount=amount))
    assert "--rows" not in refused.value.message and "fewer rows" in str(refused.value.hint)


def test_full_rows_take_their_tokens_at_the_planned_speed() -> None:
    found = plan(request(data=DataFacts(160, (2048,) * 160), amount=Amount(max_steps=100))).plan.predicted
    steps_h = found.hours_breakdown["steps"]
    assert steps_h == pytest.approx(found.tokens / found.tokens_per_second / 3600, rel=1e-4)
    assert found.hours == pytest.approx(sum(found.hours_breakdown.values()), rel=1e-4)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2047), st.integers(1, 2047), st.sampled_from(MODELS), st.sampled_from([41.0, 80.0, 140.0]))
def test_short_rows_save_only_what_grows_with_tokens(one: int, other: int, model: str, vram: float) -> None:
    """Shorter rows never take longer, and the fixed parts of a step take as long as ever."""
    machine = cards.on_memory(vram, host_ram_gib=256.0)
    asked = [request(model, machine, data=DataFacts(160, (length,) * 160)) for length in (*sorted((one, other)), 2048)]
    found = [plan(each).plan.predicted for each in asked]
    # Of the steps alone: a plan of other weights, which may win at another length, takes another time to load and save.
    hours = [each.hours_breakdown["steps"] for each in found]
    assert hours == sorted(hours)
    best = search(asked[0]).best
    assert best is not None
    fixed = sum(seconds for part, seconds in best.speed.parts.items() if part in ("optimizer", "network"))
    assert hours[0] * 3600 >= 100 * fixed * (1 - 1e-4)
    naive = found[0].tokens / found[0].tokens_per_second / 3600
    assert hours[0] > naive * 0.85  # attention costs less a token in shorter rows


@pytest.mark.parametrize("facts", [DataFacts(40_000, (20,) * 40_000, "text"), None])
def test_texts_that_do_not_fill_a_row_are_packed(facts: DataFacts | None) -> None:
    """Float32 weights are not packed: on full rows they would be the faster exact plan of this card."""
    machine = cards.on_gpu(cards.find_gpu("H100"), host_ram_gib=256.0)
    asked = {"objective": "pretrain", "data": facts, "amount": Amount(max_steps=100)}
    assert plan(request(machine=machine)).precision.weights == "float32"
    packed = plan(request(machine=machine, **asked))
    assert packed.precision.weights == "bfloat16" and packed.data.packing
    unpacked = plan(request(machine=machine, pins=Pins(weights="float32"), **asked)).plan
    assert any("not packed" in sentence for sentence in unpacked.why)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("Qwen/Qwen3-1.7B", "reach attention as float32"),
        ("google/gemma-2-2b", "joins no rows of gemma2 models"),
        ("google/gemma-4-E2B", "heads of 512"),
        ("Qwen/Qwen3.5-0.8B", "state from token to token"),
    ],
)
def test_rows_are_not_joined_where_that_costs_or_mixes_them_up(model: str, reason: str) -> None:
    """Packed, a plan for Qwen3-1.7B ran out of 139 GiB where 81 were predicted (references/evidence.md)."""
    texts, questions = DataFacts(4_000, (900,) * 4_000, "text"), DataFacts(4_000, (200,) * 4_000)
    found = plan(request(model, objective="pretrain", data=texts, pins=Pins(weights="bfloat16")))
    assert not found.data.packing and not found.data.padding_free
    assert any("not packed" in sentence and reason in sentence for sentence in found.plan.why)
    found = plan(request(model, data=questions, pins=Pins(weights="bfloat16", micro_batch=4)))
    assert not found.data.packing and not found.data.padding_free
    assert any("padded to its longest" in sentence and reason in sentence for sentence in found.plan.why)


def test_packed_plans_count_on_the_speed_of_joined_rows() -> None:
    """Packed training is as fast as padding-free rows of full length, which was measured to be slower, and holds a
    mask of every pair of tokens of a micro-batch."""
    pins = Pins(weights="bfloat16", optimizer="adamw_flash", micro_batch=4, checkpointing="off")
    full = plan(request(pins=pins)).plan.predicted
    packed = plan(request(pins=pins, objective="pretrain")).plan.predicted
    assert packed.tokens_per_second < full.tokens_per_second
    assert packed.peak_vram_gib == pytest.approx(full.peak_vram_gib + (4 * 2048) ** 2 / 2**30, abs=0.01)


def test_one_long_text_is_all_of_its_windows() -> None:
    machine = cards.on_gpu(cards.find_gpu("H100"), host_ram_gib=256.0)
    facts = DataFacts(1, (100_000,), "text")
    asked = {"objective": "pretrain", "data": facts, "amount": Amount(epochs=1.0), "machine": machine}
    for weights in ("float32", "bfloat16"):
        found = plan(request(pins=Pins(weights=weights), **asked))
        assert found.plan.predicted.steps == math.ceil(math.ceil(100_000 / 2048) / 16)
        assert found.data.tokens_per_row == 100_000


def test_very_short_rows_take_many_times_what_their_tokens_alone_would() -> None:
    """State offload moves 64 GB over the host link every step, however few tokens the step reads."""
    machine = cards.on_gpu(cards.find_gpu("L40S"), host_ram_gib=128.0)
    found = plan(request(machine=machine, data=DataFacts(160, (50,) * 160), amount=Amount(epochs=1.0)))
    predicted = found.plan.predicted
    assert found.optimizer.state_offload
    assert predicted.hours > 5 * predicted.tokens / predicted.tokens_per_second / 3600


def test_an_extrapolated_plan_has_ranges_of_time_and_cost_and_says_them() -> None:
    machine = cards.on_gpu(cards.find_gpu("L40S"), host_ram_gib=128.0)
    found = plan(request(machine=machine, price_per_hour=2.0)).plan
    shortest, longest = found.predicted.hours_range
    slow, fast = found.predicted.tokens_per_second_range
    assert shortest < found.predicted.hours < longest
    fixed = found.predicted.hours_breakdown["start"] + found.predicted.hours_breakdown["saving"]
    assert (longest - fixed) / (shortest - fixed) == pytest.approx(fast / slow, rel=1e-3)
    assert found.predicted.cost_usd_range == pytest.approx([2 * shortest, 2 * longest], abs=0.01)
    assert any(f"{found.predicted.cost_usd_range[1]:.2f} USD" in warning for warning in found.warnings)
    free = plan(request(machine=machine)).plan.predicted
    assert free.hours_range == found.predicted.hours_range and free.cost_usd_range is None
    known = plan(request()).plan.predicted
    assert known.hours_range is None and known.cost_usd_range is None


def test_a_run_that_mostly_saves_says_which_disk_was_assumed() -> None:
    short = plan(request("meta-llama/Llama-3.1-8B", amount=Amount(max_steps=20))).plan
    assert short.predicted.hours_breakdown["saving"] > 0.25 * short.predicted.hours
    assert any("Saving is" in warning and "0.6 GB/s" in warning for warning in short.warnings)
    long = plan(request("meta-llama/Llama-3.1-8B", amount=Amount(max_steps=5000))).plan
    assert not any("Saving is" in warning for warning in long.warnings)


def test_a_range_whose_ends_read_the_same_is_one_figure() -> None:
    assert (duration.span("27 min", "27 min"), duration.span("1 h", "2 h")) == ("27 min", "1 h to 2 h")


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (30.1234, "30.12 hours"),
        (1.0, "1.00 hours"),
        (0.5, "30.0 minutes"),
        (0.01, "36 seconds"),
        (1e-4, "0.36 seconds"),
    ],
)
def test_hours_are_told_in_a_unit_that_shows_them(hours: float, words: str) -> None:
    assert duration.in_words(hours) == words


@pytest.mark.parametrize("rows", [2, 7, 12, 50, 1000])
def test_the_rows_held_out_are_counted_as_training_holds_them_out(rows: int) -> None:
    from unsloth_fft.data.splitting import held_out_rows

    found = plan(request(data=DataFacts(rows, (100,) * rows), amount=Amount(epochs=1.0), effective_batch=1))
    assert found.plan.predicted.steps == rows - len(held_out_rows(rows, found.data.eval_fraction, found.data.seed))


@pytest.mark.parametrize(
    ("rows", "model", "few"),
    [(900, MODELS[2], True), (1000, MODELS[2], False), (900, MODELS[0], False), (900, MODELS[1], True)],
)
def test_few_rows_for_a_large_model_are_warned_about_with_the_source(rows: int, model: str, few: bool) -> None:
    found = plan(request(model, data=DataFacts(rows, (100,) * rows, "messages"), amount=Amount(epochs=1.0))).plan
    warned = [warning for warning in found.warnings if "LoRA" in warning]
    assert bool(warned) == few
    assert all("fft-for-knowledge" in warning and "judgement" in warning for warning in warned)


def test_a_text_of_few_rows_is_not_called_small() -> None:
    facts = DataFacts(3, (10**6,) * 3, "text")
    found = plan(request(data=facts, objective="pretrain", amount=Amount(epochs=1.0))).plan
    assert not any("LoRA" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("model", "objective", "rate", "high"),
    [("meta-llama/Llama-3.1-8B", "sft", 2e-4, True), ("meta-llama/Llama-3.1-8B", "sft", 4e-5, False),
     ("meta-llama/Llama-3.1-8B", "sft", None, False), ("meta-llama/Llama-3.1-8B", "pretrain", 1e-4, False),
     ("Qwen/Qwen2.5-0.5B", "sft", 2e-4, True), ("Qwen/Qwen2.5-0.5B", "pretrain", 2e-4, False)],
)  # fmt: skip
def test_a_rate_of_lora_is_warned_about_with_the_source(
    model: str, objective: str, rate: float | None, high: bool
) -> None:
    warnings = plan(request(model, objective=objective, learning_rate=rate)).plan.warnings
    assert any(f"{rate:g} is" in text and "hyperparameters.md" in text for text in warnings if rate) == high


@pytest.mark.parametrize(("form", "objective", "warned"), [("text", "sft", True), ("text", "pretrain", False),
                                                           ("messages", "sft", False)])  # fmt: skip
def test_raw_text_that_is_trained_on_as_instructions_is_warned_about(form: str, objective: str, warned: bool) -> None:
    asked = request(data=DataFacts(2000, (100,) * 2000, form), objective=objective, amount=Amount(epochs=1.0))
    assert any("--objective pretrain" in text for text in plan(asked).plan.warnings) == warned
    unread = request(unread=f"/elsewhere/rows.{'txt' if form == 'text' else 'jsonl'}", objective=objective)
    assert any("--objective pretrain" in text for text in plan(unread).plan.warnings) == warned


@pytest.mark.parametrize(
    ("amount", "objective", "many"),
    [(Amount(epochs=10.0), "sft", False), (Amount(epochs=12.0), "sft", True), (Amount(max_steps=3000), "sft", True),
     (Amount(max_steps=500), "sft", False), (Amount(tokens=10**8), "pretrain", True),
     (Amount(tokens=10**6), "pretrain", False)],
)  # fmt: skip
def test_many_passes_over_the_data_are_warned_about(amount: Amount, objective: str, many: bool) -> None:
    """2,000 rows of 200 tokens: 113 steps a pass, or 11 of packed text."""
    facts = DataFacts(2000, (200,) * 2000)
    found = plan(request(MODELS[0], data=facts, objective=objective, amount=amount)).plan
    assert any("times" in warning and "judgement" in warning for warning in found.warnings) == many


def test_padding_grows_with_the_micro_batch() -> None:
    facts = DataFacts(4, (10, 20, 30, 40))
    assert facts.padded_length(100, 1) == facts.mean_length(100) == 25
    assert 25 < facts.padded_length(100, 2) < facts.padded_length(100, 8) < 40


def test_tokens_and_cost_are_carried_through() -> None:
    found = plan(request(amount=Amount(tokens=10**9), price_per_hour=4.0))
    predicted = found.plan.predicted
    assert predicted.steps == found.schedule.max_steps == 30518
    steps_h = predicted.hours_breakdown["steps"]
    assert steps_h == pytest.approx(predicted.tokens / predicted.tokens_per_second / 3600, rel=1e-3)
    assert predicted.cost_usd == pytest.approx(predicted.hours * 4.0, rel=1e-2)
