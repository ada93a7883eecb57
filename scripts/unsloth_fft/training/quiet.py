"""What libraries say on stderr where nobody watches it: no bars in a log file, and no warnings that ask for nothing."""

from __future__ import annotations

import logging
import os
import sys

# Loggers whose warnings a user can do nothing about (torch 2.14's registered constants, bitsandbytes' start, the tied
# head that Transformers calls missing, raw text longer than a window before it is cut into windows).
_CHATTY = (
    "torch.utils._pytree",
    "bitsandbytes",
    "transformers.modeling_utils",
    "transformers.tokenization_utils_base",
)


def watched() -> bool:
    """Whether a person sees stderr as it comes."""
    return sys.stderr is not None and sys.stderr.isatty()


def prepare() -> None:
    """Quieten the libraries of a run; before they are imported."""
    if os.environ.get("UNSLOTH_FFT_DEBUG"):
        return
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).addFilter(_is_error)  # torch sets the levels of its loggers when it is imported
    if not watched():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")


def libraries() -> None:
    """The same for what has to be imported before it can be told."""
    if watched() or os.environ.get("UNSLOTH_FFT_DEBUG"):
        return
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
