"""Ctrl-C and SIGTERM end a command where it stands, with its cleaning up done; Slurm and systemd send one TERM.

A run that has something to save first asks for it itself (training/stopping.py), inside of this.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from . import beginning
from .beginning import SIGNALS
from .errors import Interrupted

REPEAT_SECONDS = 0.5
CLEANING_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Repeated:
    """Raises KeyboardInterrupt in the main thread again and again where something has swallowed it.

    Python drops one that lands in a finalizer or a callback, and an import may turn it into "this package is missing",
    which libraries take for an answer: the command would go on to its end. While a stop is being answered (cleaning up,
    or already another error) nothing is raised, so that it is not stopped in turn; but what takes CLEANING_SECONDS is
    waiting for something that will not come (a pool whose workers are gone). Needs setitimer (not on Windows).
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._started = False
        self._raised = 0.0
        self._shown: Any = None

    def start(self) -> None:
        """From here on, until `end`, the stop is repeated, and what Python drops of it in a finalizer is not shown."""
        if self._started:
            return
        self._started = True
        self._shown, sys.unraisablehook = sys.unraisablehook, lambda _: None
        if not hasattr(signal, "setitimer"):
            return
        self._raised = time.monotonic()
        self._before = signal.signal(signal.SIGALRM, self._again)
        signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS, REPEAT_SECONDS)

    def end(self) -> None:
        """The command is over, or was stopped."""
        if not self._started:
            return
        self._started = False
        sys.unraisablehook = self._shown
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not _comes_of_a_stop(sys.exc_info()[1]) or now - self._raised > CLEANING_SECONDS:
            self._raised = now
            raise KeyboardInterrupt


def _comes_of_a_stop(error: BaseException | None) -> bool:
    """Whether `error`, or what it was raised from, is a stop."""
    seen: list[BaseException | None] = [error]
    for one in seen:
        if isinstance(one, KeyboardInterrupt | Interrupted):
            return True
        if one is not None:
            seen += [other for other in (one.__cause__, one.__context__) if other not in seen]
    return False


class Stoppable:
    """While entered, either signal is a KeyboardInterrupt in the main thread; `received` names the signal."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._repeated = Repeated()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stoppable:
        global _commands
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # What the caller has ignored (nohup, a job in the background) or handles stays as it is.
                if beginning.is_free(number):
                    self._before[number] = signal.signal(number, self._receive)
        _watch_forks()
        _commands += 1
        return self

    def __exit__(self, *_: object) -> None:
        global _commands
        _commands -= 1
        self._repeated.end()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """From here on the process is leaving, and a further signal has nothing to stop."""
        self._repeated.end()
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._repeated.start()
        raise KeyboardInterrupt


_commands = 0
_watched = False


def _watch_forks() -> None:
    global _watched
    if not _watched and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_let_go)
        _watched = True


def _let_go() -> None:
    """A process that a library forked leaves signals to its parent, and ends with it.

    With the parent's handlers it would answer Ctrl-C with a traceback of its own in the middle of its work, and the
    parent would wait for it for ever; without a parent it would wait for work for ever.
    """
    if not _commands:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes = sys.modules.get("ctypes")  # every library that forks here has it; importing it now could wait for a lock
    if ctypes is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
