"""One SIGTERM or Ctrl-C ends a command with its cleaning up done, and a process that a library forked ends with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import PLANNER, SCRIPTS, TOOL
from unsloth_fft.core import beginning, stopping, terminal

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def heeded():
    """Ctrl-C is heeded here, also where the tests themselves were started with `&`, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_ends_a_command_as_interrupted_after_it_has_cleaned_up(capsys, number, name):
    cleaned = []

    def works() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(30)
        finally:
            cleaned.append(True)
        return 0

    assert terminal.run(works, as_json=False) == 130 and cleaned
    assert capsys.readouterr().err.startswith(f"error: stopped by {name}\nhint: ")


def test_what_a_library_makes_of_a_signal_is_still_a_stop(capsys):
    def works() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        except KeyboardInterrupt:
            raise ModuleNotFoundError("could not import LlamaConfig", name="transformers") from None
        return 0

    assert terminal.run(works, as_json=False) == 130
    assert "stopped by SIGTERM" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_stop_that_a_library_swallows_is_made_again_but_not_while_it_is_cleaned_up(capsys):
    cleaned = []

    def works() -> int:
        with contextlib.suppress(KeyboardInterrupt):  # as an import of a library does
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        try:
            time.sleep(30)
        finally:
            time.sleep(3 * stopping.REPEAT_SECONDS)
            cleaned.append(True)
        return 0

    assert terminal.run(works, as_json=False) == 130 and cleaned
    assert capsys.readouterr().err.startswith("error: stopped by Ctrl-C\nhint: ")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_cleaning_up_that_waits_for_what_never_comes_is_broken_off(capsys, monkeypatch):
    monkeypatch.setattr(stopping, "CLEANING_SECONDS", 1.0)

    def works() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            threading.Event().wait(30)  # as a pool does whose workers are gone
        return 0

    began = time.monotonic()
    assert terminal.run(works, as_json=False) == 130
    assert time.monotonic() - began < 15 and "stopped by SIGTERM" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_stop_before_the_command_has_begun_is_two_lines(number, name):
    program = (
        "import os, signal, sys; sys.argv += ['status', '--json']\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from unsloth_fft.core import beginning; beginning.answer_stops()\n"
        f"os.kill(os.getpid(), {int(number)})"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=SCRIPTS)
    assert ended.returncode == 130
    assert ended.stderr == f"error: stopped by {name}\nhint: {beginning.HINT}\n"
    assert json.loads(ended.stdout)["error"]["code"] == "interrupted"


def test_the_programs_answer_stops_before_they_import_anything_else():
    for program in (TOOL, PLANNER):
        before, called, _ = program.read_text().partition("    beginning.answer_stops()\n")
        imports = [line for line in before.splitlines() if line.startswith(("import ", "from "))]
        assert called and imports == ["import sys", "from unsloth_fft.core import beginning  # noqa: E402"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&1 >/dev/null | true"])
def test_words_that_nobody_can_take_end_no_command(redirection):
    program = (
        "import sys, time\nfrom unsloth_fft.core import terminal\n"
        "def works():\n"
        "    for _ in range(3): time.sleep(0.2); terminal.say('a line'); sys.stderr.write('a library\\n')\n"
        "    open(sys.argv[1], 'w').close()\n"
        "terminal.leave(terminal.run(works, as_json=False))"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = f'"$0" -c "$1" {folder}/done {redirection}'
        subprocess.run(["sh", "-c", command, sys.executable, program], cwd=SCRIPTS, check=False)
        assert list(Path(folder).iterdir())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_stop_in_a_finalizer_is_no_traceback_and_still_a_stop(capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest has one of its own

    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    def works() -> int:
        Finalized()
        time.sleep(30)
        return 0

    assert terminal.run(works, as_json=False) == 130
    assert capsys.readouterr().err.startswith("error: stopped by SIGTERM\nhint: ")


@needs_fork
def test_a_forked_worker_leaves_ctrl_c_to_its_parent_and_ends_at_sigterm(capsys):
    told = []

    def works() -> int:
        worker = os.fork()
        if worker == 0:
            time.sleep(30)
            os._exit(0)
        time.sleep(0.1)
        os.kill(worker, signal.SIGINT)
        time.sleep(0.1)
        told.append(os.waitpid(worker, os.WNOHANG))
        os.kill(worker, signal.SIGTERM)
        told.append(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
        return 0

    assert terminal.run(works, as_json=False) == 0
    assert told == [(0, 0), -signal.SIGTERM]


def test_signals_are_as_before_after_a_command():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with contextlib.suppress(SystemExit):
        terminal.run(lambda: 0, as_json=False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
