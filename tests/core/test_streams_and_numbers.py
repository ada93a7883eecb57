"""Streams that take no answer, names that are no text, numbers that nobody means: two lines, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import PLANNER, TOOL
from unsloth_fft.commands import plan, tool
from unsloth_fft.core import files, terminal
from unsloth_fft.core.errors import BadInput

PLAN = ("--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H100", "--max-steps", "5")


def planned(redirection: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = " ".join(PLAN)
    return subprocess.run(
        ["sh", "-c", f'"$0" "$1" {words} {redirection}', sys.executable, str(PLANNER)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_an_answer_that_nobody_can_take_is_an_error_in_two_lines(redirection):
    ended = planned(redirection)
    heads = [line.split(": ")[0] for line in ended.stderr.splitlines()]
    assert ended.returncode == 4 and heads[-2:] == ["error", "hint"], ended.stderr


def test_a_stdout_that_is_not_utf_8_gets_the_same_json(capsysbinary):
    ended = planned("", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0 and json.loads(ended.stdout)["model"]["name"] == "Qwen/Qwen2.5-0.5B"
    assert json.loads(terminal._ascii_json(json.dumps({"é\U0001f600": "\udcff中"}, ensure_ascii=False))) == {
        "é\U0001f600": "\udcff中"
    }


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\udcffb", "a\u2028b"])
def test_a_name_of_any_bytes_makes_two_lines_that_move_no_terminal(capsys, name):
    assert tool.main(["status", name]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2 and "\x1b" not in said and "\u2028" not in said


@pytest.mark.parametrize(
    "flag", ["--effective-batch", "--gpus", "--nodes", "--tokens", "--alternatives", "--seq-length"]
)
@pytest.mark.parametrize("value", ["100000000", "1e12", "9007199254740992", "1" * 400, "-1", "1.5", "²"])
def test_numbers_beyond_use_are_refused_at_once(capsys, flag, value):
    began = time.monotonic()
    given = [*PLAN[:4], flag, value] if flag == "--tokens" else [*PLAN, flag, value]
    code = plan.main(given)
    assert code == 2 or (flag == "--tokens" and code in (0, 2)) and time.monotonic() - began < 10
    assert "Traceback" not in capsys.readouterr().err


def test_a_price_that_overflows_is_refused(capsys):
    assert plan.main([*PLAN, "--price-per-hour", "1e308"]) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_devices_are_no_inputs(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(BadInput):
            files.read_json(path, "parameters file")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="no path"):
        files.write_text(tmp_path / name, "x")


def test_a_link_that_leads_to_itself_or_nowhere_is_neither_read_nor_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(BadInput, match="symbolic links"):
        files.write_text(tmp_path / "loop", "x")
    assert tool.main(["data", "loop"]) == 2
    assert "link to nothing" in capsys.readouterr().err


def test_a_machine_without_a_folder_for_temporary_files_lacks_one():
    told = files.os_error(FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"))
    assert told.exit_code == 4 and "TMPDIR" in told.hint


def test_a_name_of_250_letters_can_be_written(tmp_path):
    files.write_text(tmp_path / ("n" * 250), "x")
    assert [len(path.name) for path in tmp_path.iterdir()] == [250]


@pytest.mark.parametrize("value", ["", "abc"])
def test_what_another_launcher_left_in_the_environment_stops_no_command_that_does_not_train(tmp_path, value):
    env = {**os.environ, "WORLD_SIZE": value, "RANK": value}
    ended = subprocess.run(
        [sys.executable, str(TOOL), "status", str(tmp_path)], capture_output=True, text=True, env=env
    )
    assert ended.returncode == 2 and "is not a session" in ended.stderr
