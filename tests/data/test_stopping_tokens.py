"""A model trained on conversations stops where its chat template ends a turn, whatever its base stopped at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_helpers import CHATML, STRICT, tokenizer_folder
from unsloth_fft.data import stopping_tokens

GEMMA = CHATML.replace("<|im_end|>", "<|pad|>")  # a template whose end is another token than the tokenizer's


def tokenizer_of(folder: Path, template: str | None) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer_folder(folder, template))


@pytest.mark.parametrize(
    ("template", "stops"),
    [
        (CHATML, ["<|im_end|>"]),
        (STRICT, ["<|im_end|>"]),
        (GEMMA, ["<|im_end|>", "<|pad|>"]),
        (None, ["<|im_end|>"]),
        ("{{ raise_exception('no plain question') }}", ["<|im_end|>"]),
        ("{% for m in messages %}{{ m.content }}\n### {% endfor %}", ["<|im_end|>"]),
    ],
)
def test_a_turn_ends_with_the_token_that_the_template_writes_after_an_answer(tmp_path, template, stops):
    assert stopping_tokens.of(tokenizer_of(tmp_path, template)) == stops


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, [257, 258]),
        ({"eos_token_id": 257, "top_k": 5}, [257, 258]),
        ({"eos_token_id": [3, 258]}, [3, 258, 257]),
        ({"eos_token_id": [258, 257]}, [258, 257]),
    ],
)
def test_the_saved_model_stops_there_too(tmp_path, before, after):
    """Qwen2.5's base: its template ends turns with <|im_end|>, and generation waited for <|endoftext|>."""
    tokenizer = tokenizer_of(tmp_path, GEMMA)
    file = tmp_path / "generation_config.json"
    if before:
        file.write_text(json.dumps(before))
    stopping_tokens.complete(tmp_path, tokenizer)
    assert json.loads(file.read_text()) == {**before, "eos_token_id": after}


def test_a_model_that_stops_there_already_is_left_alone(tmp_path):
    tokenizer = tokenizer_of(tmp_path, CHATML)
    stopping_tokens.complete(tmp_path, tokenizer)
    assert not (tmp_path / "generation_config.json").exists(), "config.json says it already"
