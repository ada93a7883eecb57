"""No command writes over what it reads, under whatever name: exit 2, and the input as it was."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import conversation_rows, minimal_parameters, write_jsonl, write_parameters
from unsloth_fft.commands import plan, tool
from unsloth_fft.core import outputs
from unsloth_fft.core.errors import BadInput

QWEN = ("--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H100")


@pytest.fixture
def here(tmp_path, tiny_model, monkeypatch) -> Path:
    shutil.copytree(tiny_model, tmp_path / "m")
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(5))
    write_parameters(tmp_path / "p.json", minimal_parameters("m", "rows.jsonl"))
    (tmp_path / "prices.json").write_text('{"prices": []}')
    (tmp_path / "folder").mkdir()
    write_jsonl(tmp_path / "folder" / "train.jsonl", conversation_rows(5))
    (tmp_path / "tuning").mkdir()
    shutil.copy(tmp_path / "p.json", tmp_path / "tuning" / "try.json")
    os.symlink("rows.jsonl", tmp_path / "link.jsonl")
    os.link(tmp_path / "rows.jsonl", tmp_path / "hard.jsonl")
    os.symlink("m", tmp_path / "model-link")
    monkeypatch.chdir(tmp_path)
    return tmp_path


CASES = {
    "a plan over its data": (plan, *QWEN, "--dataset", "rows.jsonl", "--output", "rows.jsonl"),
    "through a link": (plan, *QWEN, "--dataset", "rows.jsonl", "--output", "link.jsonl"),
    "through a hard link": (plan, *QWEN, "--dataset", "rows.jsonl", "--output", "hard.jsonl"),
    "by a long way round": (plan, *QWEN, "--dataset", "rows.jsonl", "--output", "folder/../rows.jsonl"),
    "data named by a link": (plan, *QWEN, "--dataset", "link.jsonl", "--output", "rows.jsonl"),
    "a file of a folder of data": (plan, *QWEN, "--dataset", "folder", "--output", "folder/train.jsonl"),
    "a new file that would be data": (plan, *QWEN, "--dataset", "folder", "--output", "folder/new.json"),
    "a plan over its model": (plan, "--model", "./m", "--gpu", "H100", "--max-steps", "5", "--output", "m/config.json"),
    "a model's file itself": (plan, "--model", "m/config.json", "--gpu", "H100", "--max-steps", "5", "--output",
                              "m/config.json"),
    "a model's folder by a link": (plan, "--model", "./m", "--gpu", "H100", "--max-steps", "5", "--output",
                                   "model-link/tokenizer.json"),
    "prices": (plan, *QWEN, "--max-steps", "5", "--prices", "prices.json", "--output", "prices.json"),
    "a data report": (tool, "data", "rows.jsonl", "--model", "m", "--report", "rows.jsonl"),
    "a data report over its tokenizer": (tool, "data", "rows.jsonl", "--model", "m", "--report", "m/tokenizer.json"),
    "a data report over its parameters": (tool, "data", "--params", "p.json", "--report", "p.json"),
    "an audit": (tool, "audit", "m", "m", "--output", "m/model.safetensors"),
    "a prediction": (tool, "predict", "--model", "m", "--learning-rate", "1e-5", "--precision", "bfloat16", "--output",
                     "m/config.json"),
    "a prediction's plot": (tool, "predict", "--model", "m", "--learning-rate", "1e-5", "--precision", "bfloat16",
                            "--plot", "m/model.safetensors"),
    "a hand-off over its parameters": (tool, "render", "--params", "p.json", "--target", "script", "--output",
                                       "p.json"),
    "a hand-off over the data": (tool, "render", "--params", "p.json", "--target", "script", "--output", "rows.jsonl"),
    "a hand-off over the model": (tool, "render", "--params", "p.json", "--target", "script", "--output",
                                  "m/config.json"),
    "an adapter's script over its rows": (tool, "lora", "--model", "m", "--dataset", "hard.jsonl", "--output",
                                          "rows.jsonl"),
    "an adapter's script over its model": (tool, "lora", "--model", "m", "--dataset", "rows.jsonl", "--output",
                                           "model-link/tokenizer.json"),
    "a tuned plan over its plan": (tool, "tune", "--params", "p.json", "--folder", "t", "--output", "p.json"),
    "a tuned plan over the data": (tool, "tune", "--params", "p.json", "--folder", "t", "--output", "link.jsonl"),
    "tuning in the folder of its plan": (tool, "tune", "--params", "tuning/try.json", "--folder", "tuning", "--output",
                                         "o.json"),
    "a benchmark over its plan": (tool, "benchmark", "p.json", "--output", "p.json"),
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_an_output_over_an_input_is_refused_and_nothing_changes(here, capsys, case):
    command, *arguments = CASES[case]
    before = contents(here)
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"] and "would be lost" in said, said
    assert contents(here) == before


def test_every_flag_that_names_a_file_to_write_is_tried_above():
    flags = {(name, flag) for name, parser in commands() for flag in ("--output", "--plot", "--report") if flag in
             parser._option_string_actions}  # fmt: skip
    tried = {(words[0] if command is tool else "plan", word) for command, *words in CASES.values() for word in words}
    assert {name for name, _ in flags} > {"plan", "lora", "tune", "predict"} and flags <= tried


def test_every_number_of_every_flag_is_bounded():
    """int() and float() take 400 digits, nan and inf."""
    plain = [(name, action.dest) for name, parser in commands() for action in parser._actions if action.type in (
        int, float)]  # fmt: skip
    assert not plain


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every sub-command's parser, and the planner's."""
    yield "plan", plan.parser()
    for action in tool.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


@pytest.mark.parametrize(
    "name", ["session.json", "params.json", "metrics.jsonl", "model/x.json", "checkpoints/c/x", ".lock"]
)
def test_what_a_session_is_made_of_is_kept_and_its_reports_may_be_made_anew(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(BadInput, match="would be lost"):
        outputs.refuse_overwriting({"--output": tmp_path / name}, sessions=[tmp_path])
    outputs.refuse_overwriting({"--output": tmp_path / "audit.json"}, sessions=[tmp_path])


@pytest.mark.parametrize("name", ["session.json", "params.json", "metrics.jsonl", "model/config.json", "checkpoints/x"])
def test_a_session_is_kept_from_commands_that_do_not_read_it(here, capsys, name):
    (here / "s" / name).parent.mkdir(parents=True, exist_ok=True)
    (here / "s" / "session.json").write_text("{}")
    before = contents(here)
    lora = ("lora", "--model", "m", "--dataset", "rows.jsonl")
    render = ("render", "--params", "p.json", "--target", "trl", "--accept-lost")
    for command in (lora, render, ("tune", "--params", "p.json", "--folder", "t")):
        assert tool.main([*command, "--output", f"s/{name}"]) == 2
        assert "would be lost" in capsys.readouterr().err
    assert contents(here) == before


def test_two_outputs_are_two_files_and_a_device_takes_any_number(tmp_path):
    with pytest.raises(BadInput, match="same file"):
        outputs.refuse_overwriting({"--output": tmp_path / "a", "--plot": tmp_path / "b" / ".." / "a"})
    outputs.refuse_overwriting({"--output": "/dev/null", "--plot": "/dev/null"}, files=["/dev/null"])


def test_other_files_may_stand_beside_a_model(here, capsys):
    assert plan.main(["--model", "./m", "--gpu", "H100", "--max-steps", "5", "--output", "m/params.json"]) == 0
