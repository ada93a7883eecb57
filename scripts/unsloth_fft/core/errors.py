"""Errors a user can cause, each with its exit code (README.md lists them) and a hint that says what to do."""

from __future__ import annotations

from .redaction import plain_line

EXIT_DONE = 0
EXIT_FAULT = 1  # of this program: what Python itself ends with after a traceback
EXIT_BAD_INPUT = 2
EXIT_NOTHING_FITS = 3
EXIT_MISSING_HERE = 4
EXIT_TRAINING_FAILED = 5
EXIT_INTERRUPTED = 130


class FFTError(Exception):
    """Base of every error that ends a command with two clear lines instead of a traceback.

    `message` says what is wrong, where, and what was expected; `hint` names the next command or change. Both may quote
    names, files and other programs' errors, so here, before anything can show or record them, secrets are taken out and
    line breaks and terminal controls are made visible.
    """

    exit_code = EXIT_BAD_INPUT
    code = "bad_input"

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = plain_line(message)
        self.hint = plain_line(hint)
        super().__init__(self.message)

    def as_json(self) -> dict[str, dict[str, str | int]]:
        """The object printed on stdout under `--json`."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class BadInput(FFTError):
    """Input or usage is wrong; nothing was changed."""


class NothingFits(FFTError):
    """No plan fits the memory at hand."""

    exit_code = EXIT_NOTHING_FITS
    code = "nothing_fits"


class MissingHere(FFTError):
    """A package, an accelerator, memory or disk space is missing on this machine."""

    exit_code = EXIT_MISSING_HERE
    code = "missing_here"


class TrainingFailed(FFTError):
    """Training began and could not finish: out of memory, a non-finite loss, or a killed worker."""

    exit_code = EXIT_TRAINING_FAILED
    code = "training_failed"


class Interrupted(FFTError):
    """The user or the system asked to stop; the state was saved first."""

    exit_code = EXIT_INTERRUPTED
    code = "interrupted"
