"""Stops between a program's first line and its command (core/stopping.py): importing the commands takes a tenth of a
second, in which Ctrl-C would be a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HINT = "run the same command again"


def answer_stops() -> None:
    """From here on either signal ends the process at once with two lines; nothing has been done that it could leave."""
    for number in SIGNALS:
        if is_free(number):
            signal.signal(number, stop)


def is_free(number: int) -> bool:
    """Whether nobody has said what the signal is to do: what is ignored (nohup, a job in the background) stays so."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, stop)


def stop(number: int, _frame: object) -> None:
    """Say that the process was stopped, and end it."""
    message = f"stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}"
    if "--json" in sys.argv:
        _write(1, f'{{"error": {{"code": "interrupted", "message": "{message}", "hint": "{HINT}"}}}}\n')
    _write(2, f"error: {message}\nhint: {HINT}\n")
    os._exit(130)  # EXIT_INTERRUPTED of core/errors.py, which may not be there yet


def _write(number: int, text: str) -> None:
    with contextlib.suppress(OSError):  # closed, or full: the exit code still says it
        os.write(number, text.encode())
