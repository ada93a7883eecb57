"""Plans, rendered files and the tools that check them; shared by the render tests."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import PLANNER, conversation_rows, minimal_parameters, run_script, write_jsonl, write_parameters
from unsloth_fft.rendering import targets
from unsloth_fft.settings import parameters
from workers import Workers

TARGET_NAMES = (
    "script",
    "notebook",
    "modal",
    "hf-jobs",
    "skypilot",
    "slurm",
    "docker",
    "accelerate",
    "unsloth-cli",
    "unsloth-studio",
    "axolotl",
    "trl",
    "dpo",
)


def planned(folder: Path, *arguments: object) -> Path:
    """A parameters file from the planner."""
    output = folder / "params.json"
    finished = run_script(PLANNER, *arguments, "--output", output)
    assert finished.returncode == 0, finished.stderr
    return output


def with_format(path: Path, form: str) -> Path:
    """The same parameters with the row format named, for targets that must be told."""
    value = json.loads(path.read_text())
    value["data"]["format"] = form
    return write_parameters(path.with_name(f"{form}.json"), value)


def plans(folder: Path) -> dict[str, Path]:
    """Plans that have little in common.

    Exact on 40 GiB with gradients and state in host memory; packed text in float32 on a large card; eight cards in one
    machine and in two; and two ordinary ones, with offloaded state and in float32.
    """
    chat, text = ("HuggingFaceH4/no_robots", "messages"), ("HuggingFaceFW/fineweb", "text")
    named = {
        "offload": ("--model", "meta-llama/Llama-3.1-8B", "--gpu", "A100-40GB", "--host-ram-gib", 200,
                    "--max-steps", 300),
        "pretrain": ("--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H200", "--objective", "pretrain", "--max-steps", 300,
                     "--precision", "float32", "--optimizer", "adamw_torch_fused"),
        "one-card": ("--model", "meta-llama/Llama-3.1-8B", "--gpu", "A100-80GB", "--host-ram-gib", 200,
                     "--price-per-hour", 1.5, "--max-steps", 300, "--optimizer", "adamw_flash"),
        "two-nodes": ("--model", "Qwen/Qwen2.5-32B", "--gpu", "H200", "--gpus", 8, "--nodes", 2, "--max-steps", 100),
        "eight-cards": ("--model", "meta-llama/Llama-3.1-8B", "--gpu", "H100", "--gpus", 8, "--host-ram-gib", 1024,
                        "--max-steps", 300),
        "float32": ("--model", "Qwen/Qwen2.5-0.5B", "--gpu", "L40S", "--tokens", "2e6",
                    "--precision", "float32", "--optimizer", "adamw_torch_fused"),
    }  # fmt: skip
    found = {}
    for name, arguments in named.items():
        (folder / name).mkdir()
        dataset, form = text if name == "pretrain" else chat
        path = planned(folder / name, *arguments, "--dataset", dataset)
        found[name] = with_format(path, form)
    return found


def rendered(params: Path, target: str) -> str:
    """The text that `render` writes for a target, with whatever is lost accepted."""
    return targets.find(target).render(parameters.load(params)).text


def literal_in(text: str, name: str) -> Any:
    """The literal that a rendered script assigns to `name`."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"no {name} in the text")


def tiny_parameters(folder: Path, model: Path, rows: Path, **changes: object) -> Path:
    """Hand-written parameters that train a tiny model on a CPU in seconds."""
    return write_parameters(folder / "params.json", minimal_parameters(model, rows, **changes))


_TRAINED: dict[Path, Path] = {}


def trained_session(workers: Workers, folder: Path, model: Path) -> Path:
    """A completed session of a tiny model that learned a little; one for all tests that only read it."""
    if model not in _TRAINED:
        rows = write_jsonl(folder / "rows.jsonl", conversation_rows(60))
        params = tiny_parameters(folder, model, rows, schedule={"max_steps": 10})
        finished = workers.run("train", "--params", params, "--session", folder / "session")
        assert finished.returncode == 0, finished.stderr
        _TRAINED[model] = folder / "session"
    return _TRAINED[model]


def consumer(module: str) -> str:
    """A Python that has `module`: this one, or the one named in FFT_CONSUMERS. Skips the test when neither has it."""
    candidates = [sys.executable, *os.environ.get("FFT_CONSUMERS", "").split(os.pathsep)]
    for python in filter(None, candidates):
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
        if subprocess.run([python, "-c", probe]).returncode == 0:
            return python
    pytest.skip(f"{module} is not installed here; see references/handoff.md")


def program(name: str) -> str:
    """A program on the PATH or beside a Python in FFT_CONSUMERS. Skips the test without it."""
    beside = [Path(python).parent / name for python in os.environ.get("FFT_CONSUMERS", "").split(os.pathsep) if python]
    for candidate in beside:
        if candidate.exists():
            return str(candidate)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here; see references/handoff.md")
    return found


def checked(*command: object, **options: object) -> subprocess.CompletedProcess:
    """Run a checker and hold its exit code to zero."""
    finished = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished
