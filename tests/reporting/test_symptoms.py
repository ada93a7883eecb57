"""What the metrics show is said, with a source that exists; an ordinary run raises no alarm."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import pytest

from unsloth_fft.reporting import report, symptoms
from unsloth_fft.training.metrics import Line

REFERENCES = Path(__file__).resolve().parents[2] / "references"
TIME = "2026-11-23T00:00:00+00:00"


def train(step: int, loss: float | None, norm: float | None = 1.0) -> Line:
    return Line("train", step, 0.1, loss, norm, 1e-5, step * 100, 100.0, 1.0, TIME)


def held_out(step: int, loss: float | None) -> Line:
    return Line("eval", step, 0.1, loss, None, None, step * 100, None, 1.0, TIME)


def falling(count: int, seed: int = 0) -> list[Line]:
    """A loss that falls with the noise of small batches."""
    noise = random.Random(seed)
    return [train(step, 1 + 2 * math.exp(-step / 30) + noise.gauss(0, 0.15)) for step in range(1, count + 1)]


def kinds(lines: list[Line]) -> list[str]:
    return [finding.kind for finding in symptoms.findings(lines)]


@pytest.mark.parametrize("seed", range(20))
def test_an_ordinary_noisy_run_raises_no_alarm(seed):
    lines = [held_out(0, 3.0), *falling(200, seed), held_out(100, 1.2), held_out(200, 1.1)]
    assert kinds(lines) == []


@pytest.mark.parametrize("lines", [[], [train(1, 2.0)], [held_out(0, 3.0)], falling(3)])
def test_too_few_lines_say_nothing(lines):
    assert kinds(lines) == []


def test_a_spike_is_found_where_it_is():
    lines = falling(100)
    lines[60] = train(61, 5.0)
    (found,) = symptoms.findings(lines)
    assert (found.kind, found.step) == ("loss_spike", 61)
    assert "5" in found.seen and "learning rate" in found.advice


def test_divergence_is_found():
    assert kinds([train(step, 1 + step / 50) for step in range(1, 101)]) == ["divergence"]


@pytest.mark.parametrize("norm", [0.0, 1e-5])
def test_a_vanished_gradient_is_found(norm):
    lines = falling(40)
    lines[25:] = [train(line.step, line.loss, norm) for line in lines[25:]]
    (found,) = symptoms.findings(lines)
    assert (found.kind, found.step) == ("vanishing_gradient", 26)


def test_gradients_of_zero_from_the_start_are_found():
    assert kinds([train(step, 2.0, 0.0) for step in range(1, 6)]) == ["vanishing_gradient"]


def test_overfitting_is_a_held_out_loss_that_rises_while_the_training_loss_falls():
    steps = falling(300)
    rising = [held_out(0, 3.0), held_out(100, 1.2), held_out(200, 1.3), held_out(300, 1.5)]
    (found,) = symptoms.findings([*steps, *rising])
    assert (found.kind, found.step) == ("overfitting", 100)
    assert "load_best_model_at_end" in found.advice
    flat = [train(step, 2.0) for step in range(1, 301)]
    assert kinds([*flat, *rising]) == []


def test_a_model_worse_than_its_base_is_found():
    assert kinds([held_out(0, 2.0), *falling(30), held_out(30, 2.5)]) == ["worse_than_base"]


def test_a_loss_that_is_no_number_is_found_once():
    assert kinds([*falling(20), train(21, None), train(22, None)]) == ["not_finite"]


def every_finding() -> list[symptoms.Finding]:
    spoilt = falling(300)
    spoilt[60] = train(61, 9.0)
    spoilt[250:] = [train(line.step, line.loss, 0.0) for line in spoilt[250:]]
    lines = [held_out(0, 1.4), *spoilt, held_out(100, 1.2), held_out(200, 1.3), held_out(300, 1.5), train(301, None)]
    rising = [train(step, 1 + step / 50) for step in range(1, 101)]
    return [*symptoms.findings(lines), *symptoms.findings(rising)]


def test_every_source_exists():
    found = every_finding()
    assert len({finding.kind for finding in found}) == 6
    claims = {claim["id"] for claim in json.loads((REFERENCES / "evidence.json").read_text())["claims"]}
    for source in {finding.source for finding in found}:
        kind, _, name = source.partition(":")
        if kind == "evidence":
            assert name in claims, source
            continue
        page, _, anchor = source.partition("#")
        headings = re.findall(r"^#+ (.+)$", (REFERENCES.parent / page).read_text(), re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, source


def test_the_report_shows_each_with_its_source():
    found = every_finding()
    shown = report._advice(found)
    for finding in found:
        assert f'data-kind="{finding.kind}"' in shown and finding.source in shown
    assert "No loss spike" in report._advice([])
