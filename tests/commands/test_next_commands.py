"""Every command answers in five lines of 80 columns and names the next one, which runs as it is pasted."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import PLANNER, TOOL, conversation_rows, run_script, write_jsonl
from unsloth_fft.commands import plan, tool

WIDTH, MOST = 80, 5
COMMAND = re.compile(r"^(next|elsewhere|run it with): (.*)$", re.MULTILINE)
# What a command writes; everything else that it names is there.
WRITES = {
    "init": ("session",),
    "export": ("to",),
    "tune": ("output", "folder"),
    "render": ("output",),
    "plan": ("output",),
}
NAMES = ("params", "folder", "session", "to", "output", "model", "dataset", "base", "trained")
NOISE = re.compile(r"\[transformers\]|\dit/s|pytree|bitsandbytes|Warning|Unsloth|missing keys|==\(\(")
STEPS = 6


def words_of(line: str) -> tuple[str, list[str]]:
    """(program, its words), without what starts Python."""
    words = shlex.split(line)
    if words[:2] == ["uv", "run"]:
        words = words[2:]
    elif words[0] == "python":
        words = words[1:]
    return Path(words[0]).name, words[1:]


def parsed(line: str) -> tuple[str, Any]:
    """The command's name and its arguments, by the parser that it will meet."""
    program, words = words_of(line)
    if program == PLANNER.name:
        return "plan", plan.parser().parse_args(words)
    assert program == TOOL.name, line
    return words[0], tool.parser().parse_args(words)


def checked(folder: Path, line: str) -> None:
    """`line` is a command with known arguments; what it reads is in `folder`, and what it writes is not."""
    program, _ = words_of(line)
    if program.endswith(".py") and program not in (PLANNER.name, TOOL.name):
        assert (folder / program).is_file(), line
        return
    name, args = parsed(line)
    for what in NAMES:
        value = getattr(args, what, None)
        if value is None:
            continue
        written = what in WRITES.get(name, ())
        assert (folder / str(value)).exists() != written, f"{what} of: {line}"


def follows(said: str, folder: Path) -> str:
    """The next command of what was said, all of whose lines and commands are as they should be."""
    lines = [line for line in said.splitlines() if line]
    assert [line for line in lines if len(line) > WIDTH and not COMMAND.match(line)] == []
    assert not NOISE.search(said), said
    for found in COMMAND.finditer(said):
        checked(folder, found[2])
    [line] = [found[2] for found in COMMAND.finditer(said) if found[1] == "next"]
    return line


def answer(said: str) -> list[str]:
    """The lines of the answer: those before warnings and notes, the next command included."""
    end = said.index("\n", said.index("next: "))
    return said[:end].splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    made = tmp_path_factory.mktemp("here")
    shutil.copytree(home / "tiny", made / "tiny")
    write_jsonl(made / "my rows.jsonl", conversation_rows(40))
    return made


@pytest.fixture(scope="module")
def walked(folder: Path, workers) -> dict[str, str]:
    """What each command said, from a plan to an export, each started by the next command of the one before."""
    flags = f"--max-steps {STEPS} --seq-length 128 --effective-batch 8 --learning-rate 1e-3"
    line = f"generate_fft_params.py --model tiny --dataset 'my rows.jsonl' {flags}"
    said: dict[str, str] = {}
    for name in ("plan", "plan kept", "init", "train", "eval", "export"):
        program, words = words_of(line)
        done = run_script(PLANNER, *words, cwd=folder) if program == PLANNER.name else workers.run_in(folder, *words)
        assert done.returncode == 0, done.stderr
        said[name] = done.stderr
        if name == "plan kept":
            measured(folder)
        if name != "export":
            line = follows(done.stderr, folder) if name in ("plan", "plan kept") else next_of(done.stderr)
            checked(folder, line)
    return said


def measured(folder: Path) -> None:
    """Have the plan's rate come from `tune`."""
    tries = [{"learning_rate": rate, "steps": 8, "loss": loss} for rate, loss in ((1e-3, 2.0), (4e-3, 2.5))]
    tuning = {"schema_version": "1.0", "chosen": 1e-3, "planned": 4e-3, "edge": "lower", "run_steps": STEPS,
              "tuning_steps": 16, "share": 2.7, "rounds": [tries]}  # fmt: skip
    (folder / "tuning.json").write_text(json.dumps(tuning))
    value = json.loads((folder / "params.json").read_text())
    value["optimizer"]["tuning"] = "tuning.json"
    (folder / "params.json").write_text(json.dumps(value))


def next_of(said: str) -> str:
    return next(found[2] for found in COMMAND.finditer(said) if found[1] == "next")


def test_each_next_command_leads_on_from_a_plan_to_an_export(walked: dict[str, str], folder: Path) -> None:
    assert (folder / "my-model" / "config.json").is_file()
    for said in walked.values():
        assert not NOISE.search(said), said
        assert [line for line in said.splitlines() if len(line) > WIDTH and not COMMAND.match(line)] == []
    for name in ("plan", "plan kept", "init", "eval"):
        assert len(answer(walked[name])) <= MOST, walked[name]
    end = walked["train"].split("\n\n")[1]
    assert end.startswith("held out") and len(answer(end)) <= MOST
    assert walked["export"].startswith("exported") and len(walked["export"].splitlines()) <= MOST


def test_the_log_of_a_run_says_how_far_it_is_and_nothing_more(walked: dict[str, str]) -> None:
    steps = [line for line in walked["train"].splitlines() if line.startswith("step ")]
    assert [line.split(",")[0] for line in steps] == [f"step 1 of {STEPS}", f"step {STEPS} of {STEPS}"]


def test_the_report_draws_how_the_rate_was_measured(walked: dict[str, str], folder: Path) -> None:
    page = (folder / "run-1" / "report.html").read_text(encoding="utf-8")
    assert "Learning rates that were tried" in page and "lowest at 0.001" in page


@pytest.mark.parametrize(
    ("command", "starts"),
    [
        ("data 'my rows.jsonl' --model tiny --max-seq-length 128", "usable"),
        ("data --params params.json --model tiny", "usable"),
        ("init --params params.json --check", "in order"),
        ("status run-1", "state"),
        ("audit run-1", "verdict"),
        ("tune --params params.json --folder tries --rates 1e-3,2e-3 --share 10 --plan", "tries"),
    ],
)
def test_the_first_lines_are_the_answer_and_the_next_command(
    walked: dict[str, str], folder: Path, command: str, starts: str, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(folder)
    assert tool.main(shlex.split(command)) == 0
    said = capsys.readouterr()
    words = said.out if starts == "verdict" else said.err
    follows(words, folder)
    first = answer(words)
    assert first[0].startswith(starts) and len(first) <= MOST, words


def test_files_that_are_handed_over_are_run_by_the_command_that_is_named(
    walked: dict[str, str], folder: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(folder)
    assert tool.main(["render", "--params", "params.json", "--target", "script", "--output", "train it.py"]) == 0
    assert tool.main(["lora", "--model", "tiny", "--dataset", "my rows.jsonl", "--output", "lora it.py"]) == 0
    assert tool.main(["doctor"]) == 0
    said = capsys.readouterr()
    named = [found[2] for found in COMMAND.finditer(said.err)]
    assert [words_of(line)[0] for line in named] == ["train it.py", "lora it.py"]
    for line in named:
        checked(folder, line)
    assert max(map(len, said.out.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", ["a b", "it's", "-dash", "$HOME"])
def test_a_name_in_a_next_command_means_itself(
    walked: dict[str, str], folder: Path, name: str, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(folder)
    shutil.copy("params.json", f"{name}.json")
    assert tool.main(["init", "--check", f"--params={name}.json"]) == 0
    assert (folder / parsed(next_of(capsys.readouterr().err))[1].params).samefile(f"{name}.json")
