"""Training on several GPUs, tried as several CPU processes: one ordinary model, and no process left behind.

Unsloth's native FSDP2 shards over gloo where there is no GPU, so the whole path through torchrun is real here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import SCRIPTS, assert_clear_error, minimal_parameters, run_script
from unsloth_fft.training import launcher
from unsloth_fft.training.launcher import Machines

TOOL = SCRIPTS / "unsloth_fft_tool.py"
STEPS = 12


@pytest.fixture(scope="module")
def model_and_rows(tmp_path_factory, tiny_model):
    from conftest import conversation_rows, write_jsonl

    return tiny_model, write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", conversation_rows(40))


def session_of(folder: Path, model: Path, rows: Path) -> Path:
    """A session for two processes that saves every second step."""
    file = folder / "params.json"
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "effective_batch_size": 8}
    schedule = {"max_steps": STEPS, "save_steps": 2, "eval_steps": 4}
    given = minimal_parameters(
        model, rows, batch=batch, schedule=schedule, distributed={"gpus": 2, "strategy": "fsdp2"}
    )
    file.write_text(json.dumps(given), encoding="utf-8")
    assert run_script(TOOL, "init", "--params", file, "--session", folder / "s").returncode == 0
    return folder / "s"


def start(session: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TOOL), "train", str(session), *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(session: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    metrics = session / "metrics.jsonl"
    while time.monotonic() < deadline:
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        if sum('"train"' in line for line in lines) >= step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the run never came to that step")


def workers_of(session: Path) -> list[int]:
    """Process ids of the session's workers, by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if str(session).encode() in words and b"unsloth_fft.training.worker" in words:
            rank = next((word for word in environment if word.startswith(b"RANK=")), None)
            if rank is not None:
                found[int(rank[5:])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, model_and_rows):
    """The result of a run that nothing disturbed: its JSON and its weights."""
    session = session_of(tmp_path_factory.mktemp("unbroken"), *model_and_rows)
    finished = run_script(TOOL, "train", session, "--json")
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout), (session / "model" / "model.safetensors").read_bytes()


@pytest.mark.train
def test_two_processes_leave_one_ordinary_model_in_which_every_weight_moved(unbroken, model_and_rows):
    answer, _ = unbroken
    assert answer["session"]["state"] == "completed" and answer["session"]["step"] == STEPS
    assert answer["audit"]["verdict"] == "full"
    assert answer["session"]["result"]["eval_loss_after"] < answer["session"]["result"]["eval_loss_before"]


@pytest.mark.train
def test_a_killed_process_ends_the_run_and_resuming_ends_in_the_same_weights(tmp_path, model_and_rows, unbroken):
    session = session_of(tmp_path, *model_and_rows)
    process = start(session)
    wait_for_step(session, 5, process)
    os.kill(workers_of(session)[1], signal.SIGKILL)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 5, words
    assert "error: a training process ended without a word" in words and "--resume" in words
    assert json.loads((session / "session.json").read_text())["state"] == "failed"
    assert workers_of(session) == []
    resumed = run_script(TOOL, "train", session, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert (session / "model" / "model.safetensors").read_bytes() == unbroken[1]


@pytest.mark.train
def test_a_signal_saves_on_every_process_and_exits_130(tmp_path, model_and_rows, unbroken):
    session = session_of(tmp_path, *model_and_rows)
    process = start(session)
    wait_for_step(session, 3, process)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    assert json.loads((session / "session.json").read_text())["state"] == "interrupted"
    assert not list(session.glob(".stop")) and not list(session.glob(".failure-*"))
    resumed = run_script(TOOL, "train", session, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert (session / "model" / "model.safetensors").read_bytes() == unbroken[1]


@pytest.mark.train
def test_two_machines_that_share_a_folder_train_one_model(tmp_path, model_and_rows, unbroken):
    file = tmp_path / "params.json"
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "effective_batch_size": 8}
    schedule = {"max_steps": STEPS, "save_steps": 2, "eval_steps": 4}
    model, rows = model_and_rows
    given = minimal_parameters(
        model, rows, batch=batch, schedule=schedule, distributed={"gpus": 1, "nodes": 2, "strategy": "fsdp2"}
    )
    file.write_text(json.dumps(given), encoding="utf-8")
    assert run_script(TOOL, "init", "--params", file, "--session", tmp_path / "s").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    first = start(tmp_path / "s", "--rendezvous", place)
    other = start(tmp_path / "s", "--rendezvous", place, "--follow")
    answer, words = first.communicate(timeout=200)
    assert first.returncode == 0, words
    assert other.communicate(timeout=60) and other.returncode == 0
    assert json.loads(answer)["audit"]["verdict"] == "full"
    assert (tmp_path / "s" / "model" / "model.safetensors").read_bytes() == unbroken[1]


def test_several_machines_need_a_place_to_meet(tmp_path, model_and_rows):
    model, rows = model_and_rows
    file = tmp_path / "params.json"
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "effective_batch_size": 8}
    given = minimal_parameters(model, rows, batch=batch, distributed={"gpus": 2, "nodes": 2, "strategy": "fsdp2"})
    file.write_text(json.dumps(given), encoding="utf-8")
    assert run_script(TOOL, "init", "--params", file, "--session", tmp_path / "s").returncode == 0
    finished = run_script(TOOL, "train", tmp_path / "s")
    assert_clear_error(finished, 2, "2 machines", "--rendezvous")


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("machines", "check"),
    [
        (
            Machines(8, 1, None),
            lambda command: "--standalone" in command and option(command, "--nproc-per-node") == "8",
        ),
        (
            Machines(4, 2, "head:29500"),
            lambda command: option(command, "--rdzv-endpoint") == "head:29500" and option(command, "--nnodes") == "2",
        ),
    ],
)
def test_the_launcher_is_torchrun_on_one_machine_or_several(machines: Machines, check: Callable[[list[str]], bool]):
    command = launcher.command(machines, Path("runs/first"), ["--resume"])
    assert check(command) and command[-2:] == ["runs/first", "--resume"]
