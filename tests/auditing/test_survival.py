"""Predicted survival of updates: the rounding rule against bfloat16 itself, and the command that shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import bf16, f32, small_weights, write_folder
from conftest import SCRIPTS, TOOL, assert_clear_error, run_script
from unsloth_fft.auditing.predict import count_weights, predict
from unsloth_fft.estimates import survival


def plain(learning_rate: float, std: float = 0.02) -> float:
    return survival.typical_survival(learning_rate, "bfloat16", "adamw_8bit", {}, std)


@pytest.mark.parametrize(
    ("learning_rate", "percent"),
    [(1e-6, 2), (5e-6, 8), (1e-5, 15.5), (2e-5, 30), (5e-5, 57), (1e-4, 88), (2e-4, 99.8)],
)
def test_plain_bfloat16_keeps_what_was_worked_out_for_std_002(learning_rate: float, percent: float) -> None:
    assert 100 * plain(learning_rate) == pytest.approx(percent, abs=0.5)


@pytest.mark.parametrize(
    ("weights", "optimizer", "options"),
    [
        ("float32", "adamw_8bit", {}),
        ("bfloat16", "adamw_flash", {}),
        ("bfloat16", "adamw_torch_8bit", {"bf16_stochastic_round": True}),
    ],
)
def test_settings_that_keep_updates_keep_all_of_them(weights: str, optimizer: str, options: dict[str, bool]) -> None:
    for rate in (1e-6, 1e-5, 1e-4):
        assert survival.typical_survival(rate, weights, optimizer, options) == pytest.approx(1.0, abs=1e-6)


def test_even_float32_loses_steps_below_its_own_spacing() -> None:
    assert survival.typical_survival(1e-9, "float32", "adamw_8bit", {}) < 0.95


def test_stochastic_rounding_says_that_it_is_noisy() -> None:
    update = survival.update_of("bfloat16", "adamw_torch_8bit", {"bf16_stochastic_round": True})
    assert update.unbiased and "noise" in update.explanation
    assert "inexact" in survival.update_of("bfloat16", "adamw_flash", {"quantize": True}).explanation


@given(st.floats(1e-7, 1e-3), st.floats(1e-3, 0.3))
@settings(deadline=None, max_examples=100)
def test_more_learning_rate_never_moves_less_and_larger_weights_never_more(rate: float, std: float) -> None:
    share = plain(rate, std)
    assert 0 <= share <= 1
    assert plain(2 * rate, std) >= share
    assert plain(rate, 2 * std) <= share
    assert plain(2 * rate, 2 * std) == pytest.approx(share, abs=1e-9), "only their ratio matters"


@given(st.floats(0.01, 0.999), st.floats(1e-3, 0.3))
@settings(deadline=None, max_examples=50)
def test_the_smallest_learning_rate_is_the_smallest(share: float, std: float) -> None:
    rate = survival.smallest_lr_for(share, "bfloat16", "adamw_8bit", {}, std)
    assert plain(rate, std) >= share
    assert plain(rate / 1.02, std) < share


@pytest.mark.parametrize("rate", [1e-6, 3e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4])
def test_the_rule_is_what_rounding_to_bfloat16_does(tmp_path: Path, rate: float) -> None:
    random = np.random.default_rng(0)
    weights = np.concatenate([random.normal(0, 0.02, 200_000), random.normal(0, 1, 1000), np.zeros(100), np.ones(100)])
    _, before = bf16(weights)
    held = (before.astype(np.uint32) << 16).view(np.float32)
    _, after = bf16(held + np.float32(rate) * random.choice(np.array([-1, 1], np.float32), held.size))
    folder = write_folder(tmp_path / "m", {"w": ("BF16", before)})
    predicted = predict(str(folder), rate, "bfloat16").to_json()
    assert predicted["source"] == "checkpoint"
    assert predicted["survival"] == pytest.approx(float((before != after).mean()), abs=0.001)


def test_a_float32_checkpoint_is_rounded_as_training_in_bfloat16_would(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 50_000).astype(np.float32)
    wide = write_folder(tmp_path / "wide", {"w": f32(values)})
    narrow = write_folder(tmp_path / "narrow", {"w": bf16(values)})
    assert count_weights(wide, "bfloat16").groups == count_weights(narrow, "bfloat16").groups


def test_groups_are_predicted_apart_and_a_tied_head_counts_once(tmp_path: Path) -> None:
    weights = small_weights()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    folder = write_folder(tmp_path / "m", {name: bf16(values) for name, values in weights.items()})
    value = predict(str(folder), 1e-5, "bfloat16").to_json()
    assert value["elements"] == 600 * 64 + 64 * 64 + 256 * 64 + 64
    assert value["note"] is None
    assert value["groups"]["norms"]["survival"] == 0, "a norm of 1 needs steps of 2**-9"
    assert value["groups"]["mlp"]["survival"] == pytest.approx(0.155, abs=0.01)


def test_the_command_predicts_from_the_catalogue_and_says_so() -> None:
    finished = run_script(
        TOOL, "predict", "--model", "Qwen/Qwen2.5-0.5B", "--learning-rate", "1e-5", "--precision", "bfloat16", "--json"
    )
    assert finished.returncode == 0, finished.stderr
    value = json.loads(finished.stdout)
    assert (value["source"], value["elements"]) == ("known_models", None)
    assert "were not seen" in value["note"]
    assert value["survival_range"] == pytest.approx([0.02, 0.155], abs=0.001)
    assert value["survival"] == pytest.approx(0.103, abs=0.001), "the middle one"
    assert value["known_models"]["SmolLM2-135M-Instruct"] == pytest.approx(0.02, abs=0.001)
    assert value["smallest_learning_rate"] > 1e-3, "where the largest of the known weights move, too"
    assert (value["survival_of"], value["smallest_learning_rate_of"]) == ("middle_known_model", "SmolLM2-135M-Instruct")
    assert set(value["left_out"]) == {"curve"}, "the range is whole"
    shares = [point["survival"] for point in value["curve"]]
    assert shares == sorted(shares)
    assert value["remedy"].startswith("plan again with --precision float32")


def test_a_config_without_weights_says_no_more_than_a_name(tmp_path: Path) -> None:
    """The scale that weights are drawn with is not theirs once trained: SmolLM2's config says 0.04, they have 0.18."""
    (tmp_path / "config.json").write_text('{"initializer_range": 0.04}')
    arguments = ("--learning-rate", "1e-5", "--precision", "bfloat16", "--json")
    value = json.loads(run_script(TOOL, "predict", "--model", tmp_path, *arguments).stdout)
    assert (value["source"], value["survival_range"]) == ("known_models", pytest.approx([0.02, 0.155], abs=0.001))


def test_the_command_writes_its_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "curve.png"
    finished = run_script(
        TOOL, "predict", "--model", "Qwen/Qwen2.5-0.5B", "--learning-rate", "1e-5", "--precision", "bfloat16",
        "--plot", plot,
    )  # fmt: skip
    assert "15.50%" in finished.stdout and "were not seen" in finished.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "no/such-model", "--learning-rate", "1e-5"], "no/such-model"),
        (["--model", "Qwen/Qwen2.5-0.5B", "--learning-rate", "0"], "--learning-rate"),
        (["--model", "Qwen/Qwen2.5-0.5B", "--learning-rate", "nan"], "--learning-rate"),
        (["--model", "Qwen/Qwen2.5-0.5B", "--learning-rate", "1e-5", "--stochastic-rounding"], "adamw_torch_8bit"),
    ],
)
def test_wrong_input_is_explained(arguments: list[str], words: str) -> None:
    assert_clear_error(run_script(TOOL, "predict", *arguments, "--precision", "bfloat16"), 2, words)


def test_the_planner_side_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules);"
        "from unsloth_fft.estimates import survival; survival.typical_survival(1e-5, 'bfloat16', 'adamw_8bit', {});"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'numpy', 'jsonschema')])"
    )
    finished = subprocess.run([sys.executable, "-c", script, SCRIPTS], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_train_warns_before_it_starts_when_updates_would_be_lost_and_names_the_flag(capsys):
    from conftest import minimal_parameters
    from unsloth_fft.settings import parameters as params
    from unsloth_fft.training.run import warn_of_lost_updates

    plain = {"exactness": "any", "weights": "bfloat16", "master": "none", "compute": "float32"}
    optimizer = {"name": "adamw_torch_fused", "learning_rate": 1e-5}
    given = minimal_parameters("model", "rows.jsonl", precision=plain, optimizer=optimizer)
    warn_of_lost_updates(params.from_json(given, "the test"))
    warned = " ".join(capsys.readouterr().err.split())
    assert "2.0% to 15.5% of the weights" in warned and "--precision float32" in warned
    warn_of_lost_updates(params.from_json(minimal_parameters("model", "rows.jsonl"), "the test"))
    assert capsys.readouterr().err == ""


def test_train_warns_before_it_starts_when_joined_rows_would_cost_more_than_they_save(capsys):
    from conftest import minimal_parameters
    from unsloth_fft.settings import parameters as params
    from unsloth_fft.training.run import warn_of_joined_rows

    half = {"exactness": "any", "weights": "bfloat16", "master": "none", "compute": "bfloat16"}
    rows = minimal_parameters("model", "rows.jsonl", precision=half)
    rows["data"]["packing"] = True
    plain = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "vocab_size": 100, "max_position_embeddings": 64}  # fmt: skip
    configs = {
        "dense mask": {**plain, "model_type": "qwen3"},
        "heads of 512": {**plain, "model_type": "llama", "head_dim": 512},
        "joins no rows of gpt_oss": {"model_type": "gpt_oss"},  # one that the planner could not count
    }
    for reason, config in configs.items():
        warn_of_joined_rows(params.from_json(rows, "the test"), config)
        warned = " ".join(capsys.readouterr().err.split())
        assert "data.packing" in warned and reason in warned and "set it to false" in warned
    warn_of_joined_rows(params.from_json(rows, "the test"), {**plain, "model_type": "llama"})
    rows["data"]["packing"] = False
    warn_of_joined_rows(params.from_json(rows, "the test"), configs["dense mask"])
    assert capsys.readouterr().err == ""
