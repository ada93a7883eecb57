"""Plans between the extremes, and matrix products in float8: taken only where they fit, help, and were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plans import plan, request
from unsloth_fft.core.errors import BadInput
from unsloth_fft.hardware import cards
from unsloth_fft.planning.request import Pins
from unsloth_fft.planning.search import search

H200 = cards.find_gpu("H200")


def held_to(vram_gib: float, host_ram_gib: float = 256.0):
    return replace(cards.on_gpu(H200, host_ram_gib=host_ram_gib), vram_gib=vram_gib)


def test_between_two_card_sizes_speed_rises_without_a_cliff() -> None:
    """8B from 24 GiB to a whole H200, in steps of a tenth."""
    sizes = [24 * 1.1**step for step in range(19)]
    plans = [search(request(machine=held_to(size))).best for size in sizes]
    speeds = [found.speed.tokens_per_second for found in plans if found is not None]
    assert len(speeds) == len(sizes)
    steps = [after / before for before, after in zip(speeds, speeds[1:], strict=False)]
    assert min(steps) >= 1 and max(steps) < 1.12, [round(step, 3) for step in steps]


def test_as_few_layers_are_recomputed_as_fit() -> None:
    found = plan(request(machine=held_to(120.0), pins=Pins(micro_batch=4)))
    count = found.memory.checkpointed_layers
    assert count is not None and 1 <= count < 32
    assert any(f"{count} of 32 layers are recomputed" in sentence for sentence in found.plan.why)
    pinned = Pins(micro_batch=4, checkpointed_layers=count - 1, checkpointing=found.memory.gradient_checkpointing)
    one_less = search(request(machine=held_to(120.0), pins=pinned))
    same = [one for one in one_less.candidates if one.setting.optimizer == found.optimizer.name]
    assert same and not any(one.fits for one in same if one.setting.state_offload == found.optimizer.state_offload)


def test_a_pinned_mode_recomputes_every_layer_and_a_pinned_number_that_many() -> None:
    assert plan(request(machine=held_to(120.0), pins=Pins(checkpointing="true"))).memory.checkpointed_layers is None
    found = plan(request(pins=Pins(checkpointed_layers=7)))
    assert found.memory.checkpointed_layers == 7 and found.memory.gradient_checkpointing in ("true", "unsloth")
    assert found.to_json()["memory"]["checkpointed_layers"] == 7
    assert "checkpointed_layers" not in plan(request()).to_json()["memory"]


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        (Pins(checkpointed_layers=32), "not less than the 32 layers"),
        (Pins(checkpointed_layers=3, checkpointing="off"), "contradict"),
        (Pins(compute="float8", weights="float32"), "needs bfloat16 weights"),
    ],
)
def test_what_cannot_be_pinned_is_said(pins: Pins, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        search(request(pins=pins))


def test_float8_is_faster_smaller_exact_and_never_taken_unasked() -> None:
    asked, unasked = plan(request(pins=Pins(compute="float8"))), plan(request())
    assert (unasked.precision.compute, asked.precision.compute) == ("bfloat16", "float8")
    assert asked.precision.exactness == "exact" and asked.precision.weights == "bfloat16"
    gain = asked.plan.predicted.tokens_per_second / unasked.plan.predicted.tokens_per_second
    assert 1.15 < gain < 1.3 and asked.plan.predicted.peak_vram_gib < unasked.plan.predicted.peak_vram_gib


@pytest.mark.parametrize(
    ("card", "said"),
    [("RTX 4090", "NaN"), ("A100 80GB SXM", "no float8"), ("B200", "nobody has measured"), ("MI300X", "no float8")],
)
def test_float8_is_refused_with_the_reason_where_it_does_not_work(card: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        search(request(machine=cards.on_gpu(cards.find_gpu(card)), pins=Pins(compute="float8")))


def test_float8_of_narrow_layers_is_called_slower() -> None:
    narrow = plan(request("Qwen/Qwen2.5-0.5B", pins=Pins(compute="float8")))
    assert any("slower here than bfloat16" in sentence for sentence in narrow.plan.warnings)


def test_host_memory_holds_state_and_gradients_and_little_more() -> None:
    found = search(request("Qwen/Qwen3-14B", held_to(48.0, 400.0), pins=Pins(optimizer="adamw_flash"))).best
    assert found is not None and found.setting.gradient_offload
    held = (8 + 2) * 14_768_307_200 / 2**30
    assert held <= found.memory.pinned <= 1.01 * held


def test_float8_is_offered_to_who_looks_where_it_is_faster(capsys: pytest.CaptureFixture[str]) -> None:
    from unsloth_fft.commands import plan as command

    offered = {}
    for model, card in (("meta-llama/Llama-3.1-8B", "H200"), ("Qwen/Qwen2.5-0.5B", "H200"), ("Qwen/Qwen3-4B", "L40S")):
        arguments = ["--model", model, "--gpu", card, "--host-ram-gib", "256", "--max-steps", "10", "--explain"]
        assert command.main(arguments) == 0
        offered[model] = "--compute float8" in capsys.readouterr().err
    assert list(offered.values()) == [True, False, False]
