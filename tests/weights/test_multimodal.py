"""The language model of a multimodal checkpoint is taken out and put back; everything else stays byte for byte."""

from __future__ import annotations

import json

import numpy as np
import pytest

from checkpoints import bf16, f32, write_folder
from unsloth_fft.auditing.audit import audit_folders
from unsloth_fft.core.errors import BadInput
from unsloth_fft.weights import multimodal
from unsloth_fft.weights.checkpoint import open_checkpoint

TEXT = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 1, "dtype": "bfloat16"}
CONFIG = {"model_type": "gemma3", "text_config": TEXT, "vision_config": {}, "eos_token_id": 7, "dtype": "bfloat16"}
PREFIXES = ["language_model.model.", "model.language_model."]


def weights(seed=0):
    random = np.random.default_rng(seed)
    return {
        name: random.normal(0, 0.02, shape).astype(np.float32)
        for name, shape in {"embed_tokens.weight": (600, 64), "layers.0.mlp.up_proj.weight": (96, 64)}.items()
    }


def wrapped(folder, prefix, *, head=False, shards=1):
    tensors = {prefix + name: bf16(value) for name, value in weights().items()}
    tensors |= {"vision_tower.patch.weight": f32(np.ones((8, 8))), "mtp.layers.0.weight": bf16(np.ones((4, 4)))}
    if head:
        tensors["language_model.lm_head.weight"] = bf16(weights(5)["embed_tokens.weight"])
    write_folder(folder, tensors, config=CONFIG, shards=shards)
    (folder / "preprocessor_config.json").write_text('{"size": 3}')
    (folder / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def stored(folder):
    return {name: (t.dtype, t.shape) for name, t in open_checkpoint(folder).tensors.items()}


def bytes_of(folder, name):
    tensor = open_checkpoint(folder).tensors[name]
    return tensor.file.read_bytes()[tensor.start : tensor.start + tensor.bytes]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_language_model_goes_by_the_names_it_has_alone(tmp_path, prefix, shards):
    base = wrapped(tmp_path / "base", prefix, shards=shards)
    parted = multimodal.write_text_model(base, tmp_path / "text")
    assert stored(tmp_path / "text").keys() == {f"model.{name}" for name in weights()}
    assert parted.kept.keys() == {"vision_tower.patch.weight", "mtp.layers.0.weight"} and parted.kept_elements == 80
    for name in weights():
        assert bytes_of(tmp_path / "text", f"model.{name}") == bytes_of(base, prefix + name)


def test_its_config_is_the_text_part_with_the_wrappers_special_tokens(tmp_path):
    multimodal.write_text_model(wrapped(tmp_path / "base", PREFIXES[0]), tmp_path / "text")
    config = json.loads((tmp_path / "text" / "config.json").read_text())
    assert config["model_type"] == "gemma3_text" and config["eos_token_id"] == 7 and "vision_config" not in config
    assert config["tie_word_embeddings"] is True, "no head is stored, so it is the embedding"


def test_a_tokenizer_is_all_that_text_needs_of_the_processor(tmp_path):
    multimodal.write_text_model(wrapped(tmp_path / "base", PREFIXES[0]), tmp_path / "text")
    names = {path.name for path in (tmp_path / "text").iterdir()}
    assert "preprocessor_config.json" not in names and "tokenizer.json" in names
    assert (tmp_path / "text" / "chat_template.jinja").read_text() == "{{ messages }}"


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_was_trained_comes_back_in_the_bases_layout(tmp_path, prefix, shards):
    base = wrapped(tmp_path / "base", prefix, head=True, shards=shards)
    trained = {f"model.{name}": f32(value + 1) for name, value in weights().items()}
    write_folder(tmp_path / "trained", trained, config={**TEXT, "dtype": "float32"})
    multimodal.write_back(base, tmp_path / "trained", tmp_path / "out")
    now = stored(tmp_path / "out")
    assert now.keys() == stored(base).keys()
    assert now[prefix + "embed_tokens.weight"][0] == "F32" and now["vision_tower.patch.weight"][0] == "F32"
    for name in ("vision_tower.patch.weight", "mtp.layers.0.weight"):
        assert bytes_of(tmp_path / "out", name) == bytes_of(base, name)
    head = bytes_of(tmp_path / "out", "language_model.lm_head.weight")
    assert head == bytes_of(tmp_path / "out", prefix + "embed_tokens.weight"), "a tied head follows its embedding"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == config["text_config"]["dtype"] == "float32" and "vision_config" in config
    assert (tmp_path / "out" / "preprocessor_config.json").read_text() == '{"size": 3}'


def test_a_trained_model_that_lacks_a_tensor_is_refused_before_anything_is_written(tmp_path):
    base = wrapped(tmp_path / "base", PREFIXES[0])
    write_folder(tmp_path / "trained", {"model.embed_tokens.weight": f32(np.ones((600, 64)))}, config=TEXT)
    with pytest.raises(BadInput, match="up_proj.weight is missing"):
        multimodal.write_back(base, tmp_path / "trained", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrapper_whose_language_model_goes_by_other_names_is_refused(tmp_path):
    write_folder(tmp_path / "base", {"decoder.embed_tokens.weight": f32(np.ones((4, 4)))}, config=CONFIG)
    with pytest.raises(BadInput, match="no tensor is named"):
        multimodal.write_text_model(tmp_path / "base", tmp_path / "text")


def audited(tmp_path, *, tower):
    base = wrapped(tmp_path / "base", PREFIXES[1])
    tensors = {PREFIXES[1] + name: bf16(value * 1.5) for name, value in weights().items()}
    moved = np.ones((8, 8), np.float32)
    moved[:tower] *= 2
    tensors |= {"vision_tower.patch.weight": f32(moved), "mtp.layers.0.weight": bf16(np.ones((4, 4)))}
    write_folder(tmp_path / "trained", tensors, config=CONFIG)
    return audit_folders(base, tmp_path / "trained").judgement


def test_towers_that_stayed_are_kept_as_planned_and_the_verdict_is_full(tmp_path):
    judged = audited(tmp_path, tower=0)
    assert judged.name == "full"
    assert [cause.name for cause in judged.causes if "vision_tower.patch.weight" in cause.tensors] == ["kept_towers"]


def test_a_tower_that_half_moved_is_judged_as_any_tensor(tmp_path):
    judged = audited(tmp_path, tower=4)
    assert judged.name == "partial" and "kept_towers" not in [cause.name for cause in judged.causes]
