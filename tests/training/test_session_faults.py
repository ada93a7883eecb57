"""Nothing is lost: whatever stops a run, it resumes to the same weights; wrong states are refused without harm."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT, assert_clear_error, conversation_rows, minimal_parameters, write_jsonl, write_parameters
from small_sessions import EVERY, STEPS, completed, snapshot, state_of
from tools.measurements.kill_and_resume import Killer, newest_checkpoint, steps_logged, weights
from unsloth_fft.core import schema
from unsloth_fft.core.errors import Interrupted
from unsloth_fft.training import session as session_module
from workers import SCRIPTS, Finished, Run, Workers

pytestmark = pytest.mark.train

BEST = {
    "max_steps": STEPS,
    "save_steps": 3,
    "eval_steps": 3,
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    # No evaluation can be this much lower, so the second one without a fall stops the run: at step 9 of 12.
    "early_stopping_patience": 2,
    "early_stopping_threshold": 100.0,
}


@pytest.fixture(scope="module")
def best(tmp_path_factory, workers, new_session) -> Path:
    """A session that early stopping ended and that kept its best checkpoint, without a stop."""
    return completed(workers, new_session(tmp_path_factory.mktemp("best"), **BEST))


@pytest.fixture(scope="module")
def killed_original(tmp_path_factory, workers, new_session) -> Path:
    session = new_session(tmp_path_factory.mktemp("killed"))
    assert stopped_at(workers, session, 8, signal.SIGKILL).returncode == -signal.SIGKILL
    assert newest_checkpoint(session) == 6
    return session


@pytest.fixture
def killed(tmp_path, killed_original) -> Path:
    """A copy of a session that SIGKILL ended after step 8, with checkpoints of steps 3 and 6."""
    return shutil.copytree(killed_original, tmp_path / "session")


def status_of(workers: Workers, session: Path) -> dict:
    return json.loads(workers.run("status", session).stdout)


def wait_for(run: Run, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert not run.is_over() and time.monotonic() < deadline, run.said()
        time.sleep(0.001)


def stopped_at(workers: Workers, session: Path, step: int, number: signal.Signals) -> Finished:
    """Train until metrics.jsonl shows `step`, send `number`, and wait for the end."""
    run = workers.start("train", session)
    wait_for(run, lambda: step in steps_logged(session))
    run.send(number)
    return run.wait()


# --- signals and kills ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_by_a_signal_saves_says_130_and_resumes_to_the_same_weights(
    tmp_path, workers, new_session, finished, number
):
    session = new_session(tmp_path)
    ended = stopped_at(workers, session, 4, number)
    assert_clear_error(ended, 130, f"stopped by {number.name}", "--resume")
    state = state_of(session)
    assert state["state"] == "interrupted" and newest_checkpoint(session) == state["step"] >= 4
    completed(workers, session, "--resume")
    assert weights(session) == weights(finished)
    assert steps_logged(session) == list(range(1, STEPS + 1))


def test_a_killed_run_loses_at_most_one_save_interval_and_resumes_to_the_same_weights(workers, killed, finished):
    status = status_of(workers, killed)
    assert status["state"] == "interrupted" and status["next"].endswith("--resume")
    completed(workers, killed, "--resume")
    assert weights(killed) == weights(finished)
    assert steps_logged(killed) == list(range(1, STEPS + 1))


def test_five_kills_at_random_moments_change_no_weight(tmp_path, workers, home):
    kills = list(Killer(workers, tmp_path, home / "tiny", seed=20261123).kills(5))
    assert [kill.equal for kill in kills] == [True] * 5
    assert all(kill.steps_logged_once for kill in kills)
    assert any(kill.checkpoint_being_written for kill in kills)
    assert {kill.aimed_at for kill in kills} == {"any moment", "a step", "a save"}


def test_the_recorded_kills_changed_no_weight_and_met_saves():
    record = json.loads((ROOT / "references" / "measurements" / "kill-and-resume-2026-11-27.json").read_text())
    assert record["kills"] == record["equal"] == len(record["each"]) == 25
    assert all(kill["equal"] and kill["steps_logged_once"] for kill in record["each"])
    assert record["while_a_checkpoint_was_written"] == sum(kill["checkpoint_being_written"] for kill in record["each"])
    assert record["while_a_checkpoint_was_written"] >= 8  # a third of the kills is aimed at a save


def test_a_signal_while_loading_stops_at_once_and_nothing_is_lost(tmp_path, workers, new_session):
    session = new_session(tmp_path)
    run = workers.start("train", session)
    wait_for(run, lambda: state_of(session)["state"] == "running")
    run.send(signal.SIGTERM)
    ended = run.wait()
    assert_clear_error(ended, 130, "at step 0")
    assert_stopped_before_the_first_step(session)


def assert_stopped_before_the_first_step(session: Path) -> None:
    assert state_of(session)["state"] == "interrupted" and steps_logged(session) == []
    assert not list(session.glob(".data-*")) and not list(session.glob(".*.tmp"))


def as_python_and_transformers_have_it() -> None:
    """A signal inside a class body's __set_name__ (Python 3.11), seen through transformers' lazy imports."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as stopped:
        raise ModuleNotFoundError("Could not import module 'LlamaConfig'") from stopped


def swallowed() -> None:
    """A signal inside a bare `except:` of somebody else."""
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("meet", [as_python_and_transformers_have_it, swallowed])
def test_a_signal_that_a_library_hides_while_loading_is_still_a_stop(tmp_path, new_session, monkeypatch, meet):
    from unsloth_fft.training import run

    load = run.model.load
    session = new_session(tmp_path)
    monkeypatch.setattr(run.model, "load", lambda parameters: (meet(), load(parameters))[1])
    with pytest.raises(Interrupted, match="at step 0"):
        run.train(session, run.Options())
    assert_stopped_before_the_first_step(session)


def test_a_signal_while_a_checkpoint_is_written_lets_it_be_finished(tmp_path, workers, new_session, finished):
    session = new_session(tmp_path)
    run = workers.start("train", session)
    wait_for(run, (session / "checkpoints" / ".staging").exists)
    run.send(signal.SIGTERM)
    assert_clear_error(run.wait(), 130, "saved")
    assert newest_checkpoint(session) == state_of(session)["step"]
    completed(workers, session, "--resume")
    assert weights(session) == weights(finished)


def test_a_second_signal_stops_at_once(tmp_path, workers, new_session, finished):
    session = new_session(tmp_path, max_steps=STEPS, save_steps=3, eval_steps=1)
    run = workers.start("train", session)
    wait_for(run, lambda: 4 in steps_logged(session))
    run.send(signal.SIGTERM)
    run.send(signal.SIGINT)
    ended = run.wait()
    assert_clear_error(ended, 130, "stopped")
    assert newest_checkpoint(session) >= 3
    completed(workers, session, "--resume")
    assert weights(session) == weights(finished)


# --- checkpoints that are not what was saved ---


def damage(session: Path, step: int, name: str, content: bytes | None) -> None:
    path = session / "checkpoints" / f"checkpoint-{step}" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(workers, killed, finished):
    whole = (killed / "checkpoints" / "checkpoint-6" / "optimizer.pt").read_bytes()
    damage(killed, 6, "optimizer.pt", whole[: len(whole) // 2])
    done = workers.run("train", killed, "--resume")
    assert done.returncode == 0, done.stderr
    assert "checkpoint-6 is damaged (optimizer.pt has" in done.stderr and "from step 3" in done.stderr
    assert weights(killed) == weights(finished)


def test_with_every_checkpoint_damaged_nothing_is_touched(workers, killed):
    damage(killed, 3, "model.safetensors", b"")
    damage(killed, 6, "rng_state.pth", None)
    before = snapshot(killed)
    assert_clear_error(
        workers.run("train", killed, "--resume"), 2, "no checkpoint", "rng_state.pth is missing", "remov"
    )
    assert snapshot(killed) == before


def test_without_its_checkpoints_a_run_starts_again_and_says_so(workers, killed, finished):
    shutil.rmtree(killed / "checkpoints")
    done = workers.run("train", killed, "--resume")
    assert done.returncode == 0 and "starts again at step 0" in done.stderr, done.stderr
    assert weights(killed) == weights(finished)


def test_a_forged_optimizer_state_runs_no_code(tmp_path, workers, killed):
    """A stranger's session may bring its own manifest; torch then refuses what is not tensors."""
    from unsloth_fft.training import manifest

    checkpoint = killed / "checkpoints" / "checkpoint-6"
    damage(killed, 6, "optimizer.pt", pickle_that_touches(tmp_path / "ran"))
    manifest.write(checkpoint, 6)
    assert_clear_error(workers.run("train", killed, "--resume"), 5, "checkpoint-6 cannot be loaded", "remove")
    assert not (tmp_path / "ran").exists()


def pickle_that_touches(path: Path) -> bytes:
    import pickle

    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {path}",)

    return pickle.dumps(Touch())


# --- full and unwilling disks ---


def test_a_limit_on_file_sizes_ends_in_a_clear_error_and_the_run_goes_on_later(workers, killed, finished):
    # Weights of the tiny model take 123 kB, its optimizer state twice that.
    ended = workers.run("train", killed, "--resume", file_bytes=150_000)
    assert_clear_error(ended, 4, "checkpoint of step 9 could not be written", "checkpoint-6 is the newest", "--resume")
    state = state_of(killed)
    assert state["state"] == "failed" and state["error"]["code"] == "missing_here"
    assert newest_checkpoint(killed) == 6 and not (killed / "checkpoints" / ".staging").exists()
    completed(workers, killed, "--resume")
    assert weights(killed) == weights(finished)


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[..., Path]]:
    """Mounts file systems of a given size; skips where that is not allowed."""
    mounted = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk-{len(mounted)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True)
        if done.returncode != 0:
            pytest.skip("mounting is not allowed here")
        mounted.append(place)
        return place

    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_in_a_clear_error_and_the_run_goes_on_with_more_room(workers, killed, finished, disk):
    place = disk("size=64m")
    session = shutil.copytree(killed, place / "session")
    room = shutil.disk_usage(place).used // 1024 + 200  # a checkpoint takes 400 KiB
    subprocess.run(["mount", "-o", f"remount,size={room}k", str(place)], check=True)
    ended = workers.run("train", session, "--resume")
    assert_clear_error(ended, 4, "checkpoint of step 9 could not be written", "0.00 GiB free", "free space")
    assert newest_checkpoint(session) == 6
    subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
    completed(workers, session, "--resume")
    assert weights(session) == weights(finished)


def test_a_read_only_place_is_refused_before_anything_is_loaded(workers, killed, disk):
    place = disk("size=64m")
    session = shutil.copytree(killed, place / "session")
    (session / ".lock").touch()
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    assert_clear_error(workers.run("train", session, "--resume"), 2, "Read-only file system")
    assert status_of(workers, session)["step"] == 8


# --- wrong states ---


def test_a_completed_session_is_not_trained_again(workers, finished):
    before = snapshot(finished)
    assert_clear_error(workers.run("train", finished), 2, "already completed")
    assert_clear_error(workers.run("train", finished, "--resume"), 2, "already completed")
    assert snapshot(finished) == before


def test_the_page_of_a_finished_session_shows_its_data(finished):
    found = json.loads((finished / "data-report.json").read_text())
    assert schema.problems(found, "data-report") == []
    assert found["rows"] == 40 and found["model"] == str(finished / "model")
    page = (finished / "report.html").read_text()
    assert "<h2>The data</h2>" in page and "Rows by length in tokens" in page and "padding at micro-batch 4" in page


def test_a_finished_run_is_not_spoilt_by_data_that_cannot_be_examined(tmp_path, workers, finished):
    session = shutil.copytree(finished, tmp_path / "session")
    (session / "report.html").unlink()
    (session / "model" / "tokenizer.json").write_text("{")
    completed(workers, session, "--resume")
    assert "The data could not be examined" in (session / "report.html").read_text()


def test_a_run_stopped_between_its_end_and_its_report_gets_its_report(tmp_path, workers, finished):
    session = shutil.copytree(finished, tmp_path / "session")
    (session / "report.html").unlink()
    (session / "audit.json").unlink()
    completed(workers, session, "--resume")
    assert (session / "report.html").exists() and (session / "audit.json").exists()


def test_a_run_killed_after_its_last_step_takes_no_step_too_many(tmp_path, workers, finished):
    session = shutil.copytree(finished, tmp_path / "session")
    shutil.rmtree(session / "model")
    (session / "report.html").unlink()
    state = {**state_of(session), "state": "running", "process": {"pid": 1, "host": "gone"}, "result": None}
    (session / "session.json").write_text(json.dumps(state))
    completed(workers, session, "--resume")
    assert weights(session) == weights(finished)
    assert state_of(session)["result"]["tokens"] == state_of(finished)["result"]["tokens"]


def test_a_checkpoint_without_resume_is_pointed_out(workers, killed):
    before = snapshot(killed)
    assert_clear_error(workers.run("train", killed), 2, "has a checkpoint at step 6", "--resume")
    assert snapshot(killed) == before


def test_a_second_process_on_the_same_session_is_refused(workers, killed):
    with (killed / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert_clear_error(workers.run("train", killed, "--resume"), 2, "another process")


HELD_BY_A_PROCESS_WITH_A_CHILD = """
import os, pathlib, signal, sys, time
from unsloth_fft.training import session
with session.locked(session.Folder(pathlib.Path(sys.argv[1]))):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_that_outlives_its_killed_parent_does_not_hold_the_session(tmp_path):
    script = [sys.executable, "-c", HELD_BY_A_PROCESS_WITH_A_CHILD, str(tmp_path)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SCRIPTS)}) as parent:
        child = int(parent.stdout.readline())
        try:
            assert parent.wait() == -signal.SIGKILL
            with session_module.locked(session_module.Folder(tmp_path)):
                os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_model_that_cannot_be_reached_is_missing_here(tmp_path, workers, home):
    """With HF_ENDPOINT=http://127.0.0.1:9 in its place it ends alike, after huggingface_hub's two minutes of trying."""
    params = write_parameters(tmp_path / "p.json", minimal_parameters("nobody/nothing", home / "rows.jsonl"))
    ended = workers.run("train", "--params", params, "--session", tmp_path / "s", env={"HF_HUB_OFFLINE": "1"})
    assert_clear_error(ended, 4, "nobody/nothing is not on this machine", "hf download nobody/nothing")
    assert state_of(tmp_path / "s")["error"]["code"] == "missing_here"


def test_changed_parameters_and_changed_data_are_refused(tmp_path, workers, home, killed):
    params = killed / "params.json"
    original = params.read_text()
    params.write_text(original.replace("0.002", "0.004"))
    before = snapshot(killed)
    assert_clear_error(workers.run("train", killed, "--resume"), 2, "changed after init")
    assert snapshot(killed) == before
    rows = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))
    value = minimal_parameters(home / "tiny", rows, schedule=EVERY)
    made = workers.run(
        "init", "--params", write_parameters(tmp_path / "p.json", value), "--session", tmp_path / "other"
    )
    assert made.returncode == 0, made.stderr
    write_jsonl(rows, conversation_rows(41))
    assert_clear_error(workers.run("train", tmp_path / "other"), 2, "changed after init")
    rows.unlink()
    assert_clear_error(workers.run("train", tmp_path / "other"), 2, "not found")


@pytest.mark.parametrize("logging_steps", [1, 5])
def test_a_non_finite_loss_stops_the_run_before_it_is_saved(tmp_path, workers, home, new_session, logging_steps):
    from safetensors.numpy import load_file, save_file

    broken = shutil.copytree(home / "tiny", tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    session = new_session(tmp_path, broken, max_steps=4, save_steps=1, logging_steps=logging_steps)
    assert_clear_error(workers.run("train", session), 5, "loss" if logging_steps == 1 else "not finite")
    state = state_of(session)
    assert state["state"] == "failed" and state["error"]["code"] == "training_failed"
    assert newest_checkpoint(session) == 0 and not (session / "model").exists()


def test_a_moved_session_resumes_where_it_now_lies(tmp_path, workers, killed, finished):
    moved = killed.rename(tmp_path / "elsewhere")
    completed(workers, moved, "--resume")
    assert weights(moved) == weights(finished)
    assert not killed.exists()


def test_a_clock_that_went_backwards_confuses_nothing(workers, killed):
    path = killed / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["time"] = f"2001-01-01T00:00:{59 - number:02d}+00:00"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for age, step in ((1, 3), (10**9, 6)):
        os.utime(killed / "checkpoints" / f"checkpoint-{step}", (2e9 - age, 2e9 - age))
    (killed / ".lock").touch()
    with (killed / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as while it runs
        status = status_of(workers, killed)
    assert status["state"] == "running" and status["seconds_left"] is None
    done = workers.run("train", killed, "--resume")
    assert done.returncode == 0 and "damaged" not in done.stderr, done.stderr


# --- early stopping and the best checkpoint ---


def test_early_stopping_ends_the_run_and_the_best_checkpoint_is_the_model(best):
    result = state_of(best)["result"]
    lines = [json.loads(line) for line in (best / "metrics.jsonl").read_text().splitlines()]
    held_out = {line["step"]: line["loss"] for line in lines if line["kind"] == "eval" and line["step"] > 0}
    assert max(held_out) == state_of(best)["step"] == 9
    lowest = min(held_out, key=held_out.__getitem__)
    assert result["model_step"] == lowest and result["eval_loss_after"] == held_out[lowest]
    assert (best / "checkpoints" / f"checkpoint-{lowest}" / "model.safetensors").read_bytes() == weights(best)


def test_a_resumed_run_stops_early_where_the_unbroken_one_did(tmp_path, workers, new_session, best):
    session = new_session(tmp_path, **BEST)
    assert workers.killed_after(7, "train", session).returncode == -signal.SIGKILL
    moved = session.rename(tmp_path / "elsewhere")
    completed(workers, moved, "--resume")
    assert state_of(moved)["step"] == state_of(best)["step"]
    assert state_of(moved)["result"]["model_step"] == state_of(best)["result"]["model_step"]
    assert weights(moved) == weights(best)
    named = [
        json.loads(path.read_text())["best_model_checkpoint"]
        for path in (moved / "checkpoints").glob("*/trainer_state.json")
    ]
    assert all(".staging" not in name for name in named)
