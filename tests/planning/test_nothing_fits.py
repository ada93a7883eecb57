"""Exit 3: what would help is tried as written, the cheap changes stand first, and the table is shown."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from unsloth_fft.commands import plan
from unsloth_fft.planning import replan
from unsloth_fft.settings import parameters

LORA = "or LoRA, which trains an adapter (the command lora writes its script)"
LLAMA = "--model meta-llama/Llama-3.1-8B --max-steps 5"
TOO_LITTLE = [
    f"{LLAMA} --gpu L40S --vram-gib 20 --host-ram-gib 64",
    f"{LLAMA} --gpu L40S --vram-gib 44 --host-ram-gib 20",
    f"{LLAMA} --gpu L40S --vram-gib 44.3 --gpus 2 --host-ram-gib 16",
    f"{LLAMA} --vram-gib 24 --host-ram-gib 64",
    f"{LLAMA} --gpu RTX-4090 --host-ram-gib 32",
    f"{LLAMA} --gpu H100-PCIe --state-offload off --optimizer adamw_torch_fused --gpus 1",
    f"{LLAMA} --gpu L4 --nodes 2 --exactness any --effective-batch 4 --host-ram-gib 64",
    f"{LLAMA} --gpu A100-80GB --seq-length 16384 --gradient-checkpointing off --host-ram-gib 128",
]


def hints(error: str) -> list[str]:
    """The changes that the hint lists, without LoRA."""
    hint = next(line for line in error.splitlines() if line.startswith("hint: "))
    changes = hint.removeprefix("hint: any one of these fits: ").split("; ")
    # What comes of a change stands in parentheses behind the flag.
    return [change.split(" (")[0] for change in changes if not change.startswith("or LoRA")]


def applied(arguments: list[str], change: str) -> list[str]:
    """The command line with the change made: `--flag value` in place of the old one, `without --flag` taken out."""
    words, taken_out = shlex.split(change), set()
    if "without" in words:
        taken_out = set(words[words.index("without") + 1 :])
        words = words[: words.index("without")]
    replaced = taken_out | set(words[::2])
    kept = [
        word
        for flag, value in zip(arguments[::2], arguments[1::2], strict=True)
        if flag not in replaced
        for word in (flag, value)
    ]
    return [*kept, *words]


@pytest.mark.parametrize("line", TOO_LITTLE)
def test_every_hint_fits_when_the_command_line_is_changed_as_it_says(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = shlex.split(line)
    assert plan.main(arguments) == 3
    changes = hints(capsys.readouterr().err)
    assert changes
    for change in changes:
        assert plan.main(applied(arguments, change)) == 0, change
        capsys.readouterr()


def test_more_host_memory_and_lost_updates_are_offered_with_the_plan_that_comes_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error named 81 GiB, the plan that the hint led to needed 85: another, faster one."""
    arguments = shlex.split(f"{LLAMA} --gpu RTX-4090 --host-ram-gib 32")
    assert plan.main(arguments) == 3
    hint = capsys.readouterr().err.split("hint: ")[1]
    flags, used, rate = re.search(
        r"(--host-ram-gib \d+) \(a plan that uses (\d+) GiB of it, about ([\d,]+)", hint
    ).groups()
    assert plan.main(applied(arguments, flags)) == 0
    predicted = json.loads(capsys.readouterr().out)["plan"]["predicted"]
    assert (f"{predicted['host_ram_gib']:.0f}", f"{predicted['tokens_per_second']:,.0f}") == (used, rate)
    arguments = shlex.split(f"{LLAMA} --gpu A100-80GB --vram-gib 60 --host-ram-gib 16 --optimizer adamw_8bit")
    assert plan.main(arguments) == 3
    hint = capsys.readouterr().err.split("hint: ")[1]
    lost = re.search(
        r"--exactness any \(updates are then lost: (\w+) (\w+) moves (\d+)% to (\d+)% of the weights", hint
    )
    assert lost is not None, hint
    assert plan.main(applied(arguments, "--exactness any")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["precision"]["weights"], found["optimizer"]["name"]) == lost.groups()[:2]
    low, high = found["plan"]["predicted"]["update_survival_range"]
    assert (f"{low:.0%}", f"{high:.0%}") == (f"{lost[3]}%", f"{lost[4]}%")


def test_a_card_is_offered_without_the_old_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(shlex.split(TOO_LITTLE[0])) == 3
    changes = hints(capsys.readouterr().err)
    assert "without --vram-gib" in changes
    assert all(change.endswith(" without --vram-gib") for change in changes if change.startswith("--gpu "))


@pytest.mark.slow
def test_several_gpus_come_last(capsys: pytest.CaptureFixture[str]) -> None:
    seen = False
    for line in TOO_LITTLE:
        assert plan.main(shlex.split(line)) == 3
        changes = hints(capsys.readouterr().err)
        several = [change for change in changes if change.startswith("--gpus")]
        assert several in ([], changes[-1:])
        seen = seen or bool(several)
    assert seen


@pytest.mark.slow
def test_lora_is_named_last_and_what_weaker_exactness_means_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    for line in TOO_LITTLE:
        assert plan.main(shlex.split(line)) == 3
        error = capsys.readouterr().err
        assert error.rstrip().endswith(LORA)
        assert error.count("--exactness any;") == 0, "never without what it costs"


def test_explain_shows_the_table_where_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main([*shlex.split(TOO_LITTLE[4]), "--explain"]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "host  tokens/s" in printed.err and "lacks " in printed.err
    assert "GiB of host memory" in printed.err
    assert printed.err.index("lacks ") < printed.err.index("error: ")


def test_the_plan_after_out_of_memory_reads_the_data_as_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("One line.\nAnd another.\n\n" * 200, encoding="utf-8")
    asked = f"--model meta-llama/Llama-3.1-8B --gpu L40S --host-ram-gib 128 --dataset {tmp_path / 'text.txt'}"
    reading = "--objective pretrain --sample-by paragraph --eval-fraction 0.2 --chat-template chatml --max-steps 50"
    assert plan.main([*shlex.split(f"{asked} {reading}"), "--output", str(tmp_path / "p.json")]) == 0
    first = parameters.load(tmp_path / "p.json")
    command = shlex.split(replan.smaller(first, 40.0).split(": ", 1)[1])
    assert plan.main([*command[1:-1], str(tmp_path / "smaller.json")]) == 0
    second = parameters.load(tmp_path / "smaller.json")
    # Packed rows go with bfloat16 weights only, and the smaller plan may have others.
    assert dataclasses.replace(second.data, packing=first.data.packing) == first.data
    assert second.plan.predicted.peak_vram_gib < first.plan.predicted.peak_vram_gib
    # To leave out a limit that nobody typed would give the plan that ran out of memory.
    assert "without --vram-gib" not in replan.smaller(first, 4.0)
    capsys.readouterr()
