"""Padding, padding-free and packed batches of one data set on one GPU: speed, learned tokens and held-out loss.

    python -m tools.measurements.packing --model DIR --dataset FILE --folder SCRATCH --output NAME.json

Each side makes --epochs passes over the same rows with the same seed, or --steps steps, in this process, through the
trainer that `train` uses; padding and padding-free take --rows rows a step, packing as many full sequences as those
rows fill. A model without a chat template gets the demo's. On a CPU there is nothing to compare: Unsloth turns packing
off there (unsloth_zoo 2026.10.9, cpu/trainer.py), and this program says so and stops.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

SIDES = {"padding": (False, False), "padding_free": (False, True), "packing": (True, False)}


def parameters(args: argparse.Namespace, *, packing: bool, padding_free: bool, batch: int) -> Any:
    """The parameters of one side."""
    from unsloth_fft.settings import parameters as params

    return params.from_json(
        {
            "schema_version": "1.0",
            "model": {"name": str(args.model), "max_seq_length": args.max_seq_length},
            "data": {"dataset": str(args.dataset), "packing": packing, "padding_free": padding_free},
            "precision": {
                "exactness": "exact", "weights": "bfloat16", "master": "error_correction", "compute": "bfloat16"
            },
            "optimizer": {"name": "adamw_flash", "learning_rate": args.learning_rate},
            "memory": {"gradient_checkpointing": "off"},
            "batch": {
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": 1,
                "effective_batch_size": batch,
            },
            "schedule": {
                **({"max_steps": args.steps} if args.steps else {"num_train_epochs": args.epochs}), "seed": args.seed
            },
            "distributed": {},
        },
        "the benchmark",
    )  # fmt: skip


def run_side(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train one side and say what came of it; s, tokens/s, GiB, nats a token."""
    import torch

    from unsloth_fft.data import preparing
    from unsloth_fft.demo.small_model import CHAT_TEMPLATE
    from unsloth_fft.training import model, trainer, trial

    packing, padding_free = SIDES[name]
    asked = parameters(args, packing=packing, padding_free=padding_free, batch=args.rows)
    base, tokenizer = model.load(asked)
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    space = args.folder / name
    space.mkdir(parents=True, exist_ok=True)
    prepared = preparing.prepare(asked.data, tokenizer, args.max_seq_length, space)
    lengths = [len(ids) for ids in prepared.train["input_ids"]]
    sequences = max(sum(lengths) / args.max_seq_length, 1)
    batch = max(1, round(args.rows * sequences / len(lengths))) if packing else args.rows
    clock = trial.Clock()
    runner = trainer.build(
        parameters(args, packing=packing, padding_free=padding_free, batch=batch),
        space / "checkpoints",
        base,
        tokenizer,
        prepared.train,
        prepared.held_out,
        [clock.callback()],
        save_strategy="no",
        eval_packing=False,
        # The mean of a batch's tokens, then of batches: the same rows a batch on every side, or the losses differ.
        per_device_eval_batch_size=args.rows,
    )
    before = runner.evaluate()["eval_loss"]
    trial.reset_peak()
    began = time.perf_counter()
    runner.train()
    seconds = time.perf_counter() - began
    steps = len(clock.seconds)
    step = statistics.median(clock.seconds[2:])
    learned = prepared.supervised_tokens * runner.state.epoch  # passes over the rows
    result = {
        "rows": len(lengths),
        "tokens": sum(lengths),
        "supervised_tokens": prepared.supervised_tokens,
        "batch": batch,
        "steps": steps,
        "passes": round(runner.state.epoch, 3),
        "losses": [round(loss, 4) for loss in clock.losses],
        "seconds": round(seconds, 2),
        "median_step_s": round(step, 4),
        "supervised_tokens_per_second": round(learned / steps / step, 1),
        "peak_gib": round(trial.peaks_gib()[1], 3),
        "eval_loss_before": round(before, 5),
        "eval_loss_after": round(runner.evaluate()["eval_loss"], 5),
    }
    del runner, base
    gc.collect()
    torch.cuda.empty_cache()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--max-seq-length", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=16, help="rows an optimizer step when padded")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--steps", type=int, help="the same optimizer steps for each side, instead of --epochs")
    parser.add_argument("--seed", type=int, default=3407, help="of the order of the rows")
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--sides", nargs="+", choices=tuple(SIDES), default=list(SIDES))
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import unsloth  # noqa: F401  (first: it patches what the others define)

    if not torch.cuda.is_available():
        sys.exit("needs an NVIDIA GPU: on a CPU Unsloth turns packing off, so there is nothing to compare")
    result: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "model": args.model.name,
        "seed": args.seed,
        "sides": {},
    }
    for name in args.sides:
        result["sides"][name] = run_side(args, name)
        text = json.dumps(result, indent=2) + "\n"
        if args.output:
            args.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
