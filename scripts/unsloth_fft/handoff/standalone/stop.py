"""How a run ends early, and who speaks."""

from __future__ import annotations

import os
import sys

RANK = int(os.environ.get("RANK", "0"))
IGNORED = -100  # the label that cross entropy leaves out


class Stop(Exception):
    """Ends the run with two clear lines. Codes: 2 bad input, 4 missing here, 5 training failed, 130 interrupted."""

    def __init__(self, code: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def say(text: str) -> None:
    """Words for a person, on stderr, from the first process only."""
    if RANK == 0:
        print(text, file=sys.stderr, flush=True)
