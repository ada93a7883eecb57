"""What libraries say on stderr where nobody watches it: no bars or banners in a log file, and no warnings that ask for
nothing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

# Loggers whose warnings a user can do nothing about (torch 2.14's registered constants, bitsandbytes' start, the tied
# head that Transformers calls missing, layers that one GPU does not divide, raw text longer than a window before it is
# cut into windows).
_CHATTY = (
    "torch.utils._pytree",
    "bitsandbytes",
    "transformers.distributed.tensor_parallel",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_base",
)
# How lines begin in which Unsloth presents itself (unsloth 2026.10.9: _cpu_init.py, models/llama.py, trainer.py;
# unsloth_zoo 2026.10.9: __init__.py, patching_utils.py, compiler.py, cpu/loader.py). session.json has the versions.
_BANNER = re.compile(
    r"🦥|==\(\(====\)\)==|\s*\\\\   /\||O\^O/|\\        /|\s?\"-____-\""
    r"|Unsloth [\w.]+: no GPU found, training on CPU|Unsloth \(CPU\): \w+ on \d+ CPU threads"
)


def watched() -> bool:
    """Whether a person sees stderr as it comes."""
    return sys.stderr is not None and sys.stderr.isatty()


def _is_wanted() -> bool:
    return not os.environ.get("UNSLOTH_FFT_DEBUG")


def prepare() -> None:
    """Quieten the libraries of a run, best before they are imported."""
    if not _is_wanted():
        return
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).addFilter(_is_error)  # torch sets the levels of its loggers when it is imported
    if watched():
        return
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(variable, "1")
    for kind in (FutureWarning, DeprecationWarning):  # between libraries
        warnings.simplefilter("ignore", kind)
    libraries()


def libraries() -> None:
    """The same for what is imported already, and has read its variables."""
    if watched() or not _is_wanted():
        return
    if "datasets" in sys.modules:
        from datasets import disable_progress_bars

        disable_progress_bars()
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what libraries print to stderr, at the level of the file descriptor: stdout is for JSON alone.

    Where nobody watches stderr, libraries are quiet.
    """
    prepare()
    if sys.stdout is not None:  # it is where the caller closed it
        sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # closed by the caller, too
        saved = None
    shown = printed()
    try:
        if saved is not None:
            os.dup2(2, 1)
        with contextlib.redirect_stdout(shown):
            yield
    finally:
        if isinstance(shown, WithoutBanners):
            shown.finish()
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def printed() -> TextIO | WithoutBanners:
    """Where libraries are to print while stdout is not theirs: stderr, without banners where nobody watches it."""
    return sys.stderr if watched() or not _is_wanted() else WithoutBanners(sys.stderr)


class WithoutBanners(io.TextIOBase):
    """Hands whole lines on to a stream, all but those of banners."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            if not _BANNER.match(line):
                self._stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        """What is begun without a line end stays: whether it is a banner shows at its end."""
        self._stream.flush()

    def finish(self) -> None:
        """Hand on what never got a line end."""
        begun, self._begun = self._begun, ""
        if begun and not _BANNER.match(begun):
            self._stream.write(begun)
        self._stream.flush()


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
