"""Every command on a page works: it is run, or, where it would train or needs a place of its own, parsed and checked.

Run for real: the planner, `predict`, `render`, `data`, `doctor`, `audit` of two folders, `status`, `init` of a small
plan, shell loops, Python snippets. Parsed by the real parser, with the reason in PARSED: what trains, evaluates,
exports or reads a finished run. Programs under tests/ and tools/ must exist and know the flags.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pages
from checkpoints import UP, bf16, small_weights, step, write_folder
from conftest import ROOT, conversation_rows, minimal_parameters, write_jsonl, write_parameters
from tools import build_zip
from tools.pages import evidence
from unsloth_fft.commands import plan, tool
from unsloth_fft.core import schema
from unsloth_fft.settings import parameters

PLANNER, TOOL, BUILDER = "scripts/generate_fft_params.py", "scripts/unsloth_fft_tool.py", "scripts/build_skill.py"
PARSED = {
    "benchmark": "tests/benchmarking/test_benchmark.py runs it; for minutes, and on a GPU where it says something",
    "demo": "trains; run by tests/demo/test_demo.py",
    "train": "trains; run by tests/demo/test_demo.py and tests/training/test_session_faults.py",
    "tune": "trains, many times over; run by tests/tuning",
    "eval": "needs a finished run; run by its own tests",
    "export": "needs a finished run; run by tests/finishing/test_export.py",
    "init": "the pages' models need more disk than a test machine has; a small plan is run here",
    "status": "needs a run; run here on a small session",
    "audit": "--session needs a finished run; the audit of two folders is run here",
}
ELSEWHERE = {
    "pytest": "is this suite",
}
# Commands that are shown because nothing fits, by a part of them.
EXITS = {"--gpu RTX-4090": 3, "--vram-gib 24 --max-steps 1 --exactness any --state-offload off": 3}


def command_lines() -> list[pytest.param]:
    """Each line of each bash fence on every page, continuation lines joined; loops stay whole."""
    found = []
    for fence in pages.fences("bash", "sh"):
        text = re.sub(r"\\\n\s*", " ", fence.text)
        units = [text] if re.search(r"^(for|if|while) ", text, re.MULTILINE) else text.splitlines()
        for unit in units:
            line = unit.strip()
            if line and not line.startswith("#"):
                found.append(pytest.param(line, id=f"{fence.id}:{line[:60]}"))
    return found


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """A folder in which the names that pages use exist: data, a model, two checkpoints, a plan."""
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))
    (tmp_path / "corpus.txt").write_text("A line of text to learn from.\n" * 500, encoding="utf-8")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for name in ("my-model", "MODEL_DIR"):
        shutil.copytree(tiny_model, tmp_path / name)
    weights = small_weights()
    trained = {name: (step(values, 1e-5) if name == UP else values) for name, values in weights.items()}
    for folder, values in (("BASE_DIR", weights), ("TRAINED_DIR", trained)):
        write_folder(tmp_path / folder, {name: bf16(array) for name, array in values.items()})
    write_parameters(tmp_path / "small.json", minimal_parameters(tmp_path / "my-model", tmp_path / "rows.jsonl"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    planned = ["--model", "meta-llama/Llama-3.1-8B", "--gpu", "L40S", "--host-ram-gib", "128"]
    assert plan.main([*planned, "--dataset", "rows.jsonl", "--output", "params.json"]) == 0
    return tmp_path


def words_of(line: str) -> list[str]:
    """The command's words without what only installs or starts Python."""
    line = re.sub(r"^pip install \S+ && ", "", line).replace("${CLAUDE_SKILL_DIR}/", "")
    words = shlex.split(line, comments=True)
    if words[:2] == ["uv", "run"]:
        words = words[2:]
        while words[0].startswith("--"):
            words = words[2:]
        return words if words[0] != "pytest" else ["pytest"]
    return words[1:] if words[0] == "python" else words


@pytest.mark.parametrize("line", command_lines())
def test_commands_on_pages_work(line: str, sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if line.startswith(("for ", "if ", "while ")):
        run_shell(line, sandbox)
        return
    words = words_of(line)
    program, arguments = words[0], words[1:]
    if program in ELSEWHERE:
        assert ELSEWHERE[program]
    elif program == PLANNER:
        run_planner(line, arguments, capsys)
    elif program == TOOL:
        run_tool(arguments)
    elif program == BUILDER:
        with pytest.raises(SystemExit) as ended:
            build_zip.entry(arguments)
        assert ended.value.code == 0
    elif program == "-m":
        module_knows_flags(arguments)
    elif program.startswith("tests/"):
        knows_flags(program, arguments)
    else:
        raise AssertionError(f"nobody checks this command: {line}")


def module_knows_flags(words: list[str]) -> None:
    """Of `python -m tools.a.b --flag ...`: the module is there and names each flag."""
    assert words[0].startswith("tools."), f"nobody checks this module: {words[0]}"
    knows_flags(f"{words[0].replace('.', '/')}.py", words[1:])


def knows_flags(program: str, arguments: list[str]) -> None:
    text = (ROOT / program).read_text(encoding="utf-8")
    assert [flag for flag in arguments if flag.startswith("--") and f'"{flag}"' not in text] == []


def run_planner(line: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    expected = next((code for flag, code in EXITS.items() if flag in line), 0)
    capsys.readouterr()
    assert plan.main(arguments) == expected, capsys.readouterr().err
    printed = capsys.readouterr().out
    if "--output" in arguments and "--json" not in arguments and not expected:
        assert printed == ""
        printed = Path(arguments[arguments.index("--output") + 1]).read_text(encoding="utf-8")
    if expected:
        assert list(json.loads(printed)) == ["error"] if "--json" in arguments else printed == ""
    else:
        assert schema.problems(json.loads(printed), "parameters") == []


def run_tool(arguments: list[str]) -> None:
    args = tool.parser().parse_args(arguments)
    command = arguments[0]
    if command in PARSED and not (command == "audit" and args.base):
        assert PARSED[command]
        if command == "init":
            parameters.load(Path("params.json"))
        return
    if command == "data":  # the large plan's model is on the Hub; its tokenizer is not here
        arguments = ["small.json" if word == "params.json" else word for word in arguments]
    # doctor exits 4 where something is missing, which is an answer and not a fault of the page.
    assert tool.main(arguments) in ((0, 4) if command == "doctor" else (0,))


def run_shell(text: str, sandbox: Path) -> None:
    programs = sandbox / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    # The virtual environment's Python finds its packages by its real place, not by the link's.
    python_path = os.pathsep.join(entry for entry in sys.path if entry.endswith("-packages"))
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        capture_output=True,
        text=True,
        cwd=sandbox,
        env={**os.environ, **path, "PYTHONPATH": python_path},
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert "exit" not in finished.stderr, finished.stderr
    written = sorted(sandbox.glob("plan-*.json"))
    assert written
    for file in written:
        assert schema.problems(json.loads(file.read_text(encoding="utf-8")), "parameters") == []


def test_init_and_status_run_on_a_small_plan(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["init", "--params", "small.json", "--session", "run-1", "--json"]) == 0
    assert schema.problems(json.loads(capsys.readouterr().out), "session") == []
    assert tool.main(["status", "run-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "initialized"


def test_every_subcommand_is_on_a_page() -> None:
    shown = {words_of(str(value.values[0]))[1] for value in command_lines() if TOOL in str(value.values[0])}
    choices = next(action.choices for action in tool.parser()._actions if action.dest == "command")
    assert choices is not None and set(choices) <= shown


def test_a_wrong_command_is_noticed(sandbox: Path) -> None:
    from unsloth_fft.core.errors import BadInput

    with pytest.raises(BadInput, match="--vram"):
        run_tool(["predict", "--model", "x", "--learning-rate", "1e-5", "--precision", "float32", "--vram", "3"])


# Ledger: how a measurement is made again must be a command that the scripts take.


def ledger_commands() -> list[pytest.param]:
    return [pytest.param(claim.basis.command, id=claim.id) for claim in evidence.load() if claim.basis.command]


@pytest.mark.parametrize("command", ledger_commands())
def test_commands_of_the_ledger_are_taken(command: str, sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in command.split(" && "):
        words = shlex.split(part)
        if words[1] == PLANNER:
            run_planner(part, words[2:], capsys)
        elif words[1] == TOOL:
            tool.parser().parse_args(words[2:])
        elif words[1] == "-c":
            compile(words[2], "ledger", "exec")
        elif words[1].startswith("tests/"):
            knows_flags(words[1], words[2:])
        elif words[1:3] == ["-m", "torch.distributed.run"]:
            module_knows_flags(words[words.index("-m", 2) + 1 :])
        elif words[1] == "-m":
            module_knows_flags(words[2:])
        else:
            raise AssertionError(f"nobody checks this command: {part}")


# JSON and Python on pages.


def json_examples() -> list[pytest.param]:
    return [pytest.param(fence.text, id=fence.id) for fence in pages.fences("json", "jsonl")]


@pytest.mark.parametrize("text", json_examples())
def test_json_examples_validate(text: str) -> None:
    assert problems_of_example(text) == []


def problems_of_example(text: str) -> list[str]:
    """What is wrong with an example: a price table, an error, a parameters file or sections of one."""
    stripped = text.strip()
    value = json.loads(stripped if stripped.startswith("{") else f"{{{stripped}}}")
    if "prices" in value:
        return schema.problems(value, "prices")
    if "error" in value:
        return [] if set(value["error"]) == {"code", "message", "hint"} else ["not an error object"]
    if "schema_version" in value:
        found = schema.problems(value, "parameters")
        return found or list(parameters.contradictions(parameters.from_json(value, "the example")))
    sections = schema.load("parameters")["properties"]
    whole = minimal_parameters("MODEL_DIR", None)
    for name, section in value.items():
        if name not in sections:
            return [f"'{name}' is no section of a parameters file"]
        whole[name] = {**whole[name], **section}
    return schema.problems(whole, "parameters")


@pytest.mark.parametrize(
    "text",
    ['"data": {"sorces": []}', '{"schema_version": "1.0", "model": {}}', '{"error": {"code": "x"}}', '"datas": {}'],
)
def test_the_json_check_can_fail(text: str) -> None:
    assert problems_of_example(text)


@pytest.mark.parametrize("text", [pytest.param(fence.text, id=fence.id) for fence in pages.fences("python")])
def test_python_examples_run(text: str) -> None:
    finished = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()
