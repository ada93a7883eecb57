"""Names inside commands that are printed: quoted, so that what a user pastes means the name and nothing else."""

from __future__ import annotations

import shlex


def word(value: object) -> str:
    """`value` as one word of a POSIX shell. A name that begins with a dash is no option."""
    text = str(value)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
