"""The session folder that a command works on: its one positional, or the same after --session."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.errors import BadInput


def add(command: argparse.ArgumentParser, metavar: str, words: str) -> None:
    """Give `command` the positional `metavar`, explained by `words`, and --session."""
    command.add_argument("folder", nargs="?", type=Path, metavar=metavar, help=words)
    command.add_argument("--session", type=Path, metavar="DIR", help=f"the same as {metavar}")


def of(args: argparse.Namespace) -> Path:
    """The folder that was named. Raises BadInput when there is none, or two."""
    named = [folder for folder in (args.folder, args.session) if folder is not None]
    if len(named) != 1:
        raise BadInput(
            f"{args.command} needs one session folder; {len(named) or 'none'} {'were' if named else 'was'} named",
            hint="name one, as init made it",
        )
    return Path(named[0])
