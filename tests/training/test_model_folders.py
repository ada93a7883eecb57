"""What will certainly end a run is found before it: in a model's folder, in its rows, in the process's environment."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from checkpoints import EMBEDDING, bf16, f32, small_weights, stored, write_folder
from conftest import (
    PLANNER,
    TOOL,
    assert_clear_error,
    conversation_rows,
    minimal_parameters,
    run_script,
    write_jsonl,
    write_parameters,
)
from unsloth_fft.commands import init
from unsloth_fft.core.errors import BadInput
from unsloth_fft.models import catalogue
from unsloth_fft.models.config import positions, quantization_of
from unsloth_fft.training import foreign_launcher


def edited(folder: Path, name: str, **changes: Any) -> Path:
    """The folder after keys of one of its JSON files were set."""
    file = folder / name
    value = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**value, **changes}))
    return folder


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def initialized(tmp_path: Path, rows_file: Path) -> Callable[..., Path]:
    """Makes a session, in this process."""

    def make(model: Path, rows: Path = rows_file, length: int = 128, **sections: Any) -> Path:
        value = minimal_parameters(model, rows, **sections)
        value["model"]["max_seq_length"] = length
        init.initialize(write_parameters(tmp_path / "p.json", value), tmp_path / "session")
        return tmp_path / "session"

    return make


# --- generation settings ---


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.9, "top_p": 0.6}, {"top_k": 20, "do_sample": False}, {"min_p": 0.1}], ids=str
)
def test_sampling_settings_without_do_sample_are_mended_and_said(
    model: Path, initialized: Callable[..., Path], settings: dict, capsys: pytest.CaptureFixture
) -> None:
    initialized(edited(model, "generation_config.json", **settings))
    said = " ".join(capsys.readouterr().err.split())
    assert "without do_sample" in said and str(next(iter(settings))) in said


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"early_stopping": True}, "num_beams"),
        ({"length_penalty": 2.0}, "num_beams"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"cache_implementation": "magic"}, "cache_implementation"),
        ({"pad_token_id": -1, "temperature": 0.5}, "pad_token_id"),
        ({"suppress_tokens": [3], "forced_eos_token_id": 3}, "forced_eos_token_id"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_saved_are_refused_at_init(
    model: Path, initialized: Callable[..., Path], settings: dict, word: str
) -> None:
    with pytest.raises(BadInput, match="cannot be saved again after training") as refusal:
        initialized(edited(model, "generation_config.json", **settings))
    assert word in refusal.value.message and "generation_config.json" in refusal.value.message


def test_settings_of_greedy_models_pass_in_silence(
    model: Path, initialized: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    initialized(edited(model, "generation_config.json", temperature=0.6, top_p=0.9, do_sample=True))
    assert "warning" not in capsys.readouterr().err


# --- tokens beyond the embedding ---


def with_token(folder: Path, content: str, number: int) -> Path:
    file = folder / "tokenizer.json"
    value = json.loads(file.read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    value["added_tokens"].append({"id": number, "content": content, "special": True, **flags})
    file.write_text(json.dumps(value))
    return folder


@pytest.fixture
def rows_with_token(tmp_path: Path) -> Path:
    rows = conversation_rows(40)
    rows[7]["messages"][1]["content"] = "<|cmd|> move"
    return write_jsonl(tmp_path / "commands.jsonl", rows)


def embedding_rows(model: Path) -> int:
    return int(json.loads((model / "config.json").read_text())["vocab_size"])


def test_a_token_without_an_embedding_is_refused_with_its_line(
    model: Path, initialized: Callable[..., Path], rows_with_token: Path
) -> None:
    number = embedding_rows(model)
    with pytest.raises(BadInput) as refusal:
        initialized(with_token(model, "<|cmd|>", number), rows_with_token)
    assert f"line 8: token id {number} (<|cmd|>), beyond the {number} rows" in refusal.value.message
    assert "resize_token_embeddings" in str(refusal.value.hint)


def test_the_data_command_refuses_it_too(model: Path, rows_with_token: Path) -> None:
    with_token(model, "<|cmd|>", embedding_rows(model) + 3)
    finished = run_script(TOOL, "data", rows_with_token, "--model", model, "--max-seq-length", 128)
    assert_clear_error(finished, 2, "(<|cmd|>), beyond the", "resize_token_embeddings")


def test_a_token_that_no_row_holds_does_no_harm(model: Path, initialized: Callable[..., Path]) -> None:
    assert initialized(with_token(model, "<|never|>", embedding_rows(model))).is_dir()


@pytest.mark.parametrize("role", ["pad_token", "eos_token"])
def test_a_token_that_every_row_gets_is_refused_without_a_row(
    model: Path, initialized: Callable[..., Path], role: str
) -> None:
    with_token(model, "<|late|>", embedding_rows(model))
    with pytest.raises(BadInput, match=role):
        initialized(edited(model, "tokenizer_config.json", **{role: "<|late|>"}))


def test_a_template_that_writes_it_is_refused(model: Path, initialized: Callable[..., Path]) -> None:
    with_token(model, "<|late|>", embedding_rows(model))
    (model / "chat_template.jinja").write_text("{% for m in messages %}<|late|>{{ m.content }}{% endfor %}")
    with pytest.raises(BadInput, match=r"chat_template\.jinja: token id"):
        initialized(model)


# --- weights that would load as something else ---


@pytest.mark.parametrize("part", ["text_config", "llm_config", "thinker_config"])
def test_quantization_inside_a_part_of_the_configuration_is_found(part: str) -> None:
    nested = {"model_type": "x", part: {"quantization_config": {"quant_method": "awq"}}}
    assert quantization_of(nested) == "awq"
    assert quantization_of({"outer": nested}) == "awq"
    assert quantization_of({part: {"quantization_config": {"quant_method": "mxfp4"}}}) is None


def test_a_model_with_a_quantized_text_part_is_refused_by_plan_and_init(
    model: Path, initialized: Callable[..., Path]
) -> None:
    config = json.loads((model / "config.json").read_text())
    quantized = {**config, "quantization_config": {"quant_method": "bitsandbytes"}}
    (model / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": quantized}))
    with pytest.raises(BadInput, match="bitsandbytes"):
        initialized(model)
    with pytest.raises(BadInput, match="bitsandbytes"):
        catalogue.load_shape(str(model))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("module.model.norm.weight", "random weights"),
        ("model._orig_mod.norm.weight", "random weights"),
        ("model.layers.0.mlp.up_proj.qweight", "quantized"),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", "quantized"),
        ("model.layers.0.mlp.up_proj.weight.absmax", "quantized"),
    ],
)
def test_weights_under_names_that_no_loader_looks_for_are_refused(
    model: Path, initialized: Callable[..., Path], name: str, word: str
) -> None:
    write_folder(model, {**stored(small_weights(), f32), name: bf16(small_weights()[EMBEDDING])})
    with pytest.raises(BadInput, match=word) as refusal:
        initialized(model)
    assert name in refusal.value.message


def test_weights_that_lack_a_tensor_are_refused_before_it_is_made_up(
    model: Path, initialized: Callable[..., Path]
) -> None:
    """As huggingface/accelerate#1054 had it: loading says a word and begins with random values."""
    file = model / "model.safetensors"
    size = int.from_bytes((data := file.read_bytes())[:8], "little")
    tensors = json.loads(data[8 : 8 + size])
    kept = {}
    for name, entry in tensors.items():
        if name != "__metadata__" and not name.endswith("layers.1.mlp.up_proj.weight"):
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            kept[name] = ("F32", np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"]))
    assert len(kept) == len(tensors) - 2
    write_folder(model, kept)
    with pytest.raises(BadInput, match="would fill the rest with random values"):
        initialized(model)


def test_two_sets_of_weights_are_said_before_training(
    model: Path, initialized: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    write_folder(model, stored(small_weights(), f32), shards=2)
    initialized(model)
    assert "holds two sets of weights" in " ".join(capsys.readouterr().err.split())


# --- lengths ---


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"rope_scaling": YARN}, 256),
        ({"rope_parameters": YARN}, 256),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, 400),
        ({"rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default"}}}, 256),
        ({"rope_scaling": {**YARN, "factor": 1.0}}, 100),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}}, 100),
        ({"rope_scaling": {"type": "yarn", "factor": "four"}}, 100),
        ({"rope_scaling": None}, 100),
    ],
)
def test_rows_may_be_as_long_as_the_scaling_reaches(config: dict, longest: int) -> None:
    assert positions(config, 100) == longest


def test_init_and_plan_allow_what_yarn_reaches_and_no_more(model: Path, initialized: Callable[..., Path]) -> None:
    edited(model, "config.json", max_position_embeddings=64, rope_scaling=YARN)
    plan = (PLANNER, "--model", model, "--max-steps", 3, "--vram-gib", 8, "--seq-length")
    assert run_script(*plan, 256).returncode == 0
    assert_clear_error(run_script(*plan, 257), 2, "256")
    with pytest.raises(BadInput, match="256"):
        initialized(model, length=257)
    assert initialized(model, length=256).is_dir()


# --- launchers ---


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "2", "RANK": "0"},
        {"RANK": "1"},
        {"LOCAL_RANK": "3"},
        {"ACCELERATE_MIXED_PRECISION": "fp16"},
        {"ACCELERATE_USE_FSDP": "true"},
        {"ACCELERATE_USE_DEEPSPEED": "1"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8"},
    ],
    ids=str,
)
def test_what_another_launcher_set_up_is_refused_by_name(variables: dict[str, str]) -> None:
    with pytest.raises(BadInput) as refusal:
        foreign_launcher.refuse(variables)
    name, value = list(variables.items())[-1 if "RANK" not in variables else 0]
    assert f"{name}={value}" in refusal.value.message and f"unset {name}" in str(refusal.value.hint)


def test_a_launcher_of_one_process_that_asks_for_nothing_passes() -> None:
    alone = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "PATH": "/bin"}
    nothing = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_CPU": "False"}
    foreign_launcher.refuse({**alone, **nothing, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"})


def test_train_ends_at_once_instead_of_waiting_for_processes_that_never_come(
    model: Path, initialized: Callable[..., Path]
) -> None:
    session = initialized(model)
    for command in (("train", session), ("train", session, "--dry-run-steps", 1)):
        finished = run_script(TOOL, *command, env={"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"})
        assert_clear_error(finished, 2, "WORLD_SIZE=2")
    assert json.loads((session / "session.json").read_text())["state"] == "initialized"


# --- through training ---


@pytest.mark.train
def test_a_model_with_all_of_this_trains_and_keeps_its_settings(
    workers, model: Path, initialized: Callable[..., Path]
) -> None:
    edited(model, "generation_config.json", temperature=0.9, top_p=0.6)
    edited(model, "config.json", max_position_embeddings=64, rope_parameters={**YARN, "rope_theta": 10_000.0})
    with_token(model, "<|never|>", embedding_rows(model))
    session = initialized(model, length=128, schedule={"max_steps": 2})
    tried = workers.run("train", session, "--dry-run-steps", 1)
    assert tried.returncode == 0 and "the model was written and removed again" in tried.stderr, tried.stderr
    assert not (session / "model").exists()
    finished = workers.run("train", session)
    assert finished.returncode == 0, finished.stderr
    generation = json.loads((session / "model" / "generation_config.json").read_text())
    assert (generation["do_sample"], generation["temperature"], generation["top_p"]) == (True, 0.9, 0.6)
    rope = json.loads((session / "model" / "config.json").read_text())["rope_parameters"]
    assert (rope["rope_type"], rope["factor"], rope["original_max_position_embeddings"]) == ("yarn", 4.0, 64)


@pytest.mark.train
def test_what_init_could_not_see_is_refused_before_the_first_step(
    workers, model: Path, initialized: Callable[..., Path], rows_with_token: Path
) -> None:
    session = initialized(model, rows_with_token)
    with_token(model, "<|cmd|>", embedding_rows(model))
    finished = workers.run("train", session)
    assert_clear_error(finished, 2, "token id", "beyond the")
    assert not re.search(r"IndexError|Traceback", finished.stderr)
    assert not (session / "metrics.jsonl").exists() or not (session / "metrics.jsonl").read_text()


@pytest.mark.train
@pytest.mark.parametrize("padding", [None, "<|end|>"])
def test_a_model_without_a_padding_token_of_its_own_learns_to_end_and_gets_no_new_row(
    workers, model: Path, initialized: Callable[..., Path], padding: str | None
) -> None:
    """Rows are padded with the end token or none; the end token of an answer is learned all the same."""
    edited(model, "tokenizer_config.json", pad_token=padding)
    edited(model, "config.json", pad_token_id=None)
    session = initialized(model, schedule={"max_steps": 2})
    finished = workers.run("train", session)
    assert finished.returncode == 0, finished.stderr
    assert embedding_rows(session / "model") == embedding_rows(model)
    result = json.loads((session / "session.json").read_text())["result"]
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ends = [row["messages"][1]["content"] + "<|end|>" for row in conversation_rows(40)]
    longest = max(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in ends)
    shortest = min(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in ends)
    rows = result["train_rows"]
    assert rows * shortest <= result["supervised_tokens"] <= rows * longest, "the end token counts among the learned"
