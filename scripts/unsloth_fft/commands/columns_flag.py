"""The flags that say what a file calls its columns, for the planner and the data doctor alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ..core.errors import BadInput

EXAMPLE = "--columns prompt=question completion=answer"


def add_to(command: Any) -> None:
    """Add --columns and --ignore-columns to a parser or a group of one."""
    command.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME=COLUMN",
        help="what the file calls a part: prompt=question completion=answer, system=, history=, messages=, text=",
    )
    command.add_argument(
        "--ignore-columns",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns that mean nothing here, though their names say otherwise (label, images)",
    )


def read(given: Sequence[str]) -> dict[str, str]:
    """{name here: column in the file}. Raises BadInput for a name that no format has, and for one given twice."""
    if not given:
        return {}
    from ..data.row_keys import COLUMNS

    found: dict[str, str] = {}
    for text in given:
        name, equals, column = text.partition("=")
        if not equals or not column or name not in COLUMNS:
            raise BadInput(
                f"--columns {text}: expected NAME=COLUMN with a NAME of {', '.join(COLUMNS)}",
                hint=f"for example {EXAMPLE}",
            )
        if name in found or column in found.values():
            raise BadInput(f"--columns names {name if name in found else column} twice", hint=f"for example {EXAMPLE}")
        found[name] = column
    return found


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of the data section that these flags set; without them, none."""
    changes: dict[str, Any] = {}
    if args.columns:
        changes["columns"] = read(args.columns)
    if args.ignore_columns:
        changes["ignored_columns"] = list(args.ignore_columns)
    return changes
