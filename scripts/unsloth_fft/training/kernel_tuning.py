"""The first step of recurrent layers tries out kernels for minutes: said while it happens, so that it is no riddle.

Triton keeps the results beside its compiled kernels (unsloth_zoo 2026.10.9 asks it to: _vendored/fla/utils/_config.py,
FLA_CACHE_RESULTS), so the next run on the same kind of card does not try again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..core.terminal import say

# How often it is said that tuning goes on.
EVERY_S = 30.0


def cache_folder() -> Path:
    """Where Triton keeps what it tuned (triton 3.8, knobs.py: TRITON_CACHE_DIR, else TRITON_HOME)."""
    home = os.environ.get("TRITON_HOME") or "~"
    return files.expanded(os.environ.get("TRITON_CACHE_DIR") or f"{home}/.triton/cache")


class Told:
    """What is said of tuning: at the first kernel, and every half minute that it goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: float | None = None
        self._said = 0.0
        self.kernels = 0

    def tuned(self, **_: Any) -> None:
        """One more kernel was tried out; takes whatever Triton tells its listener."""
        now = self._clock()
        self.kernels += 1
        if self._began is None:
            self._began, self._said = now, now
            say(f"tuning kernels, once for this kind of card; what is found stays in {cache_folder()}")
        elif now - self._said >= EVERY_S:
            self._said = now
            say(f"tuning kernels: {self.kernels} done in {now - self._began:.0f} s")


@contextlib.contextmanager
def told() -> Iterator[Told]:
    """Say of tuning while the block runs; nothing where Triton is missing or has no listener."""
    heard = Told()
    knobs = _knobs()
    if knobs is None or knobs.listener is not None:
        yield heard
        return
    knobs.listener = heard.tuned
    try:
        yield heard
    finally:
        knobs.listener = None


def _knobs() -> Any:
    try:
        from triton import knobs
    except ImportError:
        return None
    autotuning = getattr(knobs, "autotuning", None)
    return autotuning if hasattr(autotuning, "listener") else None
