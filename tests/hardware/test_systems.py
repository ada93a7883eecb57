"""What trains where: a plan for this Windows or macOS machine knows what it lacks; a named card is a Linux one's."""

from __future__ import annotations

import sys

import pytest

from plans import MODELS, plan, request
from unsloth_fft.core.errors import BadInput
from unsloth_fft.hardware import cards, detection
from unsloth_fft.planning.request import Pins

TWO_CARDS = detection.Device("0", "GPU-0", "NVIDIA GeForce RTX 4090", 24564.0, "560.0", 480.0, 8.9)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def of(platform: str, *devices: detection.Device) -> cards.Hardware:
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(detection, "_devices", lambda: (list(devices), ()))
        monkeypatch.setattr(detection, "host_memory_gib", lambda: 128.0)
        return detection.detect()

    return of


def test_on_windows_one_card_is_planned_without_adamw_flash(machine) -> None:
    here = machine("win32", TWO_CARDS, TWO_CARDS)
    assert (here.system, here.gpus, here.name) == ("Windows", 1, "RTX 4090")
    found = plan(request(MODELS[0], here))
    assert found.optimizer.name != "adamw_flash" and found.precision.exactness == "exact"
    assert any("Windows has no adamw_flash" in warning for warning in found.plan.warnings)
    with pytest.raises(BadInput, match="on Windows"):
        plan(request(MODELS[0], here, pins=Pins(optimizer="adamw_flash")))


def test_a_mac_is_told_to_plan_for_another_machine(machine) -> None:
    here = machine("darwin")
    assert here.is_cpu and here.system == "macOS" and "name another machine's card" in here.notes[0]


def test_a_named_card_is_a_linux_machines_wherever_it_is_planned(machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cards.on_gpu(cards.find_gpu("H100")).system == "Linux"


def test_doctor_names_each_missing_package_once(monkeypatch: pytest.MonkeyPatch, machine) -> None:
    import urllib.request  # noqa: F401  (where it is first imported on a pretended Mac, it looks for a Mac's modules)

    from unsloth_fft.commands import doctor
    from unsloth_fft.training import environment

    machine("darwin")
    monkeypatch.setattr(environment, "versions", lambda: {"python": "3.11.12"})
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = doctor.examine()
    assert found["can_plan"] and not found["can_train"] and found["system"] == "macOS"
    assert [entry["package"] for entry in found["without"]] == ["numpy", "pyarrow", "tokenizers", "matplotlib"]
    assert len(found["problems"]) == 1 and "torch" in found["problems"][0]["problem"]
