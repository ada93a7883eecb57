"""The demo, top to bottom: make a small base model, plan for this machine, init, train, audit, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..reporting.report import Sample

HERE = Path(__file__).resolve().parent
QUESTIONS = ("Why does a bf16 weight often not move?", "What does gradient checkpointing do?")
MAX_LENGTH = 256
EFFECTIVE_BATCH = 8
EPOCHS = 3.0
# A model this small, drawn at random, learns at a rate hundreds of times that of a published one.
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Demo:
    """Where the demo put things and what the model answered."""

    root: Path
    base: Path
    samples: list[Sample]
    audit: dict[str, Any]


def shipped_data() -> list[Path]:
    """The shipped questions and answers about full fine-tuning."""
    return sorted(HERE.glob("questions_*.jsonl"))
