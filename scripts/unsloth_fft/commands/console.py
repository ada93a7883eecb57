"""`unsloth-fft`, where the bundle is installed as a package: the planner as `plan`, and all commands of the tool."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..core import beginning, terminal

NAME = "unsloth-fft"
PLAN = """  plan        plan a run: prints validated JSON parameters (unsloth-fft plan --help)
"""


def entry() -> None:
    """Run as a program."""
    beginning.answer_stops()
    terminal.leave(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["plan"]:
        from . import plan

        return plan.main(given[1:], prog=f"{NAME} plan")
    from . import tool

    if given in (["-h"], ["--help"]):
        sys.stdout.write(f"unsloth-fft plans, runs and audits full fine-tuning.\n\n{PLAN}\n")
    return tool.main(given, prog=NAME)
