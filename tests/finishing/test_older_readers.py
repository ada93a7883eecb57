"""An exported model is read everywhere its base was: the keys of last year's readers stand beside the new ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import EMBEDDING, HEAD, f32, small_weights, stored, write_folder
from conftest import conversation_rows, minimal_parameters, write_jsonl, write_parameters
from unsloth_fft.finishing import older_readers

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "rope_theta": 500000.0,
    "rope_scaling": LLAMA3,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "pretraining_tp": 1,
    "transformers_version": "4.43.0",
    "_name_or_path": "/somewhere/private",
    "quantization_config": {"quant_method": "mxfp4"},
    "auto_map": {"AutoModel": "modeling.Model"},
}
NEW = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "rope_parameters": {**LLAMA3, "rope_theta": 500000.0},
    "dtype": "float16",
    "use_cache": False,
    "transformers_version": "5.17.0",
}


def test_the_base_s_keys_stand_beside_the_new_ones() -> None:
    found = older_readers.config(NEW, BASE)
    assert (found["rope_theta"], found["rope_scaling"]) == (500000.0, LLAMA3)
    assert found["rope_parameters"] == NEW["rope_parameters"]
    assert (found["dtype"], found["torch_dtype"]) == ("float16", "float16"), "the type of the exported weights"
    assert found["use_cache"] is True and found["pretraining_tp"] == 1
    assert found["transformers_version"] == "5.17.0"
    assert not {"_name_or_path", "quantization_config", "auto_map"} & set(found)


def test_what_was_trained_counts_where_the_base_says_otherwise() -> None:
    """Unsloth may have stretched the positions: the old names tell of the model that was trained."""
    stretched = {**NEW, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}
    found = older_readers.config(stretched, {**BASE, "rope_scaling": {"type": "yarn", "factor": 4.0}})
    assert found["rope_theta"] == 10000.0
    assert found["rope_scaling"] == {"rope_type": "linear", "factor": 2.0, "type": "linear"}


def test_a_base_of_transformers_5_gives_older_names_too() -> None:
    found = older_readers.config(NEW, {key: value for key, value in NEW.items() if key != "use_cache"})
    assert (found["rope_theta"], found["rope_scaling"], found["torch_dtype"]) == (500000.0, LLAMA3, "float16")
    plain = older_readers.config({**NEW, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {})
    assert (plain["rope_theta"], plain["rope_scaling"]) == (1e6, None)


def test_layers_of_two_kinds_keep_both_bases() -> None:
    parameters = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    text = {"model_type": "gemma3_text", "rope_parameters": parameters, "dtype": "bfloat16"}
    found = older_readers.config({"model_type": "gemma3", "text_config": text, "dtype": "bfloat16"}, {})
    inner = found["text_config"]
    assert (inner["rope_theta"], inner["rope_local_base_freq"]) == (1e6, 1e4)
    assert inner["rope_scaling"] == {"rope_type": "linear", "factor": 8.0} and inner["torch_dtype"] == "bfloat16"


def test_the_tokenizer_has_a_class_and_a_length_that_older_readers_know() -> None:
    base = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 131072, "chat_template": "old", "x": 1}
    new = {"tokenizer_class": "TokenizersBackend", "model_max_length": 256, "padding_side": "right"}
    found = older_readers.tokenizer({**new, "extra_special_tokens": ["<a>"]}, base, "{{ new }}")
    assert (found["tokenizer_class"], found["model_max_length"]) == ("PreTrainedTokenizerFast", 131072)
    assert found["chat_template"] == "{{ new }}" and found["x"] == 1 and "padding_side" not in found
    assert found["additional_special_tokens"] == ["<a>"] and "extra_special_tokens" not in found
    alone = older_readers.tokenizer(new, {}, None)
    assert alone == {"tokenizer_class": "PreTrainedTokenizerFast"}
    named = older_readers.tokenizer({**new, "tokenizer_class": "Qwen2Tokenizer"}, base, None)
    assert named["tokenizer_class"] == "Qwen2Tokenizer"


def test_generation_settings_keep_what_only_the_base_says() -> None:
    found = older_readers.generation({"eos_token_id": [1, 2]}, {"eos_token_id": 1, "top_k": 50, "_name_or_path": "x"})
    assert found == {"eos_token_id": [1, 2], "top_k": 50}


@pytest.mark.parametrize(("head", "tied"), [(2.0, False), (1.0, True), (None, True)])
def test_a_head_of_its_own_is_not_called_tied(tmp_path: Path, head: float | None, tied: bool) -> None:
    """Readers of transformers 4 would put the embedding in its place (huggingface/transformers#45127)."""
    weights = small_weights()
    del weights[HEAD]
    if head is not None:
        weights[HEAD] = weights[EMBEDDING] * head
    config = {"model_type": "llama", "tie_word_embeddings": True}
    folder = write_folder(tmp_path / "out", stored(weights, f32), config=config)
    older_readers.complete(folder, None)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is tied


# --- an exported model, read by transformers 5 and 4 ---


@pytest.fixture(scope="module")
def exported(workers, tiny_model, tmp_path_factory) -> tuple[Path, Path]:
    """(base, exported): a tiny model with the configuration of Llama 3.1 as it was published, trained two steps."""
    folder = tmp_path_factory.mktemp("older")
    base = Path(shutil.copytree(tiny_model, folder / "base"))
    config = json.loads((base / "config.json").read_text())
    for key in ("rope_parameters", "dtype", "use_cache"):
        config.pop(key, None)
    config |= {key: BASE[key] for key in ("rope_theta", "rope_scaling", "use_cache", "pretraining_tp")}
    config |= {"torch_dtype": "float32", "max_position_embeddings": 131072}
    (base / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    known = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 131072}
    (base / "tokenizer_config.json").write_text(json.dumps({**tokenizer, **known}))
    rows = write_jsonl(folder / "rows.jsonl", conversation_rows(20))
    params = write_parameters(folder / "p.json", minimal_parameters(base, rows, schedule={"max_steps": 2}))
    for command in (
        ("init", "--params", params, "--session", folder / "s"),
        ("train", folder / "s"),
        ("export", folder / "s", "--to", folder / "out", "--dtype", "float32"),
    ):
        finished = workers.run(*command)
        assert finished.returncode == 0, finished.stderr
    return base, folder / "out"


@pytest.mark.train
def test_an_export_has_every_key_of_its_base(exported: tuple[Path, Path]) -> None:
    base, out = exported
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        before, after = json.loads((base / name).read_text()), json.loads((out / name).read_text())
        assert set(before) - {"_name_or_path", "added_tokens_decoder"} <= set(after), name
    config = json.loads((out / "config.json").read_text())
    assert (config["rope_theta"], config["rope_scaling"], config["torch_dtype"]) == (500000.0, LLAMA3, "float32")
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    assert (tokenizer["tokenizer_class"], tokenizer["model_max_length"]) == ("PreTrainedTokenizerFast", 131072)


READ = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval().float()
batch = tokenizer("What is three plus one? " * 6, return_tensors="pt")
talk = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
with torch.no_grad():
    logits = model(input_ids=batch["input_ids"]).logits[0, -1].tolist()
print(json.dumps({"version": transformers.__version__, "ids": batch["input_ids"].tolist(), "talk": talk,
                  "longest": tokenizer.model_max_length, "logits": logits}))
"""


def read_by(python: str, folder: Path) -> dict:
    finished = subprocess.run([python, "-c", READ, folder], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def older_transformers() -> str:
    """A Python with transformers 4 and torch among those of FFT_CONSUMERS. Skips the test without one."""
    for python in filter(None, os.environ.get("FFT_CONSUMERS", "").split(os.pathsep)):
        probe = "import torch, transformers, sys; sys.exit(not transformers.__version__.startswith('4.'))"
        if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python with transformers 4 is named in FFT_CONSUMERS; see references/handoff.md")


@pytest.mark.train
def test_transformers_4_reads_the_same_model(exported: tuple[Path, Path]) -> None:
    base, out = exported
    old = older_transformers()
    then, now = read_by(old, out), read_by(sys.executable, out)
    assert then["version"].startswith("4.") and not now["version"].startswith("4.")
    assert (then["ids"], then["talk"], then["longest"]) == (now["ids"], now["talk"], now["longest"])
    assert max(abs(a - b) for a, b in zip(then["logits"], now["logits"], strict=True)) < 1e-5
    before = read_by(old, base)
    assert (before["ids"], before["longest"]) == (then["ids"], then["longest"])
    assert max(abs(a - b) for a, b in zip(before["logits"], then["logits"], strict=True)) > 1e-4, "it was trained"


def test_a_scaling_that_came_with_transformers_5_is_not_written_for_older_readers():
    full = {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
    new = {"model_type": "gemma4_text", "rope_parameters": {"full_attention": full, "sliding_attention": {}}}
    assert "rope_scaling" not in older_readers.config(new, {})
