"""`python -m tools.grading`: grades answers to evals/evals.json."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tools.grading.command import entry  # noqa: E402

entry()
