"""A parameters file that somebody wrote or changed by hand is checked as a plan is: all that is wrong, at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conftest import minimal_parameters, write_parameters
from unsloth_fft.commands import tool
from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.settings import parameters


@pytest.mark.parametrize("alone", [True, False])
def test_every_violation_is_named_with_its_own_remedy(monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    if alone:
        monkeypatch.setitem(sys.modules, "jsonschema.validators", None)
    value = minimal_parameters("owner/model", "owner/data")
    value["data"] = {"sorces": [], "dataset": 5, "blue": 1}
    value["precision"]["exactness"] = "exakt"
    value["optimizer"]["learning_rate"] = "fast"
    value["batch"]["per_device_train_batch_size"] = 0
    del value["memory"]
    with pytest.raises(BadInput) as refused:
        parameters.from_json(value, "p.json")
    for word in ("sorces", "data/dataset", "blue", "exakt", "learning_rate", "per_device_train_batch_size", "memory"):
        assert word in refused.value.message, word
    for remedy in (
        "rename sorces to sources (in data)",
        "make data/dataset a text in quotes or null",
        "remove blue (in data)",
        "set precision/exactness to one of: exact, stochastic, any",
        "make optimizer/learning_rate a number",
        "set batch/per_device_train_batch_size to at least 1",
        "add memory",
    ):
        assert remedy in refused.value.hint, remedy


def test_at_most_fifty_are_named() -> None:
    value = {**minimal_parameters("owner/model", "owner/data"), **{f"key{number:03d}": 1 for number in range(70)}}
    with pytest.raises(BadInput) as refused:
        parameters.from_json(value, "p.json")
    assert refused.value.message.count("unknown key") == schema.MOST_SHOWN
    assert "and 20 more" in refused.value.message


def test_all_contradictions_are_named() -> None:
    value = minimal_parameters("owner/model", "owner/data")
    value["batch"]["effective_batch_size"] = 5
    value["schedule"] = {"max_steps": 3, "num_train_epochs": 2}
    value["precision"]["master"] = "none"
    with pytest.raises(BadInput) as refused:
        parameters.from_json(value, "p.json")
    for key in ("batch/effective_batch_size", "schedule:", "precision/master"):
        assert key in refused.value.message
    assert "mend that key" in refused.value.hint and "plan anew" in refused.value.hint


@pytest.mark.parametrize("command", ["init --check --params", "render --target script --output x.py --params"])
def test_a_rate_that_is_667_times_the_usual_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    value = minimal_parameters("Qwen/Qwen2.5-7B", "owner/data")
    value["optimizer"]["learning_rate"] = 667e-5
    value["schedule"] = {"num_train_epochs": 40}
    params = write_parameters(tmp_path / "p.json", value)
    assert tool.main([*command.split(), str(params)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "is 667 times the 1e-05" in said and "about 40 times" in said


def test_steps_that_end_before_the_rows_do_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = minimal_parameters("Qwen/Qwen2.5-7B", "owner/data")
    value["data"] = {"dataset": "owner/data", "rows": 100, "eval_fraction": 0.0}
    value["schedule"] = {"max_steps": 10}
    params = write_parameters(tmp_path / "p.json", value)
    assert tool.main(["init", "--check", "--params", str(params), "--json"]) == 0
    said = capsys.readouterr()
    assert "10 steps end after 0.40 of a pass" in " ".join(said.err.split()) and json.loads(said.out)["valid"] is True
