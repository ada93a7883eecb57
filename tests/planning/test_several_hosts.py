"""Plans for many GPUs and several hosts: the batch that they take, the network, and what was never measured."""

from __future__ import annotations

import json
import shlex

import pytest

from unsloth_fft.commands import plan
from unsloth_fft.planning import default_batch
from unsloth_fft.settings import parameters

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


LARGE = "--model meta-llama/Llama-3.1-70B --gpu H200 --host-ram-gib 1500 --max-steps 10 --gpus 8"


def rate(value: dict) -> float:
    return value["plan"]["predicted"]["tokens_per_second"]


def test_the_named_network_decides_the_speed_of_several_hosts_and_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assumed, slow, same = (
        planned(f"{LARGE} --nodes 2 {network}", capsys) for network in ("", "--network-gbs 12.5", "--network-gbs 50")
    )
    assert rate(slow) < rate(assumed) == rate(same)
    assert "network_gbs" not in assumed["plan"]["hardware"]
    assert slow["plan"]["hardware"]["network_gbs"] == 12.5
    assert warned(slow, "12.5 GB/s a GPU, as given") and warned(assumed, "assumed to carry 50 GB/s")
    assert parameters.from_json(slow, "it").to_json() == slow


def test_a_network_of_one_host_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(shlex.split(f"{LLAMA} --gpus 8 --network-gbs 25")) == 2
    assert "add --nodes N" in capsys.readouterr().err


def test_hosts_that_make_a_plan_slower_are_named_with_the_batch_from_which_they_pay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    two, one = (
        planned(f"{LARGE} --nodes 2 --effective-batch 16", capsys),
        planned(f"{LARGE} --effective-batch 16", capsys),
    )
    assert rate(two) < rate(one)
    sentence = next(text for text in two["plan"]["warnings"] if "no faster than one" in text)
    batch = int(sentence.split("--effective-batch ")[1].split()[0])
    for size, pays in ((batch, True), (batch // 2, False)):
        several, alone = (planned(f"{LARGE} --nodes {hosts} --effective-batch {size}", capsys) for hosts in (2, 1))
        assert (rate(several) > rate(alone)) == pays
        assert warned(several, "no faster than one") != pays
    assert not warned(one, "no faster than one")


def test_layouts_that_were_never_measured_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert warned(planned(LARGE, capsys), "Not measured: FSDP2's sharded layout")
    offloaded = planned(f"{LLAMA} --gpus 2 --state-offload on --host-ram-gib 512", capsys)
    assert warned(offloaded, "Not measured: optimizer state in host memory under FSDP2")
    assert not warned(planned(f"{LLAMA} --gpus 2", capsys), "Not measured")
    assert not warned(planned(f"{LLAMA} --state-offload on --host-ram-gib 512", capsys), "Not measured")


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-32B", "meta-llama/Llama-3.1-70B"])
def test_no_number_of_hosts_is_slower_than_fewer_of_them_without_the_words(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fastest = 0.0
    for hosts in range(1, 9):
        found = planned(f"{LARGE.replace('meta-llama/Llama-3.1-70B', model)} --nodes {hosts}", capsys)
        assert rate(found) > fastest or warned(found, "no faster than one"), hosts
        fastest = max(fastest, rate(found))
        assert found["batch"]["effective_batch_size"] == 4 * 8 * hosts
