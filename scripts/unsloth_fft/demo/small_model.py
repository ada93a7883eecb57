"""A Llama-shaped model of half a million weights with a byte-level BPE tokenizer, made here from nothing.

It stands in for a published model where no hub can be reached: same files, same loading code, only smaller.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files

VOCABULARY = 512


@dataclass(frozen=True)
class Size:
    """The shape of a small Llama."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int


SMALL = Size(hidden=128, intermediate=320, layers=3, heads=4, kv_heads=2)
TINY = Size(hidden=32, intermediate=64, layers=2, heads=4, kv_heads=2)
SEED = 3407
SPECIAL = ("<|pad|>", "<|start|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}"
    "{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def make(folder: Path, texts: Iterable[str], *, max_length: int, size: Size = SMALL) -> None:
    """Write config.json, model.safetensors and the tokenizer into `folder`, whole or not at all.

    The tokenizer is trained on `texts`; the weights are drawn from a fixed seed.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    staging = folder.parent / f".{folder.name}.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    with files.explained(folder):
        staging.mkdir(parents=True)
        tokenizer = tiny_tokenizer(texts, max_length)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            max_position_embeddings=max_length,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = LlamaForCausalLM(config)
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        files.give_usual_mode(staging)
        staging.rename(folder)


def tiny_tokenizer(texts: Iterable[str], max_length: int) -> Any:
    """A byte-level BPE of 512 entries with a chat template, learned from `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=SPECIAL[0], eos_token=SPECIAL[2], model_max_length=max_length
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
