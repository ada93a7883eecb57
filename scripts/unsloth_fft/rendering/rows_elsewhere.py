"""Rows that say more than other trainers read: handed over, they would be learned as something else."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, MissingHere
from ..data.messages import MARKS
from ..settings.parameters import Parameters

LOOKED_AT = 1000  # rows
_BESIDE = ("system", "system_prompt", "history", "functions")
_OF_TURNS = (*MARKS, "function_call")


def refuse(parameters: Parameters, target: str) -> None:
    """Raise BadInput where the rows or their columns mean something here that `target` does not read."""
    data = parameters.data
    if data.columns or data.ignored_columns:
        raise BadInput(
            f"data/columns cannot be kept by {target}, which knows the usual names alone",
            hint="rename the columns in the file, or render --target script",
        )
    if data.dataset is None or not os.path.isfile(data.dataset):
        return
    from ..data import scanning, sources

    try:
        found = sources.files_of(data.dataset)
        rows = itertools.islice(scanning.scan(found.train if found else (), data.sample_by), LOOKED_AT)
        said = next(((row, key) for row in rows if (key := _said(row.value))), None)
    except (BadInput, MissingHere):  # said where the file is read in earnest
        return
    if said is not None:
        row, key = said
        raise BadInput(
            f"{Path(data.dataset).name}: {scanning.place(row).rpartition(': ')[2]} has '{key}', which {target} does not"
            " read, so that the rows would be learned as something else",
            hint="write its meaning into the turns, or render --target script",
        )


def _said(row: Any) -> str | None:
    """The first key of `row` or its turns that only this bundle reads; None without one."""
    if not isinstance(row, dict):
        return None
    turns = row.get("messages", row.get("conversations"))
    for key in _BESIDE:
        if row.get(key) not in (None, "", [], {}):
            return key
    tools = row.get("tools")
    if isinstance(tools, list) and any(isinstance(tool, str) for tool in tools):
        return "tools"
    for turn in turns if isinstance(turns, list) else ():
        for key in _OF_TURNS:
            if isinstance(turn, dict) and turn.get(key) is not None:
                return key
    return None
