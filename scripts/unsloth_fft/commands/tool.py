"""The command line of unsloth_fft_tool.py: one sub-command a module, imported only when it is the one asked for."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from .. import __version__
from ..core import terminal
from ..core.arguments import Parser

COMMANDS: Final = (
    "demo", "doctor", "data", "tune", "init", "train", "status", "audit", "predict", "eval", "render", "export", "lora",
    "benchmark",
)  # fmt: skip
"""The sub-commands in the order that --help lists them; each is the module of that name."""

DESCRIPTION = "Run and audit full fine-tuning with Unsloth. Plan first with generate_fft_params.py."
EPILOG = """examples:
  unsloth_fft_tool.py demo                                  the whole path on shipped data, on this machine
  unsloth_fft_tool.py init --params p.json --session s      check everything, train nothing
  unsloth_fft_tool.py train s                               train; Ctrl-C saves, --resume goes on
  unsloth_fft_tool.py status s --json                       where a run stands
  unsloth_fft_tool.py audit --session s                     which weights really moved

exit codes: 0 done, 2 bad input, 3 nothing fits, 4 something is missing here, 5 training failed,
130 interrupted with the state saved."""


def parser(names: Iterable[str] = COMMANDS, prog: str = "unsloth_fft_tool.py") -> argparse.ArgumentParser:
    """The parser of the named sub-commands; `prog` is what the program is called where it was started."""
    top = Parser(
        prog=prog,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    top.add_argument("--version", action="version", version=f"unsloth-fft {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        if importlib.util.find_spec(f".{name}", __package__) is not None:  # a rendered file leaves some out
            importlib.import_module(f".{name}", __package__).add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None, prog: str = "unsloth_fft_tool.py") -> int:
    """Run one sub-command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Importing the modules of all commands takes longer than many a command runs.
    needed = given[:1] if given and given[0] in COMMANDS else COMMANDS

    def command() -> int | None:
        args = parser(needed, prog).parse_args(given)
        code: int | None = args.run(args)
        return code

    return terminal.run(command, as_json="--json" in given)
