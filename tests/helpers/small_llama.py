"""A Llama of a few small layers, with random weights: what the memory savers are tried on, without Unsloth."""

from __future__ import annotations

from typing import Any

import pytest

LAYERS = 5  # more than streamed weights have buffers


def make() -> Any:
    """The model, in training mode and the same every time; the test is skipped where packages are missing."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=2, vocab_size=64
    )
    return transformers.LlamaForCausalLM(config).train()
