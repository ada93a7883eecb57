"""The held-out loss: the same number for the same model and rows, whatever the type, the batch or the wrapper."""

from __future__ import annotations

import types

import pytest

torch = pytest.importorskip("torch")

from unsloth_fft.training import held_out, master  # noqa: E402
from unsloth_fft.training.held_out import by_rows, by_tokens, row_losses  # noqa: E402

LLAMA = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
# One that scales its logits, one that caps them, one with experts: their heads do more than multiply.
KINDS = {
    "llama": {},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "gemma2": {"final_logit_softcapping": 5.0, "head_dim": 16, "query_pre_attn_scalar": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}
ROWS = [([5, 6, 7, 8, 9], [-100, -100, 7, 8, 9]), ([9, 10, 11], [9, 10, 11]), ([3, 4], [-100, -100])]


def made(kind: str, dtype: torch.dtype = torch.float32):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **{**LLAMA, **KINDS[kind]})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)


def plain(model) -> list[float]:
    """Each row's summed loss by the model's own forward."""
    found = []
    for input_ids, labels in ROWS:
        logits = model(input_ids=torch.tensor([input_ids])).logits[0, :-1].float()
        wanted = torch.tensor(labels[1:])
        found.append(float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum")))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_loss_of_the_models_own_forward_in_float32(kind, monkeypatch):
    model = made(kind).eval()
    monkeypatch.setattr(held_out, "LOGITS_AT_ONCE", 2 * LLAMA["vocab_size"])  # the head takes two places at a time
    with torch.no_grad():
        expected = plain(model)
    found = row_losses(model, ROWS)
    assert [row.nats for row in found] == pytest.approx(expected, abs=1e-4)
    assert [row.tokens for row in found] == [3, 2, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_weights_are_measured_in_float32_arithmetic_and_come_back_untouched(kind):
    narrow = made(kind, torch.bfloat16)
    wide = made(kind, torch.bfloat16).float()
    stored = {name: weight.data.clone() for name, weight in narrow.named_parameters()}
    narrow.train()
    assert by_tokens(row_losses(narrow, ROWS)) == pytest.approx(by_tokens(row_losses(wide, ROWS)), abs=1e-5)
    assert narrow.training
    for name, weight in narrow.named_parameters():
        assert weight.dtype == torch.bfloat16 and torch.equal(weight.data, stored[name])
    model = narrow(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]]))
    model.loss.backward()  # nothing that inference left behind stands in training's way


def test_mixed_precision_that_a_trainer_put_around_the_forward_is_left_out():
    model = made("llama")
    expected = by_tokens(row_losses(model, ROWS))
    forward = model.forward
    model._original_forward = forward

    def mixed(self, *args, **keywords):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return forward(*args, **keywords)

    model.forward = types.MethodType(mixed, model)
    assert by_tokens(row_losses(model, ROWS)) == expected
    assert model.forward.__func__ is mixed


def test_the_mean_over_tokens_is_not_the_mean_over_rows():
    losses = [held_out.RowLoss(10.0, 10), held_out.RowLoss(3.0, 1), held_out.RowLoss(0.0, 0)]
    assert by_tokens(losses) == pytest.approx(13 / 11)
    assert by_rows(losses) == pytest.approx(2.0)
    assert held_out.finite(by_tokens([])) is None


def test_a_model_is_measured_with_the_values_of_its_master():
    model = made("llama", torch.bfloat16)
    corrections = {
        name: torch.randint(-32767, 32767, weight.shape, dtype=torch.int16) for name, weight in model.named_parameters()
    }
    of_master = by_tokens(row_losses(model, ROWS, master.value_of(corrections, model)))
    wide = made("llama", torch.bfloat16).float()
    with torch.no_grad():
        for name, weight in wide.named_parameters():
            weight.copy_(master.joined(weight.bfloat16(), corrections[name]))
    assert of_master == pytest.approx(by_tokens(row_losses(wide, ROWS)), abs=1e-6)
    assert of_master != by_tokens(row_losses(model, ROWS))
