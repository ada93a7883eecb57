"""SIGINT and SIGTERM: saved first where there is something to save, at once where there is not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import Interrupted
from ..core.stopping import Repeated
from ..core.terminal import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While entered, the first signal becomes a request that the run answers after its step; a second stops at once.

    `at_once` says that nothing would be lost (still loading, or everything saved): then the first one stops, too.
    Stopping at once is a KeyboardInterrupt in the main thread, which `as_a_stop` keeps one.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.at_once = True
        self._stopping = False
        self._repeated = Repeated()
        self._before: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Whether a signal asked to save and stop."""
        return self.received is not None

    def defer(self) -> None:
        """From here on there is something to save. A stop that a library swallowed before is made good here."""
        if self.requested():
            raise KeyboardInterrupt
        self.at_once = False

    @contextmanager
    def as_a_stop(self) -> Iterator[None]:
        """Whatever a library made of stopping at once is a KeyboardInterrupt again.

        Python 3.11 turns one in a __set_name__ into a RuntimeError, and transformers 5.17 (utils/import_utils.py)
        that into "Could not import module 'LlamaConfig'": an interrupted import would read as a missing package.
        """
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            if self._stopping:
                raise KeyboardInterrupt from error
            raise

    def __enter__(self) -> Signals:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._repeated.end()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: object) -> None:
        again, self.received = self.received is not None, signal.Signals(number).name
        if again or self.at_once:
            self._stopping = True
            self._repeated.start()
            raise KeyboardInterrupt
        say(f"{self.received}: saving after this step, then stopping (again to stop at once)")


@contextmanager
def interruptible(message: str, hint: str) -> Iterator[None]:
    """Work that may be stopped anywhere: either signal ends it as Interrupted with these words."""
    with Signals() as signals:
        try:
            with signals.as_a_stop():
                yield
        except KeyboardInterrupt:
            raise Interrupted(message, hint=hint) from None
