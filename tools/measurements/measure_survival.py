"""Measure what `predict` predicts: one real step through `train` at each learning rate, audited.

    python -m tools.measurements.measure_survival --model MODEL_DIR --output rows.jsonl

runs anywhere Unsloth does. On an NVIDIA GPU the optimizer is adamw_8bit, the default recipe; on a CPU it is
adamw_torch_fused, and a small model is made when none is named. The head should be tied, so that every row of the
vocabulary has a gradient; otherwise the embedding is left out of the comparison. One JSON line a learning rate.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from unsloth_fft.auditing.predict import count_weights
from unsloth_fft.core import files
from unsloth_fft.core.errors import TrainingFailed
from unsloth_fft.estimates import survival

LEARNING_RATES: Final = (1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4)
TOOL: Final = files.BUNDLE_ROOT / "scripts" / "unsloth_fft_tool.py"
SEQUENCE: Final = 64


@dataclass(frozen=True)
class Row:
    """Predicted and measured share of weights that one step moved; `points` is their difference in percent."""

    model: str
    device: str
    optimizer: str
    learning_rate: float
    elements: int
    predicted: float
    measured: float
    points: float
    verdict: str
    causes: list[str]
    versions: dict[str, str]


def measure(
    model: Path, work: Path, rates: Sequence[float], optimizer: str, compute: str, device: str
) -> Iterator[Row]:
    """One row a learning rate. `work` takes the sessions; each is removed once it is audited."""
    data = work / "rows.jsonl"
    files.write_text(data, "".join(json.dumps({"text": _sentence(number)}) + "\n" for number in range(64)))
    weights = count_weights(model, "bfloat16")
    for rate in rates:
        audit, versions = _one_step(model, data, work, rate, optimizer, compute)
        groups = [name for name in audit["groups"] if audit["tied_head"] or name != "embeddings"]
        elements = sum(audit["groups"][name]["elements"] for name in groups)
        measured = sum(audit["groups"][name]["moved"] for name in groups) / elements
        predicted = survival.survival(survival.merged(weights.groups[name] for name in groups), rate)
        yield Row(
            model=model.name,
            device=device,
            optimizer=optimizer,
            learning_rate=rate,
            elements=elements,
            predicted=predicted,
            measured=measured,
            points=100 * (predicted - measured),
            verdict=audit["verdict"],
            causes=[cause["cause"] for cause in audit["causes"]],
            versions=versions,
        )


def parameters(model: Path, data: Path, rate: float, optimizer: str, compute: str) -> dict[str, Any]:
    """A parameters file for one plain bfloat16 step at a constant learning rate."""
    return {
        "schema_version": "1.0",
        "model": {"name": str(model), "max_seq_length": SEQUENCE},
        "data": {"dataset": str(data), "format": "text", "objective": "pretrain", "loss_on": "all", "eval_fraction": 0},
        "precision": {"exactness": "any", "weights": "bfloat16", "master": "none", "compute": compute},
        "optimizer": {"name": optimizer, "learning_rate": rate},
        "memory": {"gradient_checkpointing": "off"},
        "batch": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "effective_batch_size": 8},
        "schedule": {"max_steps": 1, "lr_scheduler_type": "constant", "warmup_steps": 0},
        "distributed": {"gpus": 1, "nodes": 1, "strategy": "single"},
    }


def _one_step(
    model: Path, data: Path, work: Path, rate: float, optimizer: str, compute: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The audit and the package versions of a session that took one step."""
    session, params = work / f"session-{rate:g}", work / f"params-{rate:g}.json"
    files.write_json(params, parameters(model, data, rate, optimizer, compute))
    # One GPU, whatever else is there: the batch above is meant for one.
    finished = subprocess.run(
        [sys.executable, str(TOOL), "train", "--params", str(params), "--session", str(session), "--json"],
        capture_output=True,
        text=True,
        env={"CUDA_VISIBLE_DEVICES": "0", **os.environ},
    )
    if finished.returncode:
        raise TrainingFailed(f"the step at {rate:g} failed: {finished.stderr[-600:]}", hint="run doctor")
    audit = files.read_json(session / "audit.json", "audit")
    versions = files.read_json(session / "session.json", "session")["versions"]
    shutil.rmtree(session)
    return audit, versions


def _sentence(number: int) -> str:
    """Text that differs from row to row and is longer than a sequence."""
    return " ".join(f"{number} times {factor} is {number * factor}." for factor in range(2, 40))


def small_base(folder: Path) -> Path:
    """A random bfloat16 model of 1.7 million weights with a tied head, made here."""
    import unsloth  # noqa: F401  (first: it patches what the others define)

    from unsloth_fft.demo import small_model
    from unsloth_fft.weights import loading

    small_model.make(folder, [_sentence(number) for number in range(200)], max_length=SEQUENCE)
    loading.model(folder, dtype="bfloat16").save_pretrained(str(folder))
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the rows; 1 if one is more than two percentage points off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a bfloat16 model; left out: a small one is made")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=LEARNING_RATES, metavar="X")
    parser.add_argument("--optimizer", help="default: adamw_8bit on a GPU, adamw_torch_fused on a CPU")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON lines")
    args = parser.parse_args(arguments)
    import torch

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else "CPU"
    optimizer = args.optimizer or ("adamw_8bit" if gpu else "adamw_torch_fused")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = args.model or small_base(work / "small")
        for row in measure(model, work, args.learning_rates, optimizer, "bfloat16", device):
            rows.append(row)
            print(
                f"{row.model}, {row.device}, lr {row.learning_rate:g}: predicted {row.predicted:.2%},"
                f" measured {row.measured:.2%} ({row.points:+.2f} points), verdict {row.verdict}",
                flush=True,
            )
    files.write_text(args.output, "".join(json.dumps(asdict(row)) + "\n" for row in rows))
    return int(any(abs(row.points) > 2 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
