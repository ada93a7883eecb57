"""Keeping session.json true while a run goes, and the error a user sees for whatever training raised."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ..core.errors import FFTError, Interrupted, MissingHere, TrainingFailed
from ..core.shell_words import word
from ..core.terminal import say
from ..planning import replan
from ..settings.parameters import Parameters
from . import checkpoints, environment, metrics, processes, session
from .session import Failure, Folder, Session


class Stop(Protocol):
    """What asks a run to stop: signals in a process of its own, the launcher's file in a worker."""

    received: str | None
    at_once: bool

    def requested(self) -> bool:
        """Whether to save and stop after this step."""

    def defer(self) -> None:
        """From here on there is something to save."""


class StateKeeper:
    """Writes session.json as the run goes; of several processes only the first does."""

    def __init__(self, folder: Folder, state: Session, parameters: Parameters) -> None:
        self._folder = folder
        self._state = state
        self._parameters = parameters
        self._written = 0.0

    def save(self, **changes: Any) -> Session:
        self._state = self._state.changed(**changes)
        if processes.is_first():
            session.save(self._folder, self._state)
        return self._state

    def stepped(self, step: int, total: int) -> None:
        """Note progress; written at most once a second, and with whatever is saved next."""
        self._state = self._state.changed(step=step, total_steps=total)
        if processes.is_first() and (time.monotonic() - self._written >= 1 or step == total):
            self._written = time.monotonic()
            session.save(self._folder, self._state)

    @contextmanager
    def on_failure(self, stop: Stop) -> Iterator[None]:
        """Write how the run ended before the error goes on to the user."""
        try:
            yield
        except KeyboardInterrupt:
            self._try_to_save(state="interrupted", process=None)
            raise stopped_at_once(self._folder, self._state.step, stop) from None
        except Exception as error:
            if os.environ.get("UNSLOTH_FFT_DEBUG"):
                say(traceback.format_exc())
            failure = explained(error, self._folder, self._parameters)
            kind = "interrupted" if isinstance(failure, Interrupted) else "failed"
            recorded = None if kind == "interrupted" else Failure(failure.code, failure.message, failure.hint)
            self._try_to_save(state=kind, process=None, error=recorded)
            if failure is error:
                raise
            raise failure from error

    def _try_to_save(self, **changes: Any) -> None:
        """On a full disk even this fails; the lock that ends with the process then tells what happened."""
        try:
            self.save(**changes)
        except FFTError as error:
            say(f"{self._folder.state} could not be written: {error.message}")


def stopped_at_once(folder: Folder, step: int, stop: Stop) -> Interrupted:
    """The end of a run that a second signal, or one while nothing was at stake, stopped where it was."""
    newest = checkpoints.newest(folder.checkpoints)
    saved = 0 if newest is None else checkpoints.step_of(newest)
    return Interrupted(
        f"stopped at once by {stop.received} at step {step}; saved up to step {saved}",
        hint=f"continue with: unsloth_fft_tool.py train {word(folder.root)}{' --resume' if saved else ''}",
    )


def explained(error: Exception, folder: Folder, parameters: Parameters) -> FFTError:
    """The error a user sees for what training raised."""
    import torch

    if isinstance(error, FFTError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return out_of_memory(parameters)
    refusal = checkpoints.disk_refusal(error, folder.checkpoints, "the run's data")
    if refusal is not None:
        return refusal
    if isinstance(error, ImportError):
        return MissingHere(f"a package is missing: {first_line(error)}", hint=environment.how_to_install())
    return TrainingFailed(
        f"training raised {type(error).__name__}: {first_line(error)}",
        hint="see references/troubleshooting.md; set UNSLOTH_FFT_DEBUG=1 to see where it came from",
    )


def out_of_memory(
    parameters: Parameters, measure: Callable[[], tuple[float, float]] = metrics.reserved_and_free_gib
) -> TrainingFailed:
    """Out of GPU memory: what was reached, what was predicted, and the command for the next plan that fits."""
    reserved, free = measure()
    predicted = "" if parameters.plan is None else f"; the plan predicted {parameters.plan.predicted.peak_vram_gib:.1f}"
    return TrainingFailed(
        f"out of GPU memory after reserving {reserved:.1f} GiB{predicted} GiB, with {free:.1f} GiB free",
        hint=replan.smaller(parameters, available_gib=reserved + free),
    )


def first_line(error: Exception) -> str:
    """The first line of what `error` says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
