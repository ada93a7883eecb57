"""Weights streamed from host memory: planned only where asked, for what else fits nothing, said to be unmeasured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plans import CPU, plan, request
from unsloth_fft.core.errors import BadInput, NothingFits
from unsloth_fft.estimates import memory, speed
from unsloth_fft.hardware import cards
from unsloth_fft.planning.request import Pins
from unsloth_fft.planning.search import search

H200 = cards.find_gpu("H200")
STREAMED = Pins(weight_offload=True)
GIB = 2**30


def held_to(vram_gib: float, host_ram_gib: float = 256.0):
    return replace(cards.on_gpu(H200, host_ram_gib=host_ram_gib), vram_gib=vram_gib)


def test_weights_are_streamed_only_where_that_was_asked_for() -> None:
    with pytest.raises(NothingFits):
        plan(request(machine=held_to(12.0)))
    assert not any(one.setting.weight_offload for one in search(request(machine=held_to(24.0))).candidates)
    found = plan(request(machine=held_to(12.0), pins=STREAMED))
    assert found.memory.weight_offload and found.memory.gradient_offload and found.optimizer.state_offload
    assert found.memory.gradient_checkpointing in ("true", "unsloth")
    assert found.to_json()["memory"]["weight_offload"] is True
    assert "weight_offload" not in plan(request()).to_json()["memory"]


def test_a_streamed_plan_says_what_it_costs_and_that_nobody_has_measured_it() -> None:
    found = plan(request(machine=held_to(12.0), pins=STREAMED))
    assert found.plan.basis == "extrapolated"
    assert any("13.0 GiB come to the GPU twice in every micro-batch" in sentence for sentence in found.plan.why)
    assert any("not measured on any GPU" in sentence for sentence in found.plan.warnings)
    low, high = found.plan.predicted.tokens_per_second_range
    assert low < 0.6 * found.plan.predicted.tokens_per_second < found.plan.predicted.tokens_per_second < high


def estimates(micro_batch: int, *, weight_offload: bool):
    pins = Pins(
        weights="bfloat16", optimizer="adamw_flash", checkpointing="unsloth", state_offload=True, gradient_offload=True,
        micro_batch=micro_batch, weight_offload=weight_offload,
    )  # fmt: skip
    asked = request(machine=held_to(141.0), pins=pins, effective_batch=64)
    setting = search(asked).candidates[0].setting
    needed = memory.estimate(asked.shape, setting, 141.0)
    return asked.shape, needed, speed.estimate(asked.shape, setting, asked.hardware).tokens_per_second


def test_the_gpu_holds_two_layers_and_the_host_all_of_them() -> None:
    shape, streamed, _ = estimates(8, weight_offload=True)
    _, resident, _ = estimates(8, weight_offload=False)
    layers = 2 * shape.all_layer_parameters / GIB
    left = resident.components["weights"] - streamed.components["weights"]
    assert left == pytest.approx(layers - 2 * 2 * shape.layer_parameters / GIB)
    assert streamed.host - resident.host == pytest.approx(layers)


def test_large_micro_batches_make_up_for_the_traffic() -> None:
    slower = {}
    for micro_batch in (1, 4, 16):
        _, _, streamed = estimates(micro_batch, weight_offload=True)
        _, _, resident = estimates(micro_batch, weight_offload=False)
        slower[micro_batch] = 1 - streamed / resident
    assert slower[1] > 0.3 and slower[1] > slower[4] > slower[16] and 0 < slower[16] < 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": CPU}, "no GPU to stream weights to"),
        ({"machine": cards.on_gpu(H200, gpus=2)}, "one GPU, and 2"),
        ({"machine": cards.on_gpu(cards.find_gpu("T4"))}, "no bfloat16"),
        ({"pins": Pins(weight_offload=True, gradient_offload=False)}, "--gradient-offload off"),
        ({"pins": Pins(weight_offload=True, checkpointing="off")}, "every layer must be recomputed"),
        ({"pins": Pins(weight_offload=True, checkpointed_layers=3)}, "every layer must be recomputed"),
        ({"pins": Pins(weight_offload=True, compute="float8")}, "float8"),
        (
            {"pins": Pins(weight_offload=True, weights="float32", optimizer="adamw_8bit")},
            "for adamw_flash, not adamw_8bit",
        ),
        ({"model": "allenai/OLMoE-1B-7B-0924"}, "experts"),
    ],
)
def test_what_streaming_does_not_go_with_is_said(changes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        plan(request(**{"pins": STREAMED, **changes}))
