"""What can be trained: rows as conversations, pairs and text, or preferences after that. The run is the same.

A task says how rows are checked and prepared, and which trainer learns from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import preparing, scanning
from ..data.scanning import Counts
from ..data.sources import Source
from ..settings.parameters import Data, Parameters
from . import preferences, trainer

SUPERVISED, PREFERENCES = "supervised", "preferences"


@dataclass(frozen=True)
class Task:
    """`prepare(data, tokenizer, max_length, folder)` gives a Prepared, `build` a trainer as trainer.build does."""

    prepare: Callable[[Data, Any, int, Path], preparing.Prepared]
    build: Callable[[Parameters, Path, Any, Any, Any, Any, Sequence[Any]], Any]


def of(name: str) -> Task:
    """The task called `name`."""
    if name == PREFERENCES:
        return Task(preferences.prepare, preferences.build)
    return Task(preparing.prepare, trainer.build)


def check(name: str, source: Source, data: Data) -> Counts:
    """Read every local row once: how many there are, and in which format. Raises BadInput at one that is refused."""
    if name == PREFERENCES:
        return preferences.check(source, data)
    return scanning.check(source, data)
