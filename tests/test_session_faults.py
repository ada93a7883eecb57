"""Nothing is lost: a stopped run resumes to the same weights, and wrong states are refused without harm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import (
    TOOL,
    assert_clear_error,
    conversation_rows,
    minimal_parameters,
    run_script,
    write_jsonl,
    write_parameters,
)

pytest.importorskip("unsloth")
pytestmark = pytest.mark.train

STEPS = 12


def new_session(folder: Path, model: Path, **schedule: object) -> Path:
    rows = folder / "rows.jsonl"
    if not rows.exists():
        write_jsonl(rows, conversation_rows(40))
    settings = {"max_steps": STEPS, "save_steps": 3, **schedule}
    params = write_parameters(folder / "p.json", minimal_parameters(model, rows, schedule=settings))
    session = folder / f"session-{len(list(folder.glob('session-*')))}"
    finished = run_script(TOOL, "init", "--params", params, "--session", session)
    assert finished.returncode == 0, finished.stderr
    return session


def weights(session: Path) -> bytes:
    return (session / "model" / "model.safetensors").read_bytes()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model) -> Path:
    """A session trained to its end without a stop."""
    session = new_session(tmp_path_factory.mktemp("finished"), tiny_model)
    done = run_script(TOOL, "train", session)
    assert done.returncode == 0, done.stderr
    return session


def stopped_at(session: Path, step: int, number: signal.Signals) -> int:
    """Start training and send `number` once metrics.jsonl shows `step`; return the exit code."""
    process = subprocess.Popen(
        [sys.executable, str(TOOL), "train", str(session)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    lines = session / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if lines.exists() and any(f'"step": {step},' in line for line in lines.read_text().splitlines()):
            process.send_signal(number)
            break
        time.sleep(0.005)
    process.communicate(timeout=120)
    return process.returncode


def test_a_run_stopped_by_sigterm_saves_says_130_and_resumes_to_the_same_weights(tmp_path, tiny_model, finished):
    session = new_session(tmp_path, tiny_model)
    assert stopped_at(session, 4, signal.SIGTERM) == 130
    state = json.loads((session / "session.json").read_text())
    assert state["state"] == "interrupted" and state["step"] >= 4
    resumed = run_script(TOOL, "train", session, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["session"]["state"] == "completed"
    assert weights(session) == weights(finished)
    steps = [
        json.loads(line)["step"] for line in (session / "metrics.jsonl").read_text().splitlines() if "train" in line
    ]
    assert steps == list(range(1, STEPS + 1))


def test_a_killed_run_loses_at_most_one_save_interval_and_resumes_to_the_same_weights(tmp_path, tiny_model, finished):
    session = new_session(tmp_path, tiny_model)
    assert stopped_at(session, 8, signal.SIGKILL) == -signal.SIGKILL
    status = json.loads(run_script(TOOL, "status", session).stdout)
    assert status["state"] == "interrupted"
    assert sorted(path.name for path in (session / "checkpoints").glob("checkpoint-*"))[-1] >= "checkpoint-6"
    resumed = run_script(TOOL, "train", session, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert weights(session) == weights(finished)


def test_a_completed_session_is_not_trained_again(finished):
    before = snapshot(finished)
    assert_clear_error(run_script(TOOL, "train", finished), 2, "already completed")
    assert snapshot(finished) == before


def test_a_second_process_on_the_same_session_is_refused(tmp_path, tiny_model):
    import fcntl

    session = new_session(tmp_path, tiny_model)
    with (session / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert_clear_error(run_script(TOOL, "train", session), 2, "another process")


def test_changed_parameters_and_changed_data_are_refused(tmp_path, tiny_model):
    session = new_session(tmp_path, tiny_model)
    params = session / "params.json"
    original = params.read_text()
    params.write_text(original.replace("0.002", "0.004"))
    assert_clear_error(run_script(TOOL, "train", session), 2, "changed after init")
    params.write_text(original)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text() + json.dumps(conversation_rows(1)[0]) + "\n")
    assert_clear_error(run_script(TOOL, "train", session), 2, "changed after init")


def test_a_non_finite_loss_stops_the_run_and_says_so(tmp_path, tiny_model):
    import shutil

    from safetensors.numpy import load_file, save_file

    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    session = new_session(tmp_path, broken)
    assert_clear_error(run_script(TOOL, "train", session), 5, "loss")
    state = json.loads((session / "session.json").read_text())
    assert state["state"] == "failed" and state["error"]["code"] == "training_failed"
    assert not (session / "model").exists()
