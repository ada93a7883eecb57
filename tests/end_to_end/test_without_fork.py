"""A whole run of the tiny model without fork, and with no POSIX-only module for this package, as on Windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TOOL, minimal_parameters, write_parameters

# Libraries on Linux may use what Linux has; this package may not.
HIDE = """
import builtins, importlib, multiprocessing, os, sys
POSIX = ("fcntl", "resource", "pwd", "grp", "termios")
def refuse(*_, **__):
    raise AssertionError("this system has no fork")
def kept_from_us(load, ours):
    def guarded(name, *rest, **named):
        if name in POSIX and ours(*rest).get("__name__", "").startswith("unsloth_fft"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *rest, **named)
    return guarded
builtins.__import__ = kept_from_us(builtins.__import__, lambda there=None, *_: there or {})
importlib.import_module = kept_from_us(importlib.import_module, lambda *_: sys._getframe(2).f_globals)
os.fork = os.forkpty = refuse
del os.killpg
multiprocessing.set_start_method("spawn")
"""


@pytest.mark.train
def test_the_tiny_model_is_initialized_trained_and_watched(tmp_path: Path, tiny_model: Path, rows_file: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    parameters = write_parameters(tmp_path / "params.json", minimal_parameters(tiny_model, rows_file))
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "PYTHONIOENCODING": "cp1252:replace",
    }
    session = tmp_path / "run"
    for arguments in (
        ["init", "--params", parameters, "--session", session],
        ["train", session],
        ["status", session, "--json"],
    ):
        command = [sys.executable, TOOL, *arguments]
        finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert finished.returncode == 0, (arguments, finished.stderr[-2000:])
        assert "fcntl" not in finished.stderr and "Traceback" not in finished.stderr
    status = json.loads(finished.stdout)
    assert status["state"] == "completed" and status["step"] > 0 and status["peak_gib"] > 0
