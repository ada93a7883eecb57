"""What the tests share: tiny data, a tiny model made here, and running the scripts as a user does."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from small_sessions import EVERY, completed
from workers import Finished, Workers

# Models this small are no faster on two threads, and wait for each other badly on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Set where `uv run` starts the tests; what they start is started by Python, and names its commands so.
os.environ.pop("UV_RUN_RECURSION_DEPTH", None)

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
TOOL = SCRIPTS / "unsloth_fft_tool.py"
PLANNER = SCRIPTS / "generate_fft_params.py"


def run_script(script: Path, *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None):
    """Run a script of the bundle in a process of its own and return the finished process (text output)."""
    return subprocess.run(
        [sys.executable, str(script), *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=300,
    )


def assert_clear_error(finished: subprocess.CompletedProcess | Finished, code: int, *words: str) -> None:
    """The two-line error of every command: `error:` and `hint:`, no traceback, the right exit code."""
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    lines = [line for line in finished.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], finished.stderr
    for word in words:
        assert word in "\n".join(lines), finished.stderr


def conversation_rows(count: int) -> list[dict]:
    """`count` different little conversations."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} plus one?"},
                {"role": "assistant", "content": f"{number} plus one is {number + 1}."},
            ]
        }
        for number in range(count)
    ]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """A small JSONL of conversations."""
    return write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama-shaped base model folder with tokenizer, made by the demo's own code."""
    from unsloth_fft.demo import small_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    texts = [turn["content"] for row in conversation_rows(60) for turn in row["messages"]]
    small_model.make(folder, texts, max_length=128, size=small_model.TINY)
    return folder


@pytest.fixture(scope="session")
def unsloth() -> ModuleType:
    """Unsloth in this process, which takes ten seconds; it was imported before the first test (see below)."""
    module: ModuleType = pytest.importorskip("unsloth")
    return module


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Runs of the tool, and of rendered scripts, that share one import of the training stack."""
    if importlib.util.find_spec("unsloth") is None:  # found, not imported: that takes ten seconds
        pytest.skip("unsloth is not installed here")
    with Workers() as server:
        yield server


def minimal_parameters(model: Path | str, dataset: Path | str | None, **changes: object) -> dict:
    """The smallest parameters file an agent might write by hand; `changes` replace whole sections."""
    value: dict = {
        "schema_version": "1.0",
        "model": {"name": str(model), "max_seq_length": 128},
        "data": {"dataset": None if dataset is None else str(dataset)},
        "precision": {"exactness": "exact", "weights": "float32", "master": "float32", "compute": "float32"},
        "optimizer": {"name": "adamw_torch_fused", "learning_rate": 0.002},
        "memory": {"gradient_checkpointing": "off"},
        "batch": {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "effective_batch_size": 4,
        },
        "schedule": {"max_steps": 6},
        "distributed": {},
    }
    value.update(changes)
    return value


def write_parameters(path: Path, value: dict) -> Path:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def home(tmp_path_factory, workers) -> Path:
    """A folder with a tiny model and its data."""
    folder = tmp_path_factory.mktemp("home")
    workers.make_tiny_model(folder / "tiny")
    write_jsonl(folder / "rows.jsonl", conversation_rows(40))
    return folder


@pytest.fixture(scope="session")
def new_session(workers, home) -> Callable[..., Path]:
    """Makes a session in a folder: of the tiny model or another, with a schedule of one's own."""

    def make(folder: Path, model: Path | None = None, **schedule: object) -> Path:
        settings = schedule or EVERY
        value = minimal_parameters(model or home / "tiny", home / "rows.jsonl", schedule=settings)
        params = write_parameters(folder / "p.json", value)
        made = workers.run("init", "--params", params, "--session", folder / "session")
        assert made.returncode == 0, made.stderr
        return folder / "session"

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory, workers, new_session) -> Path:
    """A session trained to its end without a stop; not to be changed."""
    return completed(workers, new_session(tmp_path_factory.mktemp("finished")))


# Files that train for minutes go first, so that neither of the two workers is left with one of them at the end.
LONG = (
    "test_several_processes.py", "test_every_type_first_half.py", "test_every_type_second_half.py",
    "test_session_faults.py", "test_render_runs.py", "test_render_stopping.py", "test_render_consumers.py",
    "test_demo.py", "test_pretrained.py", "test_fuzz.py", "test_session_privacy.py", "test_export.py",
    "test_memory_savers.py", "test_eval.py", "test_whole_path.py", "test_benchmark.py", "test_tune.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Let processes share the bytecode they compile, outside the tree, where the environment forbids to keep any.

    Most of what the suite takes is imports of the training stack; compiling them anew takes a third of that.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        folder = tempfile.mkdtemp(prefix="bytecode-")
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


# Fixtures that import the training stack, which alone takes longer than the quick tier may.
TRAINS = {"unsloth", "workers", "home", "new_session", "finished"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the training stack is marked `train`. Long files first; within a file the order stays."""
    for item in items:
        if TRAINS & set(getattr(item, "fixturenames", ())):
            item.add_marker("train")
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Unsloth changes classes of others when it is imported: where a test here needs it, none sees them without."""
    asked_for = any("unsloth" in getattr(item, "fixturenames", ()) for item in session.items)
    if asked_for and importlib.util.find_spec("unsloth") is not None:
        importlib.import_module("unsloth")
