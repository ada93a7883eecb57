"""Of a folder with several files of weights, those that loaders load; of names with prefixes, those that are meant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from checkpoints import EMBEDDING, HEAD, NORM, QUERY, bf16, f32, small_weights, step, stored, write_file, write_folder
from unsloth_fft.auditing.audit import audit_folders
from unsloth_fft.core.errors import BadInput
from unsloth_fft.reporting.audit_table import render
from unsloth_fft.weights import model_folder
from unsloth_fft.weights.checkpoint import open_checkpoint


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "base", stored(small_weights(), f32), shards=3)


def moved() -> dict[str, np.ndarray]:
    return {name: step(values, 1e-4) for name, values in small_weights().items()}


# --- sets of weights ---


def test_a_whole_file_is_read_before_the_shards_an_earlier_save_left(base: Path, tmp_path: Path) -> None:
    trained = write_folder(tmp_path / "trained", stored(small_weights(), f32), shards=3)
    write_file(trained / "model.safetensors", stored(moved(), f32))
    audit = audit_folders(base, trained).to_json()
    assert (audit["verdict"], audit["changed"]) == ("full", audit["elements"])
    assert [word for word in audit["remarks"] if "holds two sets of weights: model.safetensors was read" in word]
    assert "model.safetensors was read" in " ".join(render(audit).split())


def test_shards_are_read_where_there_is_no_whole_file_and_others_are_named(base: Path, tmp_path: Path) -> None:
    trained = write_folder(tmp_path / "trained", stored(moved(), f32), shards=3)
    write_file(trained / "consolidated.safetensors", {"layers.0.attention.wq.weight": bf16(np.ones((4, 4)))})
    audit = audit_folders(base, trained).to_json()
    assert audit["verdict"] == "full"
    assert ["consolidated.safetensors" in word and "not read" in word for word in audit["remarks"]] == [True]


def test_an_index_that_names_the_whole_file_is_one_set(base: Path, tmp_path: Path) -> None:
    trained = write_folder(tmp_path / "trained", stored(moved(), f32))
    names = dict.fromkeys(moved(), "model.safetensors")
    (trained / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    audit = audit_folders(base, trained).to_json()
    assert (audit["verdict"], audit["remarks"]) == ("full", [])


def test_a_configuration_may_name_the_file_itself(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "named", stored(small_weights(), f32), config={"transformers_weights": "other.safetensors"}
    )
    write_file(folder / "other.safetensors", {QUERY: f32(np.ones((2, 2)))})
    assert list(open_checkpoint(folder).tensors) == [QUERY]


def test_shards_without_an_index_are_compared_but_not_trained_from(base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shards", stored(moved(), f32), shards=3)
    (folder / "model.safetensors.index.json").unlink()
    audit = audit_folders(base, folder).to_json()
    assert audit["verdict"] == "full" and "transformers does not load it" in audit["remarks"][0]
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BadInput, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        model_folder.check(folder)


# --- prefixes ---


def renamed(prefix: str, old: str = "") -> dict[str, np.ndarray]:
    return {prefix + name.removeprefix(old): values for name, values in moved().items()}


WRAPPED = [
    ("module.", ""),
    ("_orig_mod.", ""),
    ("module._orig_mod.", ""),
    ("base_model.model.", ""),
    ("_fsdp_wrapped_module.", ""),
]


@pytest.mark.parametrize(("prefix", "old"), WRAPPED)
def test_the_prefix_of_a_wrapper_is_named_and_compared_through(
    base: Path, tmp_path: Path, prefix: str, old: str
) -> None:
    trained = write_folder(tmp_path / "trained", stored(renamed(prefix, old), f32))
    audit = audit_folders(base, trained).to_json()
    assert (audit["verdict"], audit["changed"]) == ("full", audit["elements"])
    assert audit["prefixes"] == [{"base": "", "trained": prefix, "tensors": 5}]
    assert len([word for word in audit["remarks"] if "save the unwrapped model" in word]) == 1
    assert {tensor["name"] for tensor in audit["tensors"]} == set(small_weights())
    back = audit_folders(trained, base).to_json()
    assert back["verdict"] == "full"


def test_the_decoder_of_a_multimodal_model_is_compared_with_the_bare_one(base: Path, tmp_path: Path) -> None:
    inner = {name.replace("model.", "model.language_model.", 1): values for name, values in moved().items()}
    trained = write_folder(tmp_path / "trained", stored(inner, f32))
    audit = audit_folders(base, trained).to_json()
    assert audit["verdict"] == "full"
    assert audit["prefixes"] == [{"base": "model.", "trained": "model.language_model.", "tensors": 4}]
    assert any("model.language_model." in word for word in audit["remarks"])


@pytest.mark.parametrize("prefix", ["language_model.model.", "", "transformer."])
def test_other_prefixes_of_the_same_decoder_are_compared_through(base: Path, tmp_path: Path, prefix: str) -> None:
    weights = {name.replace("model.", prefix, 1): values for name, values in moved().items()}
    assert audit_folders(base, write_folder(tmp_path / "trained", stored(weights, f32))).to_json()["verdict"] == "full"


def test_a_wrapper_inside_every_layer_is_one_prefix(base: Path, tmp_path: Path) -> None:
    weights = {
        name.replace("layers.0.", "layers.0._checkpoint_wrapped_module.").replace(
            "layers.1.", "layers.1._checkpoint_wrapped_module."
        ): values
        for name, values in moved().items()
    }
    audit = audit_folders(base, write_folder(tmp_path / "trained", stored(weights, f32))).to_json()
    assert audit["verdict"] == "full"
    assert [(item["base"], item["tensors"]) for item in audit["prefixes"]] == [("model.layers.N.", 2)]


def test_a_prefix_hides_neither_a_frozen_tensor_nor_a_missing_one(base: Path, tmp_path: Path) -> None:
    weights = renamed("module.")
    weights[f"module.{NORM}"] = small_weights()[NORM]
    audit = audit_folders(base, write_folder(tmp_path / "trained", stored(weights, f32))).to_json()
    assert (audit["verdict"], audit["unchanged_tensors"]) == ("partial", [NORM])
    del weights[f"module.{HEAD}"]
    lacking = audit_folders(base, write_folder(tmp_path / "lacking", stored(weights, f32))).to_json()
    assert (lacking["verdict"], lacking["missing_tensors"]) == ("incomparable", [HEAD])


def test_two_names_that_would_become_one_are_not_taken_for_each_other(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", {EMBEDDING: f32(np.ones((4, 4)))})
    both = {f"module.{EMBEDDING}": f32(np.zeros((4, 4))), f"_orig_mod.{EMBEDDING}": f32(np.zeros((4, 4)))}
    audit = audit_folders(one, write_folder(tmp_path / "both", both)).to_json()
    assert (audit["verdict"], len(audit["extra_tensors"])) == ("incomparable", 2)


def test_layers_that_predict_further_tokens_are_not_missed(base: Path, tmp_path: Path) -> None:
    weights = {**small_weights(), "mtp.layers.0.mlp.up_proj.weight": np.ones((4, 4), np.float32)}
    weights["model.layers.2.mlp.up_proj.weight"] = np.ones((4, 4), np.float32)
    old = write_folder(tmp_path / "mtp", stored(weights, f32), config={"num_hidden_layers": 2})
    audit = audit_folders(old, write_folder(tmp_path / "trained", stored(moved(), f32))).to_json()
    assert audit["verdict"] == "full" and len(audit["unloaded_tensors"]) == 2
    assert any("predict further tokens" in word for word in audit["remarks"])


def test_blocks_of_a_vision_tower_are_missed_whatever_their_number(base: Path, tmp_path: Path) -> None:
    tower = "model.visual.blocks.7.attn.qkv.weight"
    weights = {**small_weights(), tower: np.ones((4, 4), np.float32)}
    config = {"text_config": {"num_hidden_layers": 2}}
    old = write_folder(tmp_path / "old", stored(weights, f32), config=config)
    audit = audit_folders(old, write_folder(tmp_path / "trained", stored(moved(), f32))).to_json()
    assert (audit["verdict"], audit["missing_tensors"], audit["unloaded_tensors"]) == ("incomparable", [tower], [])
