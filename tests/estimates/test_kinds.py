"""How far a kind of model is founded decides how much is left free, and a plan says so."""

from __future__ import annotations

import json

import pytest

from unsloth_fft.core.files import BUNDLE_ROOT
from unsloth_fft.estimates import kinds
from unsloth_fft.models import catalogue
from unsloth_fft.planning import kind_words

ROWS = json.loads((BUNDLE_ROOT / "references/measurements/families-h200-2026-12-01.json").read_text())["rows"]
KINDS = {
    "Qwen/Qwen2.5-7B": kinds.OTHER_DENSE,
    "allenai/OLMoE-1B-7B-0924": kinds.EXPERTS,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": kinds.EXPERTS,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": kinds.STATE_SPACE,
    "tiiuae/Falcon-H1-0.5B-Base": kinds.STATE_SPACE,
    "LiquidAI/LFM2-1.2B": kinds.CONVOLUTIONS,
    "Qwen/Qwen3.5-4B": kinds.RECURRENT,
}
OF_ROW = {"OLMoE-6-layers": kinds.EXPERTS, "granite-4.0-h-like": kinds.STATE_SPACE, "LFM2-1.2B": kinds.CONVOLUTIONS}


def said_of(name: str) -> str:
    return " ".join(kind_words.of(catalogue.find(name)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_every_row_stays_within_the_share_that_its_kind_leaves_free(row):
    name = row["model"]
    kind = OF_ROW.get(name) or (kinds.EXPERTS if "a400m" in name else kinds.OTHER_DENSE)
    assert row["peak_res_gb"] <= row["predicted_peak_gb"] * (1 + kind.margin)


@pytest.mark.parametrize("name", KINDS)
def test_the_least_founded_part_decides_the_kind(name):
    assert kinds.kind_of(catalogue.find(name)) == KINDS[name]


def test_a_shape_that_was_fitted_needs_less_room_than_its_like():
    shape = catalogue.find("meta-llama/Llama-3.1-8B")
    assert kinds.kind_of(shape, fitted=True).margin < kinds.kind_of(shape).margin


def test_a_kind_without_a_row_is_called_not_measured():
    assert "not measured" in said_of("Qwen/Qwen3.5-4B") and "15% of the peak is left free" in said_of("Qwen/Qwen3.5-4B")
    assert said_of("meta-llama/Llama-3.1-8B") == ""


def test_tuning_is_said_of_the_gated_delta_rule_alone():
    assert "tunes kernels, once" in said_of("Qwen/Qwen3.5-4B")
    assert "tunes kernels" not in said_of("LiquidAI/LFM2-1.2B") + said_of("nvidia/NVIDIA-Nemotron-Nano-9B-v2")


def test_a_multimodal_model_is_said_to_be_trained_by_its_language_model():
    assert "The language model alone is loaded and trained" in said_of("google/gemma-3-4b-pt")
