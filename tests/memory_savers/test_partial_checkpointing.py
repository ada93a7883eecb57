"""Some layers are recomputed and the rest kept: the same loss and gradients to the bit as with all or none."""

from __future__ import annotations

import pytest

import small_llama
from conftest import minimal_parameters
from small_llama import LAYERS
from unsloth_fft.core.errors import BadInput
from unsloth_fft.settings import parameters as params


@pytest.fixture(scope="module")
def llama():
    return small_llama.make()


def losses_and_gradients(model, recomputed):
    """The loss and every gradient of one row, and how often a layer ran forward; None: nothing is recomputed."""
    import torch

    from unsloth_fft.memory_savers import partial_checkpointing

    ran = []
    handles = [layer.register_forward_pre_hook(lambda *_: ran.append(1)) for layer in model.model.layers]
    if recomputed is None:
        model.gradient_checkpointing_disable()
    else:
        partial_checkpointing.keep_activations(model, recomputed)
        model.gradient_checkpointing_enable()  # as the trainer does when it starts, whatever was said before
    model.zero_grad()
    ids = torch.arange(24).reshape(2, 12)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    for handle in handles:
        handle.remove()
    return loss, [parameter.grad.clone() for parameter in model.parameters()], len(ran)


def test_any_number_of_recomputed_layers_gives_the_same_loss_and_gradients(llama):
    import torch

    loss, gradients, ran = losses_and_gradients(llama, None)
    assert ran == LAYERS
    for recomputed in range(LAYERS + 1):
        other_loss, others, other_ran = losses_and_gradients(llama, recomputed)
        assert torch.equal(other_loss, loss)
        assert all(torch.equal(one, other) for one, other in zip(gradients, others, strict=True))
        assert other_ran == LAYERS + recomputed


def test_kept_layers_are_spread_and_end_with_the_last(llama):
    from unsloth_fft.memory_savers.partial_checkpointing import keep_activations

    assert keep_activations(llama, 0) == [0, 1, 2, 3, 4]
    assert keep_activations(llama, 3) == [1, 4]
    assert keep_activations(llama, 4) == [4]
    assert keep_activations(llama, 5) == keep_activations(llama, 99) == []


def test_a_number_of_layers_wants_a_mode_and_one_gpu(tiny_model, rows_file):
    off = minimal_parameters(tiny_model, rows_file, memory={"gradient_checkpointing": "off", "checkpointed_layers": 1})
    with pytest.raises(BadInput, match="checkpointed_layers.*off"):
        params.from_json(off, "the test")
    two = minimal_parameters(
        tiny_model, rows_file, memory={"gradient_checkpointing": "true", "checkpointed_layers": 1},
        batch={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "effective_batch_size": 8},
        distributed={"gpus": 2, "strategy": "fsdp2"},
    )  # fmt: skip
    with pytest.raises(BadInput, match="one GPU only"):
        params.from_json(two, "the test")
