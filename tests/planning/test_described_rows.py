"""Data that are elsewhere, in the user's words: the plan is the one that the data would give."""

from __future__ import annotations

import json
import random
import shlex
from pathlib import Path

import pytest

from unsloth_fft.commands import plan
from unsloth_fft.planning import described_rows

MODEL = "--model Qwen/Qwen2.5-7B --gpu H100 --host-ram-gib 256"


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]):
    """Run the planner: (exit code, the plan or None, stderr)."""

    def run(line: str):
        capsys.readouterr()
        code = plan.main(shlex.split(line))
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def test_described_rows_give_the_plan_that_the_rows_themselves_give(planned, tmp_path: Path) -> None:
    chance = random.Random(3)
    lengths = [max(chance.lognormvariate(6.0, 0.6), 20) for _ in range(1500)]
    # A word of four letters is estimated as 0.89 tokens (data_doctor/token_estimate.py).
    rows = [{"prompt": "word " * 10, "completion": "word " * round(length / 0.89 - 10)} for length in lengths]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = planned(f"{MODEL} --dataset {file} --epochs 3")[1]
    mean = read["data"]["tokens_per_row"]
    deviation = (sum((length - mean) ** 2 for length in lengths) / len(lengths)) ** 0.5
    said = planned(f"{MODEL} --rows 1500 --tokens-per-row {mean}+-{deviation:.0f} --epochs 3")[1]
    for section in ("precision", "optimizer", "memory", "batch", "distributed"):
        assert said[section] == read[section]
    for key in ("steps", "tokens", "tokens_per_second", "hours"):
        assert said["plan"]["predicted"][key] == pytest.approx(read["plan"]["predicted"][key], rel=0.05), key
    assert said["data"]["rows"] == 1500 and said["data"]["dataset"] is None
    assert "were not read" in " ".join(said["plan"]["warnings"])


def test_twenty_million_rows_cost_no_time_and_count(planned) -> None:
    few = planned(f"{MODEL} --rows 20000 --tokens-per-row 600 --epochs 3 --eval-fraction 0")[1]["plan"]["predicted"]
    many = planned(f"{MODEL} --rows 2e7 --tokens-per-row 600 --epochs 3 --eval-fraction 0")[1]["plan"]["predicted"]
    assert many["tokens"] == pytest.approx(1000 * few["tokens"], rel=0.01)
    assert few["tokens"] >= 3 * 20000 * 600 * 0.99


@pytest.mark.parametrize(
    ("text", "middle", "high"),
    [("p50=400,p95=1800", 400, 1800), ("p25=200,p50=400,p90=900,max=1000", 400, 1000), ("p50=400", 400, None)],
)
def test_percentiles_are_met(text: str, middle: float, high: float | None) -> None:
    facts = described_rows.facts(10_000, described_rows.parse(text), None)
    assert facts.lengths[len(facts.lengths) // 2] == pytest.approx(middle, rel=0.02)
    if high is not None:
        assert facts.lengths[round(0.95 * len(facts.lengths))] == pytest.approx(high, rel=0.03)


@pytest.mark.parametrize("text", ["", "-5", "60x", "p50=400,p20=900", "p101=3", "max=9", "600+-1e9", "p50=0"])
def test_lengths_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        described_rows.parse(text)


def test_all_rows_alike_can_be_said() -> None:
    assert set(described_rows.facts(50, described_rows.parse("600+-0"), None).lengths) == {600}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--rows 300 --tokens-per-row 500 --format messages", ("rows are few", "--chat-template")),
        ("--rows 300 --tokens-per-row 500", ("If the rows are conversations", "--chat-template")),
        ("--rows 9000 --tokens-per-row 500 --format text", ("--objective pretrain",)),
        ("--rows 9000 --tokens-per-row 3000", ("will be cut", "leaves at most 1% cut")),
        ("--rows 9000 --tokens-per-row 3000+-0", ("will be cut", "--seq-length 3008 cuts none,")),
        ("--tokens 1e7 --dataset owner/data", ("shorter ones bring fewer tokens", "--rows N --tokens-per-row X")),
    ],
)
def test_warnings_fire_from_the_users_words(planned, line: str, words: tuple[str, ...]) -> None:
    code, _, error = planned(f"{MODEL} {line}")
    assert code == 0
    said = " ".join(error.split())
    for word in words:
        assert word in said


def test_longer_texts_are_said_to_be_split_and_not_cut(planned) -> None:
    line = f"{MODEL} --rows 9000 --tokens-per-row 3000 --objective pretrain --seq-length"
    code, found, error = planned(f"{line} 2048")
    assert code == 0 and "cut" not in error
    assert "go on in the next row" in " ".join(found["plan"]["why"])
    assert "go on in the next row" not in " ".join(planned(f"{line} 32768")[1]["plan"]["why"])


def test_words_that_contradict_what_was_read_or_say_half_are_refused(planned, rows_file: Path) -> None:
    for line, word in (
        (f"--dataset {rows_file} --rows 5 --tokens-per-row 9", "was read here: 40 rows"),
        ("--rows 5", "--tokens-per-row X"),
        ("--tokens-per-row 5 --max-steps 3", "--rows N"),
    ):
        code, _, error = planned(f"{MODEL} {line}")
        assert code == 2 and word in error


def test_few_rows_are_held_out_of_many_and_evaluated_about_ten_times(planned) -> None:
    found = planned(f"{MODEL} --rows 20000 --tokens-per-row 600 --epochs 3")[1]
    assert found["data"]["eval_fraction"] == 0.025
    predicted, every = found["plan"]["predicted"], found["schedule"]["eval_steps"]
    assert 9 <= predicted["steps"] / every <= 10
    assert predicted["hours_breakdown"]["evaluation"] < 0.1 * predicted["hours"]
    large = planned(f"{MODEL} --tokens 2e9 --dataset owner/data --objective pretrain")[1]
    assert large["plan"]["predicted"]["hours_breakdown"]["evaluation"] < 0.02 * large["plan"]["predicted"]["hours"]
    assert planned(f"{MODEL} --max-steps 5")[1]["schedule"]["eval_steps"] is None


def test_a_plan_that_is_fastest_without_padding_says_so_and_can_be_compared(planned) -> None:
    """A padded runner-up reads 5,825 tokens a second, of which the fewer are the rows' own."""
    line = "--model Qwen/Qwen2.5-7B --gpu H100 --host-ram-gib 128 --rows 20000 --tokens-per-row 600 --epochs 3"
    found = planned(line)[1]["plan"]
    rates = [one["unpadded_tokens_per_second"] for one in (found["predicted"], *found["alternatives"])]
    assert rates == sorted(rates, reverse=True)
    assert any(one["tokens_per_second"] > found["predicted"]["tokens_per_second"] for one in found["alternatives"])
    assert any(sentence.startswith("Tokens/s count padding") for sentence in found["why"])
