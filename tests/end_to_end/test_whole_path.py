"""One command after another, as README shows them: plan, init, train, status, audit on a user's own rows and model."""

from __future__ import annotations

import json
import subprocess

import pytest

from conftest import PLANNER, TOOL, run_script
from unsloth_fft.core import schema
from workers import Finished

pytestmark = pytest.mark.train


def answer_of(finished: Finished | subprocess.CompletedProcess) -> dict:
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_a_users_rows_and_model_go_from_plan_to_audit(workers, tmp_path, tiny_model, rows_file):
    params, session = tmp_path / "p.json", tmp_path / "s"
    length = ("--seq-length", 128, "--effective-batch", 8, "--learning-rate", 0.002)
    planned = answer_of(
        run_script(PLANNER, "--model", tiny_model, "--dataset", rows_file, "--output", params, "--json", *length)
    )
    assert json.loads(params.read_text()) == planned and schema.problems(planned, "parameters") == []

    made = answer_of(run_script(TOOL, "init", "--params", params, "--session", session, "--json"))
    assert made["state"] == "initialized"
    trained = answer_of(workers.run("train", session, "--json"))
    assert trained["session"]["state"] == "completed"
    status = answer_of(run_script(TOOL, "status", session, "--json"))
    assert status["state"] == "completed" and status["step"] == status["total_steps"] == status["checkpoint"]
    assert status["step"] == planned["plan"]["predicted"]["steps"]  # 36 rows learned twice, the last batch of 8 short
    audit = answer_of(run_script(TOOL, "audit", "--session", session, "--json", "--full"))
    assert audit["verdict"] == "full" and audit["elements"] == planned["model"]["parameters"]
    again = answer_of(run_script(TOOL, "audit", tiny_model, session / "model", "--json"))
    assert again["changed"] == audit["changed"]

    for name, kind in {"session.json": "session", "params.json": "parameters", "audit.json": "audit"}.items():
        assert schema.problems(json.loads((session / name).read_text()), kind) == []
    for line in (session / "metrics.jsonl").read_text().splitlines():
        assert schema.problems(json.loads(line), "metrics") == []
    assert (session / "report.html").is_file() and (session / "loss.png").is_file()
