"""The share of weights that moved is told for models whose loading renames and fuses what the checkpoint holds."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("model_type", ["granitemoe", "qwen3"])
def test_the_share_is_that_of_the_weights_that_differ(model_type, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from unsloth_fft.benchmarking import moved
    from whole_way import tiny_config

    values = tiny_config(model_type)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert moved.share_moved(model, tmp_path) == 0
    name, weight = max(model.named_parameters(), key=lambda pair: pair[1].numel())
    with torch.no_grad():
        weight += 1
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert moved.share_moved(model, tmp_path) == pytest.approx(weight.numel() / whole), name
