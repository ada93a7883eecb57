"""Training on several GPUs, tried as several CPU processes: one ordinary model, and no process left behind.

Unsloth's native FSDP2 shards over gloo where there is no GPU, so the whole path through torchrun is real here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import two_hosts
from conftest import SCRIPTS, assert_clear_error, minimal_parameters, run_script
from training_processes import wait_for_step, workers_of
from two_hosts import Host
from unsloth_fft.commands import tool
from unsloth_fft.training import launcher
from unsloth_fft.training.launcher import Machines

TOOL = SCRIPTS / "unsloth_fft_tool.py"
STEPS = 12


@pytest.fixture(scope="module")
def model_and_rows(tmp_path_factory, tiny_model):
    from conftest import conversation_rows, write_jsonl

    return tiny_model, write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", conversation_rows(40))


def start(session: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TOOL), "train", str(session), *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def state_of(session: Path) -> dict:
    return json.loads((session / "session.json").read_text())


def tensors_in(checkpoint: Path) -> list:
    import torch
    from torch.utils import _pytree

    leaves = _pytree.tree_leaves(torch.load(checkpoint, weights_only=True))
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def names_in(weights: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        return sorted(file.keys())


def parameters_of(folder: Path, model: Path, rows: Path, **distributed: int) -> Path:
    """A parameters file for two processes that saves every step."""
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "effective_batch_size": 8}
    schedule = {"max_steps": STEPS, "save_steps": 1, "save_total_limit": STEPS, "eval_steps": 4}
    given = minimal_parameters(
        model, rows, batch=batch, schedule=schedule, distributed={**distributed, "strategy": "fsdp2"}
    )
    file = folder / "params.json"
    file.write_text(json.dumps(given), encoding="utf-8")
    return file


def session_of(file: Path) -> Path:
    """A session beside the parameters file."""
    assert tool.main(["init", "--params", str(file), "--session", str(file.with_name("s"))]) == 0
    return file.with_name("s")


@pytest.fixture(scope="module")
def hosts():
    """Two hosts and a slow network."""
    if not sys.platform.startswith("linux"):
        pytest.skip("two hosts are made of Linux namespaces, or of addresses that only Linux has")
    with two_hosts.two_hosts() as found:
        yield found


def start_on(hosts: tuple[Host, Host], session: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """`train` on both hosts, the first of them first."""
    meeting = ("train", str(session), "--rendezvous", f"{hosts[0].address}:{two_hosts.free_port()}", *arguments)
    return [
        host.start(str(TOOL), *meeting, *follows)
        for host, follows in zip(hosts, (["--json"], ["--follow"]), strict=True)
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, model_and_rows, hosts):
    """The answer and the session of a run that nothing disturbed, on two hosts."""
    session = session_of(parameters_of(tmp_path_factory.mktemp("unbroken"), *model_and_rows, gpus=1, nodes=2))
    first, other = start_on(hosts, session)
    answer, words = first.communicate(timeout=400)
    assert first.returncode == 0, words
    _, words = other.communicate(timeout=60)
    assert other.returncode == 0, words
    return json.loads(answer), session


@pytest.mark.train
def test_two_machines_that_share_a_folder_train_one_ordinary_model(unbroken):
    answer, _ = unbroken
    assert answer["session"]["state"] == "completed" and answer["session"]["step"] == STEPS
    assert answer["audit"]["verdict"] == "full"
    assert answer["session"]["result"]["eval_loss_after"] < answer["session"]["result"]["eval_loss_before"]


def ended(process: subprocess.Popen[str], within_s: float) -> tuple[int, str]:
    """The exit code and what was said on stderr."""
    _, words = process.communicate(timeout=within_s)
    return process.returncode, words


@dataclass(frozen=True)
class CutOff:
    """A run whose second host died, and how the first one ended: its exit code and its words, once it has."""

    session: Path
    first: Future[tuple[int, str]]


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory, model_and_rows, hosts, unbroken) -> Iterator[CutOff]:
    """Most of the two minutes is silence, in which other tests run; how long the first host takes is held here."""
    session = session_of(parameters_of(tmp_path_factory.mktemp("cut-off"), *model_and_rows, gpus=1, nodes=2))
    first, other = start_on(hosts, session)
    wait_for_step(session, 3, first)
    hosts[1].die()
    with ThreadPoolExecutor(1) as waiting:
        end = waiting.submit(ended, first, 120)
        other.communicate(timeout=60)
        yield CutOff(session, end)


@pytest.mark.train
@pytest.mark.usefixtures("cut_off")
def test_a_kill_ends_all_a_signal_saves_and_resuming_ends_in_the_same_weights(tmp_path, model_and_rows, unbroken):
    session = session_of(parameters_of(tmp_path, *model_and_rows, gpus=2))

    process = start(session)
    wait_for_step(session, 3, process)
    os.kill(workers_of(session)[1], signal.SIGKILL)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 5, words
    assert "error: a training process ended without a word" in words and "--resume" in words
    assert state_of(session)["state"] == "failed"
    assert workers_of(session) == []

    process = start(session, "--resume")
    wait_for_step(session, 6, process)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    stopped = state_of(session)
    assert stopped["state"] == "interrupted" and 6 <= stopped["step"] < STEPS
    assert not list(session.glob(".stop")) and not list(session.glob(".failure-*"))

    mine, theirs = (place / "checkpoints" / f"checkpoint-{stopped['step']}" for place in (session, unbroken[1]))
    assert (mine / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
    ours, others = tensors_in(mine / "optimizer.pt"), tensors_in(theirs / "optimizer.pt")
    assert len(ours) == len(others) > 0
    assert all(first.equal(second) for first, second in zip(ours, others, strict=True))

    resumed = run_script(TOOL, "train", session, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    final = Path("model") / "model.safetensors"
    assert names_in(session / final) == names_in(model_and_rows[0] / "model.safetensors")  # a tied head is there once
    assert (session / final).read_bytes() == (unbroken[1] / final).read_bytes()


@pytest.mark.train
def test_a_host_that_dies_ends_the_other_within_two_minutes_with_the_reason_and_both_go_on(hosts, cut_off, unbroken):
    session = cut_off.session
    code, words = cut_off.first.result()
    assert_clear_error(subprocess.CompletedProcess([], code, "", words), 5, "another machine", "--resume")
    assert state_of(session)["state"] == "failed"
    assert "another machine" in state_of(session)["error"]["message"]
    if hosts[1].space is not None:
        assert f"machine {hosts[1].space} has not been heard of" in words

    hosts[1].repair()
    first, other = start_on(hosts, session, "--resume")
    _, words = first.communicate(timeout=400)
    assert first.returncode == 0, words
    assert "resuming at step" in words
    other.communicate(timeout=60)
    final = Path("model") / "model.safetensors"
    assert (session / final).read_bytes() == (unbroken[1] / final).read_bytes()


@pytest.mark.slow
def test_several_machines_need_a_place_to_meet(tmp_path, model_and_rows):
    session = session_of(parameters_of(tmp_path, *model_and_rows, gpus=1, nodes=2))
    assert_clear_error(run_script(TOOL, "train", session), 2, "2 machines", "--rendezvous")


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
