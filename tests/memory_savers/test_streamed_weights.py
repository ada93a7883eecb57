"""Weights streamed from host memory layer by layer: losses, weights, checkpoints and audit are a resident run's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import small_llama
from conftest import conversation_rows, minimal_parameters
from small_llama import LAYERS
from small_sessions import snapshot, state_of
from unsloth_fft.core.errors import BadInput, TrainingFailed
from unsloth_fft.settings import parameters as params
from workers import Workers

OFFLOADED = {
    "memory": {"gradient_checkpointing": "true", "gradient_offload": True},
    "optimizer": {"name": "adamw_torch_fused", "learning_rate": 2e-3, "state_offload": True},
}
STREAMED = {**OFFLOADED, "memory": {**OFFLOADED["memory"], "weight_offload": True}}
BATCH = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "effective_batch_size": 4}


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory) -> Path:
    pytest.importorskip("transformers")
    from unsloth_fft.demo import small_model

    folder = tmp_path_factory.mktemp("deep") / "model"
    texts = [turn["content"] for row in conversation_rows(60) for turn in row["messages"]]
    size = small_model.Size(hidden=32, intermediate=64, layers=LAYERS, heads=4, kv_heads=2)
    small_model.make(folder, texts, max_length=128, size=size)
    return folder


def parameters_file(folder: Path, model: Path, rows: Path, settings: dict) -> Path:
    schedule = {"max_steps": 6, "save_steps": 2}
    file = folder / "params.json"
    folder.mkdir(exist_ok=True)
    whole = minimal_parameters(model, rows, batch=BATCH, schedule=schedule, **settings)
    file.write_text(json.dumps(whole), encoding="utf-8")
    return file


def losses_of(session: Path) -> list[float]:
    lines = [json.loads(line) for line in (session / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.mark.train
def test_a_streamed_run_that_was_killed_and_resumed_is_the_resident_one_to_the_bit(
    workers: Workers, tmp_path, deep_model, rows_file
):
    resident, streamed = tmp_path / "resident" / "session", tmp_path / "streamed" / "session"
    file = parameters_file(resident.parent, deep_model, rows_file, OFFLOADED)
    done = workers.run("train", "--params", file, "--session", resident)
    assert done.returncode == 0, done.stderr
    file = parameters_file(streamed.parent, deep_model, rows_file, STREAMED)
    assert workers.killed_after(3, "train", "--params", file, "--session", streamed).returncode == -9
    done = workers.run("train", streamed, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["audit"]["verdict"] == "full"

    assert len(losses_of(resident)) == 6
    assert losses_of(streamed) == losses_of(resident)
    assert snapshot(streamed / "model") == snapshot(resident / "model")
    ends = [state_of(session)["result"] for session in (streamed, resident)]
    assert ends[0]["eval_loss_after"] == ends[1]["eval_loss_after"] and ends[0]["eval_loss_after"] > 0
    saved = sorted((resident / "checkpoints").glob("checkpoint-*/*.safetensors"))
    assert saved
    assert all((streamed / file.relative_to(resident)).read_bytes() == file.read_bytes() for file in saved)


@pytest.fixture
def llama():
    return small_llama.make()


def loss_of(model):
    import torch

    ids = torch.arange(24).reshape(2, 12)
    return model(input_ids=ids, labels=ids).loss


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_layers_share_two_buffers_and_each_is_brought_once_a_pass(llama, use_reentrant):
    import torch

    from unsloth_fft.memory_savers import streamed_weights

    llama.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    llama.enable_input_require_grads()
    loss_of(llama).backward()
    expected = {name: parameter.grad.clone() for name, parameter in llama.named_parameters()}
    llama.zero_grad()

    before = {name: parameter.detach().clone() for name, parameter in llama.named_parameters()}
    streamed = streamed_weights.install(llama)
    assert streamed_weights.of(llama) is streamed
    loss_of(llama).backward()
    assert all(torch.equal(parameter.grad, expected[name]) for name, parameter in llama.named_parameters())
    layer = sum(parameter.nbytes for parameter in llama.model.layers[0].parameters())
    assert streamed.bytes_brought == pytest.approx((LAYERS + LAYERS - 2) * layer, rel=0.1)  # padding of small tensors

    streamed.settle()
    assert all(torch.equal(parameter, before[name]) for name, parameter in llama.named_parameters())


def test_what_is_loaded_after_an_evaluation_is_what_the_next_pass_uses(llama):
    import torch

    from unsloth_fft.memory_savers import streamed_weights

    fresh = {name: torch.randn_like(tensor) / 8 for name, tensor in llama.state_dict().items()}
    streamed_weights.install(llama)
    with torch.no_grad():
        old = loss_of(llama.eval())
        llama.load_state_dict(fresh)
        new = loss_of(llama)
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in llama.state_dict().items())
    assert new != old


def test_a_trainer_that_moves_the_model_leaves_its_streamed_layers_where_they_are(llama):
    import torch

    from unsloth_fft.memory_savers import streamed_weights

    streamed_weights.install(llama)
    llama.to(torch.float64)
    assert llama.lm_head.weight.dtype == torch.float64
    assert {parameter.dtype for parameter in llama.model.layers.parameters()} == {torch.float32}


def test_layers_that_are_not_recomputed_are_an_error_and_no_wrong_gradient(llama):
    from unsloth_fft.memory_savers import streamed_weights

    llama.gradient_checkpointing_disable()
    streamed_weights.install(llama)
    with pytest.raises(TrainingFailed, match="not recomputed"):
        loss_of(llama).backward()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"memory": {"gradient_checkpointing": "true", "weight_offload": True}}, "weight_offload.*gradient_offload"),
        (
            {**STREAMED, "memory": {**STREAMED["memory"], "gradient_checkpointing": "off"}},
            "weight_offload.*every layer recomputed",
        ),
        (
            {**STREAMED, "memory": {**STREAMED["memory"], "checkpointed_layers": 1}},
            "weight_offload.*every layer recomputed",
        ),
    ],
)
def test_streaming_needs_gradients_on_the_host_and_recomputed_layers(tiny_model, rows_file, changes, match):
    with pytest.raises(BadInput, match=match):
        params.from_json(minimal_parameters(tiny_model, rows_file, **changes), "the test")
