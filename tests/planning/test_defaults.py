"""Training defaults follow cited recipes, fall with size, and are accepted by the library that will read them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsloth_fft.core.errors import BadInput
from unsloth_fft.planning.defaults import OBJECTIVES, defaults_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "references" / "hyperparameters.md").read_text(encoding="utf-8")
SIZES = st.integers(min_value=1, max_value=10**13)
ONE_OF_EACH_SIZE = [10**8, 1_500_000_000, 3 * 10**9, 8 * 10**9, 14 * 10**9, 32 * 10**9, 70 * 10**9, 10**12]
LORA_RATE = 2e-4


@given(st.sampled_from(OBJECTIVES), SIZES, SIZES)
def test_a_larger_model_never_gets_a_higher_rate(objective, one, other):
    smaller, larger = sorted((one, other))
    assert defaults_for(objective, larger).learning_rate <= defaults_for(objective, smaller).learning_rate


@given(st.sampled_from(OBJECTIVES), SIZES)
def test_only_the_rate_and_its_sources_depend_on_size(objective, parameters):
    rateless = {"learning_rate": 0.0, "source_ids": ()}
    here = defaults_for(objective, parameters)._replace(**rateless)
    assert here == defaults_for(objective, 1)._replace(**rateless)


@given(st.sampled_from(OBJECTIVES), SIZES)
def test_values_are_ones_an_optimizer_can_use_and_rates_stay_clear_of_lora(objective, parameters):
    chosen = defaults_for(objective, parameters)
    assert 1e-7 < chosen.learning_rate < LORA_RATE
    assert 0 <= chosen.warmup_steps < 1 and chosen.weight_decay >= 0 and chosen.max_grad_norm > 0
    assert 0 < chosen.adam_beta1 < chosen.adam_beta2 < 1 and 0 < chosen.adam_epsilon < 1e-5
    assert chosen.num_train_epochs > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("parameters", ONE_OF_EACH_SIZE)
def test_every_source_id_has_a_row_with_a_quote_and_a_file_on_the_reference_page(objective, parameters):
    sources = defaults_for(objective, parameters).source_ids
    assert sources
    for source in sources:
        row = re.search(rf"^\| {re.escape(source)} \|.*$", PAGE, re.MULTILINE)
        if row:
            assert len(re.findall(r"`[^`]+`", row[0])) >= 2, source
        else:
            assert f"(id `{source}`)" in PAGE, source


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("parameters", ONE_OF_EACH_SIZE)
def test_the_rate_lies_within_those_its_sources_used_or_below(objective, parameters):
    chosen = defaults_for(objective, parameters)
    quoted = [
        float(rate)
        for source in chosen.source_ids
        for row in re.findall(rf"^\| {re.escape(source)} \|.*$", PAGE, re.MULTILINE)
        for rate in re.findall(r"`(?:--learning_rate |learning_rate: |lr: )([0-9.e-]+)`", row)
    ]
    assert quoted
    assert chosen.learning_rate <= max(quoted)
    if objective == "sft":
        assert chosen.learning_rate >= min(quoted)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_page_states_every_rate_that_is_used(objective):
    rates = {f"{defaults_for(objective, size).learning_rate:.0e}".replace("e-0", "e-") for size in ONE_OF_EACH_SIZE}
    stated = set(re.findall(rf"^\| {objective} \| [^|]+ \| ([0-9]e-[0-9]) \|", PAGE, re.MULTILINE))
    assert rates == stated


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_schedule_is_one_the_parameters_file_allows(objective):
    schedule = json.loads((ROOT / "schemas" / "parameters.schema.json").read_text())["properties"]["schedule"]
    allowed = schedule["properties"]["lr_scheduler_type"]["enum"]
    assert defaults_for(objective, 10**9).lr_scheduler_type in allowed


@pytest.mark.parametrize(("objective", "parameters"), [("dpo", 10**9), ("", 10**9), ("sft", 0), ("pretrain", -1)])
def test_what_cannot_be_trained_is_refused_in_words(objective, parameters):
    with pytest.raises(BadInput) as error:
        defaults_for(objective, parameters)
    assert error.value.message and error.value.hint
