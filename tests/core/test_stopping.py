"""One SIGTERM or Ctrl-C ends a command with its cleaning up done, and a process that a library forked ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from unsloth_fft.core import stopping, terminal

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


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
