"""SIGINT and SIGTERM: saved first where there is something to save, at once where there is not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import Interrupted
from ..core.terminal import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While entered, the first signal becomes a request that the run answers after its step; a second stops at once.

    `at_once` says that nothing would be lost (still loading, or everything saved): then the first one stops, too.
    Stopping at once is a KeyboardInterrupt in the main thread.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.at_once = True
        self._before: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Whether a signal asked to save and stop."""
        return self.received is not None

    def defer(self) -> None:
        """From here on there is something to save."""
        self.at_once = False

    def __enter__(self) -> Signals:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: object) -> None:
        again, self.received = self.received is not None, signal.Signals(number).name
        if again or self.at_once:
            raise KeyboardInterrupt
        say(f"{self.received}: saving after this step, then stopping (again to stop at once)")


@contextmanager
def interruptible(message: str, hint: str) -> Iterator[None]:
    """Work that may be stopped anywhere: either signal ends it as Interrupted with these words."""
    with Signals():
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(message, hint=hint) from None
