"""The ZIP where it is really run: a Python with nothing installed, no network, no home, one core, a skill's folder that
may not be written to, another working folder. Every command of SKILL.md that touches no tensors does its work there.

What Claude's container is: platform.claude.com, "Code execution tool" (references/handoff.md quotes it).
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import venv
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import pages
from conftest import ROOT, conversation_rows, write_jsonl
from tools import build_zip
from tools.grading import checks, outputs

MIB = 1024  # in the unit of ulimit -v
LEAST, PLAIN = 256 * MIB, 512 * MIB
# What jsonschema itself needs, and what a container brings.
BROUGHT = (
    *("jsonschema", "jsonschema_specifications", "referencing", "rpds", "attr", "attrs", "typing_extensions.py"),
    *("numpy", "numpy.libs", "pyarrow", "pyarrow.libs"),
)
BESIDES = (
    *("data rows.jsonl --json", "data corpus.txt", "init --params params.json --check", "doctor --json"),
    *(
        f"render --params params.json --target {target} --output {target}.out"
        for target in ("slurm", "docker", "modal")
    ),
)
# How a command ends without packages: everything that needs tensors says so in two lines.
NEEDS_MORE = ("init", "train", "eval", "export", "audit", "demo", "status", "tune")
EXPECTED = {"doctor": (4,), **dict.fromkeys(NEEDS_MORE, (2, 4))}


@dataclass(frozen=True)
class Container:
    """A place to run commands in: the skill's folder, the working folder, and what Python finds beside itself."""

    skill: Path
    work: Path
    python: Path
    extra: dict[str, str]

    def run(self, line: str, memory: int = PLAIN) -> subprocess.CompletedProcess[str]:
        """Run a line of SKILL.md in a shell, as Claude would."""
        core = min(os.sched_getaffinity(0))
        environment = {
            "PATH": f"{self.python.parent}:/usr/bin:/bin", "TMPDIR": str(self.work.parent),
            "CLAUDE_SKILL_DIR": str(self.skill), **self.extra,
        }  # fmt: skip
        inside = f"ulimit -v {memory}; exec taskset -c {core} sh -c {shlex.quote(from_anywhere(line))}"
        return subprocess.run(
            ["unshare", *apart(), "sh", "-c", f"{read_only(self.skill)} {inside}"],
            capture_output=True, text=True, encoding="utf-8", env=environment, cwd=self.work, timeout=120,
        )  # fmt: skip


@cache
def apart() -> tuple[str, ...]:
    """unshare's flags for no network, and for a mount of our own, as far as this system allows."""
    for flags in (("-rmn",), ("-rn",), ("-mn",), ("-n",)):
        if subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode == 0:
            return flags
    pytest.skip("no namespace without a network can be made here")


def read_only(folder: Path) -> str:
    """Shell words that mount `folder` read-only where a mount may be made; its files have no write bits anyway."""
    if not any("m" in flag for flag in apart()):
        return ""
    place = shlex.quote(str(folder))
    return f"mount --bind {place} {place} && mount -o remount,bind,ro {place};"


def from_anywhere(line: str) -> str:
    """`line` with the skill's own files named by CLAUDE_SKILL_DIR."""
    return re.sub(r'(?<![\w/}"])scripts/([\w/.]+)', r'"$CLAUDE_SKILL_DIR"/scripts/\1', line)


def skill_lines() -> list[str]:
    """Every command of SKILL.md, in its order, and what else needs no tensors."""
    fences = pages.fences("bash", pages=[ROOT / "SKILL.md"])
    told = [line for fence in fences for line in fence.text.splitlines() if line.startswith("python ")]
    return [*told, *(f"python scripts/unsloth_fft_tool.py {words}" for words in BESIDES)]


def kind_of(line: str) -> str:
    words = shlex.split(line)
    if not words[1].endswith("unsloth_fft_tool.py"):
        return Path(words[1]).name
    return "init --check" if words[2] == "init" and "--check" in words else words[2]


@pytest.fixture(scope="module")
def skill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skills")
    with zipfile.ZipFile(io.BytesIO(build_zip.archive(ROOT))) as bundle:
        bundle.extractall(folder)
    for path in (folder / "unsloth-fft").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (folder / "unsloth-fft").chmod(0o555)
    return folder / "unsloth-fft"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """jsonschema, numpy and pyarrow for a Python that has nothing else."""
    packages, site = tmp_path_factory.mktemp("packages"), Path(__import__("jsonschema").__file__).parents[1]
    for name in BROUGHT:
        if (site / name).exists():
            (packages / name).symlink_to(site / name)
    return {"PYTHONPATH": str(packages), "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def container(skill: Path, python: Path, work: Path, extra: dict[str, str]) -> Container:
    work.mkdir(parents=True)
    write_jsonl(work / "rows.jsonl", conversation_rows(40))
    (work / "corpus.txt").write_text("A line of text to learn from.\n" * 500, encoding="utf-8")
    return Container(skill, work, python, extra)


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def check(line: str, finished: subprocess.CompletedProcess[str]) -> None:
    """`line` did its work, or said in two lines what it lacks."""
    shown = f"{line}\n{finished.stderr}"
    assert finished.returncode in EXPECTED.get(kind_of(line), (0,)), shown
    assert "Traceback" not in finished.stderr and "fcntl" not in shown and "pip install" not in finished.stderr, shown
    if finished.returncode and kind_of(line) != "doctor":
        assert [words.split(":")[0] for words in finished.stderr.splitlines()][-2:] == ["error", "hint"], shown


def planned(folder: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("*.json"))}
    assert found
    return found


@pytest.fixture(scope="module")
def bare(skill: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Container:
    """The bare container after every command of SKILL.md was run in it, from top to bottom."""
    place = container(skill, python, tmp_path_factory.mktemp("bare") / "work", {})
    before = files_of(skill)
    for line in skill_lines():
        check(line, place.run(line, LEAST if kind_of(line) == "generate_fft_params.py" else PLAIN))
    assert files_of(skill) == before, "the skill's folder is not ours to write to"
    return place


def test_every_command_of_the_skill_works_from_another_folder_with_nothing_installed(bare: Container) -> None:
    assert bare.run("python -c 'import jsonschema'").returncode and bare.run("python -c 'import numpy'").returncode
    kinds = {kind_of(line) for line in skill_lines()}
    assert {"generate_fft_params.py", "render", "data", "predict", "doctor", "init --check"} <= kinds
    written = {path.name for path in bare.work.iterdir()}
    assert {"params.json", "train_fft.py", "train_fft.ipynb"} <= written


def test_the_same_plans_to_the_byte_where_jsonschema_numpy_and_pyarrow_are(
    bare: Container, brought: dict[str, str], tmp_path: Path
) -> None:
    place = container(bare.skill, bare.python, tmp_path / "work", brought)
    for line in skill_lines():
        if kind_of(line) in ("generate_fft_params.py", "init --check"):
            check(line, place.run(line, 8 * 1024 * MIB))
    assert place.run("python -c 'import jsonschema, numpy, pyarrow'", 8 * 1024 * MIB).returncode == 0
    assert planned(place.work) == planned(bare.work)


def test_a_wrong_parameters_file_is_told_in_the_same_words_with_and_without_jsonschema(
    bare: Container, brought: dict[str, str], tmp_path: Path
) -> None:
    value = json.loads((bare.work / "params.json").read_text(encoding="utf-8"))
    value["optimizer"]["learing_rate"] = value["optimizer"].pop("learning_rate")
    value["schedule"]["warmup_steps"] = "many"
    line = 'python "$CLAUDE_SKILL_DIR/scripts/unsloth_fft_tool.py" init --params wrong.json --check --json'
    told = []
    for place in (bare, Container(bare.skill, tmp_path, bare.python, brought)):
        (place.work / "wrong.json").write_text(json.dumps(value), encoding="utf-8")
        finished = place.run(line, 8 * 1024 * MIB)
        assert finished.returncode == 2
        told.append((finished.stdout, finished.stderr))
    assert told[0] == told[1] and "learing_rate" in told[0][1]


def test_parquet_is_counted_where_pyarrow_is_and_else_named_once(
    bare: Container, brought: dict[str, str], tmp_path: Path
) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(conversation_rows(12)), bare.work / "rows.parquet")
    line = 'python "$CLAUDE_SKILL_DIR/scripts/unsloth_fft_tool.py" data rows.parquet --json'
    without = bare.run(line)
    assert without.returncode == 4 and without.stderr.count("pyarrow") <= 2 and "pip install" not in without.stderr
    shutil.copy(bare.work / "rows.parquet", tmp_path)
    found = Container(bare.skill, tmp_path, bare.python, brought).run(line, 8 * 1024 * MIB)
    assert json.loads(found.stdout)["rows"] == 12, found.stderr


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("train_fft.py", "uv run train_fft.py --output fft-output"),
        ("train_fft.ipynb", "run all cells"),
        ("slurm.out", "sbatch slurm.out"),
        ("docker.out", "docker build"),
        ("modal.out", "modal run"),
    ],
)
def test_the_file_to_take_home_says_in_its_first_lines_how_it_is_run(bare: Container, file: str, command: str) -> None:
    first = (bare.work / file).read_text(encoding="utf-8").splitlines()[:30]
    assert any(command in line for line in first), "\n".join(first)
    assert not any(str(bare.work.parent) in line for line in first), "a path of this machine means nothing at home"


def test_the_script_taken_home_alone_says_what_it_lacks_there(bare: Container, tmp_path: Path) -> None:
    """From the other machine's side, with a fresh Python, before anything is installed."""
    shutil.copy(bare.work / "train_fft.py", tmp_path)
    home = Container(bare.skill, tmp_path, bare.python, {})
    helped = home.run("python train_fft.py --help")
    assert helped.returncode == 0 and "--resume" in helped.stdout, helped.stderr
    started = home.run("python train_fft.py --output fft-output")
    assert started.returncode in (2, 4) and "Traceback" not in started.stderr, started.stderr
    assert [line.split(":")[0] for line in started.stderr.splitlines()][-2:] == ["error", "hint"]


# Windows and macOS, as far as Linux lets them be played: no POSIX modules, no fork, a console of code page 1252.
HIDE = """
import os, signal, sys

pytestmark = pytest.mark.slow
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posixshmem", "_posixshmem"):
    sys.modules[name] = None
for name in ("fork", "forkpty", "register_at_fork", "killpg", "getpgid", "setsid", "sysconf",
             "geteuid", "getuid", "getgid", "mkfifo", "sched_getaffinity", "uname"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD"):
    delattr(signal, name)
"""


@pytest.fixture(scope="module")
def elsewhere(bare: Container, tmp_path_factory: pytest.TempPathFactory) -> Container:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    extra = {"PYTHONPATH": str(folder / "site"), "PYTHONIOENCODING": "cp1252", "PYTHONDONTWRITEBYTECODE": "1"}
    return container(bare.skill, bare.python, folder / "caf\u00e9 \u4e2d work", extra)


def test_without_posix_and_on_a_code_page_the_same_plans_checks_and_renderings(
    bare: Container, elsewhere: Container
) -> None:
    for line in skill_lines():
        if kind_of(line) not in (*NEEDS_MORE, "render") or "--target script" in line:
            check(line, elsewhere.run(line))
    assert planned(elsewhere.work).keys() <= planned(bare.work).keys()
    for name, content in planned(elsewhere.work).items():
        assert content == planned(bare.work)[name], name
    assert (elsewhere.work / "train_fft.py").read_bytes() == (bare.work / "train_fft.py").read_bytes()


def test_words_that_a_code_page_lacks_end_no_command(elsewhere: Container) -> None:
    rows = [{"text": "\u4eca\u5929"}, {"txt": "\u4eca\u5929"}, "\u4eca"]
    write_jsonl(elsewhere.work / "\u4eca\u5929.jsonl", rows)
    tool = 'python "$CLAUDE_SKILL_DIR/scripts/unsloth_fft_tool.py"'
    for words, code in ((f"{tool} data \u4eca\u5929.jsonl", 2), (f"{tool} data \u4eca\u5929.jsonl --json", 2)):
        finished = elsewhere.run(words)
        assert finished.returncode == code and "Traceback" not in finished.stderr, finished.stderr
        assert "--json" not in words or json.loads(finished.stdout)["faults"]["count"] == 2


# The questions of evals/: what answers each, run there; the checks on files and commands then hold.
ON_L40S = "--model meta-llama/Llama-3.1-8B --gpu L40S --host-ram-gib 128"
ON_8_H100 = "--model meta-llama/Llama-3.1-70B --gpu H100 --gpus 8 --host-ram-gib 1536 --dataset rows.jsonl"
ANSWERS = {
    "sizing-8b-on-l40s": (f"PLAN {ON_L40S} --max-steps 500 --seq-length 2048 --output params.json",),
    "nothing-fits-24gb": ("PLAN --model meta-llama/Llama-3.1-8B --gpu 'RTX 4090' --host-ram-gib 64 --max-steps 500",),
    "predict-before-training": (
        "TOOL predict --model Qwen/Qwen2.5-0.5B --learning-rate 1e-5 --precision bfloat16 --output prediction.json",
    ),
    "weights-did-not-move": ("TOOL audit base trained --output audit.json",),
    "out-of-memory": (f"PLAN {ON_L40S} --vram-gib 39.2 --dataset rows.jsonl --output params.json",),
    "data-fault-on-a-line": ("TOOL data faulty.jsonl",),
    "several-gpus-70b": (
        f"PLAN {ON_8_H100} --output params.json",
        "TOOL render --params params.json --target slurm --output job.sh",
    ),
    "hand-off-without-gpu": (
        f"PLAN {ON_L40S} --dataset rows.jsonl --output params.json",
        "TOOL render --params params.json --target script --output train_fft.py",
    ),
    "continued-pretraining": (
        "PLAN --model Qwen/Qwen2.5-7B --gpu H100 --host-ram-gib 256 --objective pretrain --epochs 1"
        " --dataset corpus.txt --output params.json",
    ),
    "cheapest-card": (
        "PLAN --model meta-llama/Llama-3.1-8B --gpu L40S,'RTX A6000',H100,H200 --host-ram-gib 128 --tokens 1e9"
        ' --prices "$CLAUDE_SKILL_DIR/scripts/unsloth_fft/hardware/prices.json"',
    ),
    "exactness-given-up": (
        "PLAN --model meta-llama/Llama-3.2-3B --gpu 'RTX 4090' --host-ram-gib 64 --exactness any --precision bfloat16"
        " --optimizer adamw_8bit --prefer memory --max-steps 500 --output params.json",
    ),
    "unknown-model-offline": (
        "PLAN --model config.json --model-name acme/press-llm-3b --gpu 'RTX 5090' --host-ram-gib 128 --max-steps 1000"
        " --output params.json",
    ),
}
EVALS = {one["name"]: one for one in json.loads((ROOT / "evals/evals.json").read_text(encoding="utf-8"))["evals"]}
OF_THE_PROGRAM = (
    "command_ran",
    "file_valid",
    "file_matches",
    "json_equals",
    "json_at_most",
    "python_compiles",
    "answer_quotes",
)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_question_of_the_evals_is_answered_there_with_its_files(
    name: str, bare: Container, brought: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "evals" / "files", tmp_path, dirs_exist_ok=True)
    audits = name == "weights-did-not-move"  # which needs numpy, as Claude's container has it
    place = Container(bare.skill, tmp_path, bare.python, brought if audits else {})
    ran, said = [], []
    for words in ANSWERS[name]:
        line = words.replace("PLAN", "python scripts/generate_fft_params.py").replace(
            "TOOL", "python scripts/unsloth_fft_tool.py"
        )
        finished = place.run(line, 8 * 1024 * MIB if audits else PLAIN)
        assert "Traceback" not in finished.stderr, finished.stderr
        ran.append(outputs.Ran(line, finished.returncode))
        said += [finished.stdout, finished.stderr]
    output = outputs.Output(tmp_path, "\n".join(said), tuple(ran))
    graded = [
        checks.grade(output, one["check"])
        for one in EVALS[name]["expectations"]
        if one["check"]["kind"] in OF_THE_PROGRAM
    ]
    assert all(passed for passed, _ in graded), (graded, said)
