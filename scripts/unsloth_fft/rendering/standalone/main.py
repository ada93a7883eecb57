"""Everything in order, and the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.errors import FFTError
from .audit import audit, base_folder
from .checks import check_before
from .process import RANK, say
from .results import plot, push

Training = Callable[[dict[str, Any], Path, bool], dict[str, Any]]


def run(
    settings: dict[str, Any], train: Training, output: Path, *, resume: bool = False, push_to: str | None = None
) -> dict[str, Any]:
    """Everything, in order. Returns what result.json holds."""
    os.environ.update(settings["environment"])
    check_before(settings, output, resume, push_to)
    result = train(settings, output, resume)
    if RANK != 0:
        return result
    moved = audit(base_folder(settings["model"]), output / "model", settings["master"])
    result.update(verdict=moved["verdict"], changed=moved["changed"], elements=moved["elements"])
    (output / "audit.json").write_text(json.dumps(moved, indent=2) + "\n", encoding="utf-8")
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    plot(output)
    say(f"verdict {moved['verdict']}: {moved['changed']:,} of {moved['elements']:,} weights moved")
    if result["eval_loss_before"] is not None:
        say(f"held-out loss {result['eval_loss_before']:.3f} -> {result['eval_loss_after']:.3f}")
    say(f"{result['tokens_per_second']:,.0f} tokens/s, peak {result['peak_gib']:.2f} GiB; model in {output / 'model'}")
    if push_to:
        say(f"pushed to {push(output / 'model', push_to)}")
    return result


def main(settings: dict[str, Any], train: Training) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Full fine-tuning from a plan; the settings are in this file.")
    parser.add_argument("--output", type=Path, default=Path("fft-output"), help="folder for the model and its records")
    parser.add_argument("--dataset", help="file or Hub name, instead of the planned one")
    parser.add_argument("--model", help="folder or Hub name, instead of the planned one")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--push-to-hub", metavar="NAME", help="upload to this private repository; needs HF_TOKEN")
    args = parser.parse_args()
    if args.dataset:
        settings = {**settings, "data": {**settings["data"], "dataset": args.dataset}}
    if args.model:
        settings = {**settings, "model": {**settings["model"], "model_name": args.model}}
    try:
        run(settings, train, args.output, resume=args.resume, push_to=args.push_to_hub)
    except FFTError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0
