"""Which of the processes this is, and who speaks."""

from __future__ import annotations

import os
import sys

RANK = int(os.environ.get("RANK", "0"))  # set by torchrun


def say(text: str) -> None:
    """Words for a person, on stderr, from the first process only."""
    if RANK == 0:
        print(text, file=sys.stderr, flush=True)
