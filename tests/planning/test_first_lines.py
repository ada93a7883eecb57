"""What a plan says first fits a terminal of 80 columns, whatever the card, model and rows."""

from __future__ import annotations

import json

import pytest

from conftest import PLANNER, run_script

ASKED = {
    "room": "--model meta-llama/Llama-3.1-8B --gpu H200 --max-steps 1000",
    "offload": "--model meta-llama/Llama-3.1-8B --gpu L40S --host-ram-gib 128 --rows 20000 --tokens-per-row 600"
    " --epochs 3 --price-per-hour 1.10",
    "host": "--model meta-llama/Llama-3.1-8B --gpu L40S --host-ram-gib 64 --rows 20000 --tokens-per-row 600 --epochs 3",
    "many": "--model Qwen/Qwen2.5-7B --gpu H100 --gpus 8 --tokens 2e9",
    "any": "--model Qwen/Qwen2.5-1.5B --vram-gib 12 --max-steps 100 --exactness any",
    "several cards": "--model Qwen/Qwen2.5-7B --gpu H200,L40S --max-steps 100",
}


@pytest.mark.parametrize("name", ASKED)
def test_the_first_lines_and_the_table_are_at_most_80_columns_wide_and_nothing_is_cut(name, tmp_path):
    done = run_script(PLANNER, *ASKED[name].split(), "--explain", "--output", tmp_path / "params.json")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    told = [line for line in lines if line.startswith(("fits ", "takes ", "settings ", "sure? "))]
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("- "))]
    assert len(told) == 4 and len(table) > 3
    assert [line for line in (*told, *table) if len(line) > 80 or line.endswith("...")] == []
    assert any(line.startswith("* ") for line in table)


@pytest.mark.parametrize(("gib", "decides"), [(64, True), (512, False)])
def test_a_plan_that_host_memory_decides_says_so(gib, decides, tmp_path):
    file = tmp_path / "params.json"
    done = run_script(
        PLANNER, *ASKED["host"].replace("--host-ram-gib 64", f"--host-ram-gib {gib}").split(), "--output", file
    )
    why = json.loads(file.read_text(encoding="utf-8"))["plan"]["why"]
    assert any(sentence.startswith("Host memory decides: with ") for sentence in why) == decides
    assert ("which decides" in done.stderr.splitlines()[0]) == decides
