"""Exactly the assistant's words (and the token that ends them) are learned, for every format and template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import write_jsonl
from unsloth_fft.core.errors import BadInput
from unsloth_fft.planning.parameters import Data

unsloth = pytest.importorskip("unsloth")

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 plus one?"},
    {"role": "assistant", "content": "1 plus one is 2."},
    {"role": "user", "content": "And 2 plus one?"},
    {"role": "assistant", "content": "2 plus one is 3."},
]
ANSWERS = ["1 plus one is 2.", "2 plus one is 3."]
ROWS = {
    "messages": {"messages": MESSAGES},
    "sharegpt": {
        "conversations": [
            {"from": {"user": "human", "assistant": "gpt"}.get(turn["role"], turn["role"]), "value": turn["content"]}
            for turn in MESSAGES
        ]
    },
    "alpaca": {"instruction": "What is 1 plus one?", "input": "Think.", "output": ANSWERS[0]},
    "prompt-completion": {"prompt": "What is 1 plus one? ", "completion": ANSWERS[0]},
}


@pytest.fixture
def tokenizer(tiny_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def learned_text(tokenizer, example) -> str:
    return tokenizer.decode([label for label in example["labels"] if label != -100])


def prepared(tmp_path: Path, tokenizer, row: dict, **changes):
    from unsloth_fft.training import data

    source = write_jsonl(tmp_path / "rows.jsonl", [row] * 4)
    settings = {
        "dataset": str(source),
        "format": "auto",
        "objective": "sft",
        "loss_on": "responses",
        "packing": False,
        "eval_fraction": 0.25,
        "rows": None,
        "tokens_per_row": None,
        "chat_template": None,
        "seed": 1,
        **changes,
    }
    return data.prepare(Data(**settings), tokenizer, max_length=changes.pop("max_length", 128))


@pytest.mark.parametrize("template", ["marked", "plain"])
@pytest.mark.parametrize("form", list(ROWS))
def test_the_learned_tokens_are_the_assistants_words(tmp_path, tokenizer, form, template):
    if template == "plain":
        tokenizer.chat_template = PLAIN_TEMPLATE
    result = prepared(tmp_path, tokenizer, ROWS[form])
    expected = ANSWERS if form in ("messages", "sharegpt") else ANSWERS[:1]
    assert result.format == form
    assert learned_text(tokenizer, result.train[0]).replace("\n", "") == "".join(f"{a}<|end|>" for a in expected)
    assert len(result.train) == 3 and len(result.held_out) == 1


def test_loss_on_all_learns_every_token(tmp_path, tokenizer):
    example = prepared(tmp_path, tokenizer, ROWS["messages"], loss_on="all").train[0]
    assert example["labels"] == example["input_ids"]


def test_raw_text_is_cut_into_windows_and_nothing_is_lost(tmp_path, tokenizer):
    from unsloth_fft.training import data

    text = "one plus one is two. " * 60
    source = write_jsonl(tmp_path / "text.jsonl", [{"text": text}])
    settings = Data(str(source), "auto", "pretrain", "all", False, 0.0, None, None, None, 1)
    result = data.prepare(settings, tokenizer, max_length=64)
    tokens = [token for example in result.train for token in example["input_ids"]]
    assert tokenizer.decode(tokens) == text + "<|end|>"
    assert max(len(example["input_ids"]) for example in result.train) <= 64
    assert result.held_out is None


def test_the_split_follows_the_seed(tmp_path, tokenizer):
    from conftest import conversation_rows
    from unsloth_fft.training import data

    source = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(30))

    def held_out(seed: int):
        settings = Data(str(source), "auto", "sft", "responses", False, 0.2, None, None, None, seed)
        return data.prepare(settings, tokenizer, max_length=128).held_out["input_ids"]

    assert held_out(1) == held_out(1) != held_out(2)


def test_a_row_without_an_answer_is_named(tmp_path, tokenizer):
    with pytest.raises(BadInput, match="the assistant never speaks"):
        prepared(tmp_path, tokenizer, {"messages": MESSAGES[:2]})


def test_rows_cut_before_the_answer_are_refused_with_the_length_to_raise(tmp_path, tokenizer):
    row = json.loads(json.dumps(ROWS["messages"]))
    row["messages"][1]["content"] = "why " * 400
    with pytest.raises(BadInput, match="no row keeps a token") as caught:
        prepared(tmp_path, tokenizer, row)
    assert "max_seq_length" in caught.value.hint


def test_a_tokenizer_without_template_is_refused_with_the_choices(tmp_path, tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template") as caught:
        prepared(tmp_path, tokenizer, ROWS["messages"])
    assert "chatml" in caught.value.hint
