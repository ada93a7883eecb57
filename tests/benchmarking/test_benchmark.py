"""benchmark: a plan runs for a few steps in a process of its own and becomes a schema-valid row."""

from __future__ import annotations

import json

import pytest

from conftest import SCRIPTS, assert_clear_error, minimal_parameters, run_script
from unsloth_fft.core import schema

TOOL = SCRIPTS / "unsloth_fft_tool.py"


@pytest.mark.train
def test_plans_become_rows_after_those_that_were_there(tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)  # a plan may name its model from where it is run
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(minimal_parameters(tiny_model.name, None)), encoding="utf-8")
    output = tmp_path / "cpu-2026-11-25.jsonl"
    output.write_text('{"id": "cpu-2026-11-25-01"}\n', encoding="utf-8")
    finished = run_script(TOOL, "benchmark", plan, plan, "--output", output, "--steps", 3, "--json")
    assert finished.returncode == 0, finished.stderr
    first, *rows = (json.loads(line) for line in output.read_text(encoding="utf-8").splitlines())
    assert first == {"id": "cpu-2026-11-25-01"}
    assert [row["id"] for row in rows] == ["cpu-2026-11-25-02", "cpu-2026-11-25-03"]
    assert rows == json.loads(finished.stdout)["rows"]
    for row in rows:
        assert schema.problems(row, "measurement") == []
        assert row["model"] == "tiny" and len(row["loss"]) == 3 and row["optimizer"] == "AdamW"
        assert row["tok_s"] > 0 and row["moved"] > 0.99
        assert str(tiny_model) not in json.dumps(row)  # no path of the machine
    assert rows[0]["loss"] == rows[1]["loss"]


def test_what_cannot_be_measured_is_refused_before_anything_starts(tmp_path):
    unknown = tmp_path / "plan.json"
    unknown.write_text(json.dumps(minimal_parameters("acme/no-such-model", None)), encoding="utf-8")
    assert_clear_error(run_script(TOOL, "benchmark", unknown, "--output", tmp_path / "o.jsonl"), 2, "catalogue")
    assert_clear_error(run_script(TOOL, "benchmark", "--output", tmp_path / "o.jsonl"), 2, "needs a plan")
    assert_clear_error(run_script(TOOL, "benchmark", unknown, "--steps", 2, "--output", tmp_path / "o.jsonl"), 2)
    assert not (tmp_path / "o.jsonl").exists()
