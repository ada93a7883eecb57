"""lm-evaluation-harness, run as the program it is, on the base and on the trained model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..core import installing
from ..core.errors import BadInput, MissingHere

INSTALL_COMMAND = "pip install 'lm-eval[hf]>=0.4.11'"


def require() -> None:
    """Raise MissingHere when the harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingHere(
            "lm-evaluation-harness is not installed; --lm-eval needs it",
            hint=installing.hint("lm-eval", command=INSTALL_COMMAND),
        )


def compare(base: str, trained: Path, tasks: str, device: str) -> dict[str, Any]:
    """{task: {metric: {"before", "after"}}} for the comma-separated `tasks` (or task files). Raises BadInput."""
    before, after = scores(base, tasks, device), scores(str(trained), tasks, device)
    return {
        task: {
            metric: {"before": value, "after": after[task][metric]}
            for metric, value in metrics.items()
            if metric in after.get(task, {})
        }
        for task, metrics in before.items()
    }


def scores(model: str, tasks: str, device: str) -> dict[str, dict[str, float]]:
    """The numbers that the harness reports for one model, standard errors included."""
    with tempfile.TemporaryDirectory(prefix="unsloth-fft-eval-") as folder:
        command = [
            sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model}", "--tasks", tasks,
            "--device", device, "--output_path", folder,
        ]  # fmt: skip
        finished = subprocess.run(command, capture_output=True, text=True, errors="replace")
        reports = sorted(Path(folder).rglob("results*.json"))
        if finished.returncode != 0 or not reports:
            words = (finished.stderr.strip() or finished.stdout.strip() or "no output").splitlines()[-1]
            raise BadInput(f"lm-evaluation-harness failed on {model}: {words[:300]}", hint="lm_eval ls tasks")
        return numbers_in(json.loads(reports[-1].read_text(encoding="utf-8")))


def numbers_in(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The numeric metrics of a report, by task ("acc,none" and its like)."""
    return {
        task: {name: float(value) for name, value in metrics.items() if type(value) in (int, float)}
        for task, metrics in report["results"].items()
    }
