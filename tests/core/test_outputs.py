"""Where answers go: into files, links, pipes and to readers that have left."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conftest import PLANNER, TOOL, run_script

PLAN = ("--model", "Qwen/Qwen2.5-0.5B", "--gpu", "L4", "--max-steps", "1")


def test_a_link_keeps_pointing_at_its_file(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    assert run_script(PLANNER, *PLAN, "--output", tmp_path / "link.json").returncode == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["schema_version"] == "1.0"


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert run_script(PLANNER, *PLAN, "--output", pipe).returncode == 0
    reader.join(timeout=30)
    assert json.loads(read[0])["schema_version"] == "1.0" and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("command", "code"),
    [((PLANNER, "--model", "no-such/model", "--gpu", "L4", "--json"), 2), ((TOOL, "status", "no-such", "--json"), 2)],
)
def test_an_error_for_a_reader_that_has_left_is_still_an_error(command: tuple[object, ...], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(
        [sys.executable, *map(str, command)], stdout=writing, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(writing)
    assert "Traceback" not in finished.stderr and "error: " in finished.stderr
    assert finished.returncode in (code, 4)  # 4 where an unknown name is looked for on a Hub that cannot be reached
