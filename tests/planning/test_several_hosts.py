"""Plans for many GPUs and several hosts: the batch that they take, the network, and what was never measured."""

from __future__ import annotations

import json
import shlex

import pytest

from unsloth_fft.commands import plan
from unsloth_fft.planning import default_batch

LLAMA = "--model meta-llama/Llama-3.1-8B --gpu H200 --max-steps 10"


def planned(line: str, capsys: pytest.CaptureFixture[str]) -> dict:
    assert plan.main(shlex.split(line)) == 0
    return json.loads(capsys.readouterr().out)


def warned(value: dict, words: str) -> bool:
    return any(words in sentence for sentence in value["plan"]["warnings"])


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 5, 7, 8, 12, 16, 1000, 1024])
def test_a_default_batch_is_shared_evenly_by_any_number_of_gpus(gpus: int) -> None:
    assert default_batch.rows_for(gpus) % gpus == 0
    assert default_batch.rows_for(gpus) >= 16


def test_without_a_batch_many_gpus_get_four_rows_each_and_the_plan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(f"{LLAMA} --gpus 8 --nodes 4", capsys)
    assert found["batch"]["effective_batch_size"] == 128
    assert warned(found, "128 rows a step, 4 for each of 32 GPUs; the default learning rate stays")
    assert found["optimizer"]["learning_rate"] == planned(LLAMA, capsys)["optimizer"]["learning_rate"]


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_up_to_four_gpus_keep_sixteen_rows_without_a_word(gpus: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(f"{LLAMA} --gpus {gpus}", capsys)
    assert found["batch"]["effective_batch_size"] == 16
    assert not warned(found, "effective batch")


def test_a_batch_that_was_given_is_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(f"{LLAMA} --gpus 8 --effective-batch 16", capsys)
    assert found["batch"]["effective_batch_size"] == 16 and not warned(found, "was not given")
    assert plan.main(shlex.split(f"{LLAMA} --gpus 8 --nodes 4 --effective-batch 16")) == 2
    assert "cannot be shared evenly by 32" in capsys.readouterr().err


def test_beyond_the_recipes_batches_the_rate_is_said_to_be_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(f"{LLAMA} --gpus 8 --nodes 16", capsys)
    assert found["batch"]["effective_batch_size"] == 512
    assert warned(found, "by a rule of thumb")
