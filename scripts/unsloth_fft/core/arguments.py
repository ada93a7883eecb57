"""An argument parser whose errors are this project's two lines instead of argparse's usage dump."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from .errors import BadInput


class Parser(argparse.ArgumentParser):
    """argparse with wrong usage raised as BadInput, and flags never guessed from a prefix."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **settings)

    def error(self, message: str) -> NoReturn:
        raise BadInput(message, hint=f"{self.prog} --help lists every flag")
