"""An argument parser whose errors are this project's two lines instead of argparse's usage dump."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from .errors import BadInput

# What other tools call a flag of ours, and too far from it to be found by spelling.
_CALLED_ELSEWHERE = (
    ("--lr", "--learning-rate"),
    ("--batch-size", "--effective-batch"),
    ("--steps", "--max-steps"),
    ("--max-length", "--seq-length"),
    ("--context-length", "--seq-length"),
    ("--dtype", "--precision"),
    ("--ram-gib", "--host-ram-gib"),
    ("--num-train-epochs", "--epochs"),
    ("--per-device-train-batch-size", "--micro-batch"),
    ("--gradient-accumulation-steps", "--grad-accumulation"),
)
_WRONG_CHOICE = re.compile(r"invalid choice: '(?P<given>[^']*)' \(choose from (?P<choices>.*)\)", re.DOTALL)
_DIGITS = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_PRECISIONS = {"bf16": "bfloat16", "fp32": "float32"}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help for 80 columns. Asking how wide the terminal is would cost each command the import of shutil."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


class Parser(argparse.ArgumentParser):
    """argparse with wrong usage raised as BadInput, flags never guessed from a prefix, and none given twice."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("formatter_class", _Help)
        super().__init__(*args, **settings)
        self._words: Sequence[str] = ()
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but unknown flags are refused here, where the parser of the sub-command is at hand."""
        self._words = sys.argv[1:] if args is None else list(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        help_line = f"{self.prog} --help lists every flag"
        meant = self._meant(message)
        raise BadInput(message, hint=f"did you mean {' and '.join(meant)}? {help_line}" if meant else help_line)

    def _meant(self, message: str) -> list[str]:
        """The choices or flags that come nearest to what `message` complains of."""
        wrong = _WRONG_CHOICE.search(message)
        if wrong:
            nearest = _nearest(wrong["given"], re.findall(r"[^\s,']+", wrong["choices"]))
            return [nearest] if nearest else []
        return list(dict.fromkeys(self._flags_meant()))

    def _flags_meant(self) -> Iterator[str]:
        """The nearest flag to each unknown one on the command line."""
        known = list(self._option_string_actions)
        for word in self._words:
            flag = word.split("=")[0]
            if flag.startswith("--") and len(flag) > 2 and flag not in known:
                nearest = _nearest_flag(flag.replace("_", "-"), known)
                if nearest:
                    yield nearest


class _StoreOnce(argparse._StoreAction):
    """A flag with a value, refused the second time: the first value would be lost without a word.

    `twice` is the hint for whoever gives it twice.
    """

    def __init__(self, *args: Any, twice: str = "give it once", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.twice = twice
        self._written: argparse.Namespace | None = None

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, flag: str | None = None
    ) -> None:
        if flag is not None and self._written is namespace:
            raise BadInput(f"{flag} was given more than once", hint=self.twice)
        self._written = namespace
        super().__call__(parser, namespace, values, flag)


def precision(text: str) -> str:
    """A type of weights by its full name; bf16 and fp32 are read, too."""
    return _PRECISIONS.get(text, text)


def number(above: float, most: float, *, least: float | None = None) -> Callable[[str], float]:
    """The type of a flag that takes a number above `above`, or else from `least`, up to `most`."""
    lowest = f"above {above:.15g}, at most" if least is None else f"from {least:.15g} to"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not ((value > above if least is None else value >= least) and value <= most):
            raise argparse.ArgumentTypeError(f"{_shown(text)} is not a number {lowest} {most:.15g}")
        return value

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of a flag that takes a whole number from `least` to `most`, also written as 1e6."""

    def parse(text: str) -> int:
        try:
            value = float(text)
            if least <= value <= most and value == int(value):
                return int(value) if abs(value) >= 2**53 or not _DIGITS.fullmatch(text.strip()) else int(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a whole number from {least} to {most}")

    return parse


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _nearest_flag(flag: str, known: Sequence[str]) -> str | None:
    """The flag that `flag` shortens, is called elsewhere, or is nearest to in spelling."""
    longer = [name for name in known if name.startswith(flag)]
    elsewhere = [ours for theirs, ours in _CALLED_ELSEWHERE if theirs == flag and ours in known]
    if longer or elsewhere:
        return [*longer, *elsewhere][0]
    nearest = _nearest(flag[2:], [name[2:] for name in known if name.startswith("--")])
    return f"--{nearest}" if nearest else None


def _nearest(word: str, known: Sequence[str]) -> str | None:
    import difflib  # only a misspelt word needs it

    close = difflib.get_close_matches(word, known, n=1)
    return close[0] if close else None
