"""Data settings, and model folders that are a tokenizer and a chat template only, for tests of what is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unsloth_fft.core import schema
from unsloth_fft.settings import parameters
from unsloth_fft.settings.parameters import Data

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helper.<|im_end|>\n' }}{% endif %}"
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n' }}{% for tool in tools %}{{ tool|tojson + '\n' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message.tool_calls or [] %}{{ '<tool_call>' + call.function|tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Reasoning of the last answer alone, as Qwen3 renders it.
THINKING = CHATML.replace(
    "'\n' + message['content'] }}",
    "'\n' }}{% if message.reasoning_content and loop.last %}{{ '<think>\n' + message.reasoning_content + '\n</think>\n'"
    " }}{% endif %}{{ message['content'] }}",
)
# Takes no system turn, and wants questions and answers in turn, as Gemma does.
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<|im_start|>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + message['content'] | trim"
    " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")


def data_settings(**changes: Any) -> Data:
    """The data section with the schema's defaults and `changes`."""
    base = parameters.with_defaults({}, schema.load("parameters")["properties"]["data"])
    return Data(**{**base, **changes})


def tokenizer_folder(folder: Path, template: str | None = CHATML) -> Path:
    """A folder with a tokenizer of bytes and `template`, made without torch: what the data doctor needs."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    about = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps({key: value for key, value in about.items() if value}))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, "eos_token_id": 257}))
    return folder


def learned_by_doctor(source: Path, model: Path, **changes: Any) -> list[str]:
    """What the doctor says of the first rows: the learned stretches, as text."""
    report = doctor_report(source, model, **changes)
    return [part.text for sample in report.samples for part in sample if part.learned]


def doctor_report(source: Path | str, model: Path, *, length: int | None = 4096, **changes: Any):
    """The data doctor's report."""
    from unsloth_fft.data_doctor import examination, tokenizer

    data = data_settings(dataset=str(source), **changes)
    report = examination.examine(data, tokenizer.load(model), examination.Intended(length, 4, 8))
    report.to_json()
    return report


def prepared_rows(source: Path | str, model: Path, space: Path, *, length: int = 4096, **changes: Any):
    """(what training prepares, its tokenizer)."""
    import unsloth  # noqa: F401  (first: it patches transformers)
    from transformers import PreTrainedTokenizerFast

    from unsloth_fft.data import preparing

    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    space.mkdir(parents=True, exist_ok=True)
    data = data_settings(dataset=str(source), **changes)
    return preparing.prepare(data, tokenizer, length, space), tokenizer


def learned_stretches(tokenizer: Any, row: dict[str, list[int]]) -> list[str]:
    """The text of each run of learned tokens of a prepared row."""
    runs: list[list[int]] = [[]]
    for label in row["labels"]:
        if label != -100:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]
