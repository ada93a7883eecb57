"""Answers of a model before and after training, to the same questions, greedily decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..reporting.report import Sample
from ..weights import loading

SHORTEST_ANSWER, LONGEST_ANSWER = 12, 70  # tokens; a random model would often say nothing at all
LONGEST_REPEAT = 6  # tokens; greedy decoding of so small a model turns in circles


def compare(base: Path, trained: Path, questions: Sequence[str]) -> list[Sample]:
    """Ask both model folders each question."""
    before, after = answers(base, questions), answers(trained, questions)
    return [Sample(*triple) for triple in zip(questions, before, after, strict=True)]


def answers(folder: Path, questions: Sequence[str]) -> list[str]:
    """The answer of the model in `folder` to each question."""
    tokenizer, model = loading.tokenizer(folder), loading.model(folder)
    return [_answer(model, tokenizer, question) for question in questions]


def _answer(model: Any, tokenizer: Any, question: str) -> str:
    import torch

    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        output = model.generate(
            **prompt,
            min_new_tokens=SHORTEST_ANSWER,
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            no_repeat_ngram_size=LONGEST_REPEAT,
            suppress_tokens=_never_said(tokenizer),
        )
    words: str = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return _printable(words.strip())


def _printable(words: str) -> str:
    """`words` with control characters, which a random model writes, shown as dots."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in words)


def _never_said(tokenizer: Any) -> list[int]:
    """Special tokens that are no part of an answer; the one that ends it is."""
    return [token for token in tokenizer.all_special_ids if token != tokenizer.eos_token_id]
