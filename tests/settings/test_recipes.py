"""The table of recipes: the one place that knows an optimizer, and the same names as the schema."""

from __future__ import annotations

import pytest

from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.estimates.optimizer_memory import optimizer_memory
from unsloth_fft.models import catalogue
from unsloth_fft.settings.recipes import OPTIMIZERS, RECIPES, Keeping, keeping_of, optimizer_of
from unsloth_fft.settings.setting import OFF, Setting


def test_the_schema_and_the_table_name_the_same_optimizers() -> None:
    names = schema.load("parameters")["properties"]["optimizer"]["properties"]["name"]["enum"]
    assert set(names) == set(OPTIMIZERS)


def test_every_optimizer_is_in_a_recipe_and_the_other_way_round() -> None:
    assert {recipe.optimizer for recipe in RECIPES} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", ["adamw", "adamw_flash_2", ""])
def test_an_unknown_optimizer_is_refused_and_never_counted_as_another(name: str) -> None:
    setting = Setting("bfloat16", name, (), False, OFF, 1, 1, 128)
    for asked in (
        lambda: optimizer_of(name, {}),
        lambda: keeping_of("bfloat16", name, {}),
        lambda: optimizer_memory(catalogue.find("meta-llama/Llama-3.1-8B"), setting),
    ):
        with pytest.raises(BadInput, match="not known"):
            asked()


def test_quantized_states_are_not_exact_though_the_correction_stays() -> None:
    assert keeping_of("bfloat16", "adamw_flash", {}) is Keeping.CORRECTED
    assert keeping_of("bfloat16", "adamw_flash", {"quantize": True}).exactness == "any"
    assert keeping_of("float32", "adamw_8bit", {}).exactness == "exact"
    assert keeping_of("bfloat16", "adamw_torch_8bit", {"bf16_stochastic_round": True}).exactness == "stochastic"


def test_the_largest_checkpoint_of_a_stored_type_follows_from_the_table() -> None:
    most = {
        weights: max(recipe.checkpoint_bytes for recipe in RECIPES if recipe.weights == weights)
        for weights in ("float32", "bfloat16")
    }
    assert most == {"float32": 12, "bfloat16": 10}
