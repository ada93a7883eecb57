"""Gradients are scaled as torch scales them, and left alone where they are small enough."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_gradients_and_norm_are_those_that_torch_gives(largest: float) -> None:
    torch = pytest.importorskip("torch")
    from unsloth_fft.memory_savers import clipping

    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.zeros(7, 5)) for _ in range(3)] + [torch.nn.Parameter(torch.zeros(2))]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    for one, other in zip(ours[1:], theirs[1:], strict=True):  # the first got no gradient
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    before = [parameter.grad.clone() for parameter in ours[1:]]
    norm = clipping.clip(iter(ours), largest)
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(theirs, largest))
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(ours[1:], theirs[1:], strict=True))
    assert all(torch.equal(one.grad, was) for one, was in zip(ours[1:], before, strict=True)) is bool(largest > norm)
    assert clipping.coefficient(norm, 1e6) is None


def test_mixed_types_are_scaled_each_in_its_own() -> None:
    torch = pytest.importorskip("torch")
    from unsloth_fft.memory_savers import clipping

    wide, narrow = torch.nn.Parameter(torch.zeros(64)), torch.nn.Parameter(torch.zeros(64, dtype=torch.bfloat16))
    wide.grad, narrow.grad = torch.full((64,), 3.0), torch.full((64,), 4.0, dtype=torch.bfloat16)
    assert float(clipping.clip([wide, narrow], 4.0)) == pytest.approx(40.0)
    assert torch.allclose(wide.grad, torch.full((64,), 0.3)) and float(narrow.grad[0]) == pytest.approx(0.4, rel=0.01)
