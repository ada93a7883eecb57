"""What saves GPU memory changes nothing: gradients on the host and sliced steps give the ordinary weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import PLANNER, assert_clear_error, minimal_parameters, run_script
from unsloth_fft.core.errors import BadInput
from unsloth_fft.settings import parameters as params
from workers import Workers

OFFLOADED = {
    "memory": {"gradient_checkpointing": "true", "gradient_offload": True, "checkpointed_layers": 1},
    "optimizer": {"name": "adamw_torch_fused", "learning_rate": 2e-3, "state_offload": True},
}


def trained(workers: Workers, folder: Path, **changes: object) -> bytes:
    """The weights of a run with `changes`."""
    folder.mkdir()
    file = folder / "params.json"
    file.write_text(json.dumps(minimal_parameters(**changes)), encoding="utf-8")  # type: ignore[arg-type]
    finished = workers.run("train", "--params", file, "--session", folder / "session", "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["audit"]["verdict"] == "full"
    return (folder / "session" / "model" / "model.safetensors").read_bytes()


@pytest.mark.train
def test_gradients_on_the_host_and_a_recomputed_layer_give_the_weights_of_an_ordinary_run(
    workers, tmp_path, tiny_model, rows_file
):
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "effective_batch_size": 8}
    same = {"model": tiny_model, "dataset": rows_file, "batch": batch}
    ordinary = trained(workers, tmp_path / "ordinary", **same)
    assert trained(workers, tmp_path / "host", **same, **OFFLOADED) == ordinary


def test_gradient_offload_needs_state_offload_and_one_gpu(tiny_model, rows_file):
    wrong = minimal_parameters(tiny_model, rows_file, memory=OFFLOADED["memory"])
    with pytest.raises(BadInput, match="gradient_offload.*state_offload"):
        params.from_json(wrong, "the test")
    batch = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "effective_batch_size": 8}
    two = minimal_parameters(
        tiny_model, rows_file, batch=batch, distributed={"gpus": 2, "strategy": "fsdp2"}, **OFFLOADED
    )
    with pytest.raises(BadInput, match="one GPU only"):
        params.from_json(two, "the test")
    half = minimal_parameters(tiny_model, rows_file, **OFFLOADED)
    half["precision"]["compute"] = "float16"
    with pytest.raises(BadInput, match="gradient_offload.*loss scaling"):
        params.from_json(half, "the test")


def test_padding_free_and_packing_exclude_each_other(tiny_model, rows_file):
    data = {"dataset": str(rows_file), "packing": True, "padding_free": True}
    with pytest.raises(BadInput, match="padding_free"):
        params.from_json(minimal_parameters(tiny_model, rows_file, data=data), "the test")


def test_a_step_in_slices_gives_the_weights_and_state_of_a_whole_one(monkeypatch):
    torch = pytest.importorskip("torch")
    flashoptim = pytest.importorskip("flashoptim")
    from unsloth_fft.memory_savers import sliced_step

    monkeypatch.setattr(sliced_step, "SLICE_ELEMENTS", 64)
    torch.manual_seed(0)
    start = torch.randn(21, 16, dtype=torch.bfloat16)  # slices of 4 rows, and one of a single row
    gradients = [torch.randn(21, 16, dtype=torch.bfloat16) for _ in range(4)]

    def optimizer_of(parameter):
        # The correction term needs CUDA; there rows 12 and 15 of measurements/h100-2026-11-25.jsonl show the same.
        return flashoptim.FlashAdamW(
            [parameter], lr=1e-2, weight_decay=0.1, quantize=False, master_weight_bits=None, fused=False
        )

    whole, sliced = (torch.nn.Parameter(start.clone()) for _ in range(2))
    plain, by_slices = optimizer_of(whole), optimizer_of(sliced)
    assert sliced_step.can_slice(by_slices, sliced)
    for gradient in gradients:
        whole.grad = gradient.clone().mul_(0.5)
        plain.step()
        sliced_step.step(by_slices, sliced, gradient, 0.5)
    assert torch.equal(whole, sliced)
    ours, theirs = by_slices.state[sliced], plain.state[whole]
    assert int(ours["step"]) == int(theirs["step"]) == 4
    assert torch.equal(ours["exp_avg"].data, theirs["exp_avg"].data)
    assert set(by_slices.state) == {sliced}


def test_small_or_quantized_tensors_are_not_sliced():
    torch = pytest.importorskip("torch")
    flashoptim = pytest.importorskip("flashoptim")
    from unsloth_fft.memory_savers import sliced_step

    small = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.bfloat16))
    assert not sliced_step.can_slice(
        flashoptim.FlashAdamW([small], lr=1.0, quantize=False, master_weight_bits=None, fused=False), small
    )
    large = torch.nn.Parameter(torch.zeros(2**13, 2**14, dtype=torch.bfloat16, device="meta"))
    assert not sliced_step.can_slice(torch.optim.AdamW([large]), large)


@pytest.mark.train
def test_a_dry_run_measures_and_leaves_the_session_as_it_was(workers, tmp_path, tiny_model, rows_file):
    file = tmp_path / "params.json"
    file.write_text(json.dumps(minimal_parameters(tiny_model, rows_file)), encoding="utf-8")
    assert workers.run("init", "--params", file, "--session", tmp_path / "s").returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    finished = workers.run("train", tmp_path / "s", "--dry-run-steps", 3, "--json")
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(finished.stdout)["measured"]
    assert len(measured["losses"]) == 3 and measured["tokens_per_second"] > 0 and measured["optimizer"] == "AdamW"
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


@pytest.mark.train
def test_a_dry_run_ends_with_a_command_that_will_be_taken(workers, tmp_path, tiny_model, rows_file):
    """Units on both sides of the comparison, and after a completed session the command that trains anew."""
    params, session, other = tmp_path / "p.json", tmp_path / "s", tmp_path / "t"
    planned = run_script(
        PLANNER, "--model", tiny_model, "--dataset", rows_file, "--seq-length", 128, "--effective-batch", 4,
        "--max-steps", 3, "--output", params,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert workers.run("init", "--params", params, "--session", session).returncode == 0
    said = workers.run("train", session, "--dry-run-steps", 3).stderr
    assert re.search(r"predicted \d+\.\d\d GiB\)", said) and re.search(r"predicted [\d,]+ tokens/s\)", said)
    assert said.splitlines()[-1] == f"next: unsloth_fft_tool.py train {session}"
    assert workers.run("train", "--session", session).returncode == 0
    said = workers.run("train", session, "--dry-run-steps", 3).stderr
    assert (
        said.splitlines()[-1] == f"next: unsloth_fft_tool.py train --params {session}/params.json --session {session}-2"
    )
    assert workers.run("train", "--params", session / "params.json", "--session", other).returncode == 0


def test_a_dry_run_wants_whole_steps(workers, tmp_path):
    assert_clear_error(workers.run("train", tmp_path, "--dry-run-steps", "0"), 2, "whole number from 1")
