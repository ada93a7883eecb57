"""Packing against padding on one GPU: tokens/s, learned tokens and held-out loss of two otherwise equal runs.

Run: python tests/benchmarks/packing.py --model DIR --dataset FILE --folder SCRATCH --output NAME.json

Both runs make one pass over the same rows with the same seed and about the same tokens an optimizer step: padding takes
`--rows` rows a step, packing as many full sequences as those rows fill. On a CPU there is nothing to compare: Unsloth
turns packing off there (unsloth_zoo 2026.10.9, cpu/trainer.py), and this program says so and stops.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "scripts" / "unsloth_fft_tool.py"


def tool(*arguments: object) -> dict[str, Any]:
    """One command of the tool; its JSON."""
    command = [sys.executable, str(TOOL), *map(str, arguments), "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


def parameters(args: argparse.Namespace, report: dict[str, Any], *, packing: bool) -> dict[str, Any]:
    """A parameters file's content for one side."""
    epoch = report["epoch"]
    rows_in_a_sequence = epoch["examples"] / report["padding"]["packed_sequences"]
    batch = max(1, round(args.rows / rows_in_a_sequence)) if packing else args.rows
    return {
        "schema_version": "1.0",
        "model": {"name": str(args.model), "max_seq_length": args.max_seq_length},
        "data": {"dataset": str(args.dataset), "packing": packing},
        "precision": {"exactness": "exact", "weights": "float32", "master": "float32", "compute": "bfloat16"},
        "optimizer": {"name": "adamw_torch_fused", "learning_rate": args.learning_rate},
        "memory": {"gradient_checkpointing": "off"},
        "batch": {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 1,
            "effective_batch_size": batch,
        },
        "schedule": {"num_train_epochs": args.epochs},
        "distributed": {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder for both sessions")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--max-seq-length", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=16, help="rows an optimizer step when padded")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("needs an NVIDIA GPU: on a CPU Unsloth turns packing off, so there is nothing to compare")
    args.folder.mkdir(parents=True, exist_ok=True)
    length = ("--max-seq-length", args.max_seq_length)
    report = tool("data", args.dataset, "--model", args.model, *length, "--micro-batch", args.rows)
    sides = {}
    for name, packing in (("padding", False), ("packing", True)):
        params = args.folder / f"{name}.json"
        params.write_text(json.dumps(parameters(args, report, packing=packing)), encoding="utf-8")
        trained = tool("train", "--params", params, "--session", args.folder / name)
        sides[name] = trained["session"]["result"]
    result = {"gpu": torch.cuda.get_device_name(), "data": report["padding"], "sides": sides}
    text = json.dumps(result, indent=2) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
