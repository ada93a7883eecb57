"""One plan measured in a process of its own, started by benchmark.py; not meant to be started by hand.

    python -m unsloth_fft.benchmarking.one_plan --params F --model DIR --steps N --output ROW.json

It imports everything first and then waits for the file --gate, so that the wait overlaps with the run before it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..core import files
from ..core.redaction import plain_line
from ..core.terminal import say
from ..settings import parameters as params
from ..settings.parameters import Parameters
from ..training import environment, gpu_limit, processes, trial
from . import measurement_rows
from .measurement_rows import Measured


def main(arguments: list[str]) -> int:
    """Measure, and write the row without its id, or {"error": text}."""
    args = _parser().parse_args(arguments)
    parameters = params.load(args.params)
    os.environ.update(environment.variables_for(parameters))
    os.environ["HF_HUB_OFFLINE"] = "1"
    told = measurement_rows.variables_that_matter()  # before the packages add their own
    if args.stack == "unsloth":
        import unsloth  # noqa: F401  (first: it patches what the others define)
    import torch
    import trl  # noqa: F401

    while args.gate is not None and not args.gate.exists():
        time.sleep(0.05)
    try:
        row: dict[str, Any] = measurement_rows.row_of(parameters, _measured(parameters, args, torch), told)
    except Exception as error:
        import traceback

        say(traceback.format_exc())
        row = {"error": plain_line(f"{type(error).__name__}: {error}"[:500])}
    if processes.is_first():
        files.write_json(args.output, row)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--stack", choices=("unsloth", "hf"), default="unsloth")
    parser.add_argument("--hold-to-plan", action="store_true")
    parser.add_argument("--gate", type=Path)
    parser.add_argument("--profile", type=Path)
    return parser


def _measured(parameters: Parameters, args: argparse.Namespace, torch: Any) -> Measured:
    from . import matrix_rate, moved, plain_trl, random_model

    if processes.COUNT > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    cap = 0.0
    if args.hold_to_plan and parameters.plan is not None:
        cap = gpu_limit.hold_to(parameters.plan.hardware.vram_gib)
    gpu = torch.cuda.is_available()
    _try_switches(torch)
    facts: dict[str, Any] = {
        "stack": args.stack,
        "steps": args.steps,
        "gpu": torch.cuda.get_device_name() if gpu else "CPU",
        "gpu_memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if gpu else 1.0,
        "cap_gib": cap,
        "matmul_tflops": matrix_rate.bf16_tflops(),
    }
    count = parameters.batch.effective_batch_size * args.steps
    data = random_model.rows(args.model, count, parameters.model.max_seq_length)
    try:
        if args.stack == "hf":
            taken, model = plain_trl.measure(parameters, args.model, data, args.steps, args.profile)
            share = moved.share_moved(model, args.model) if processes.COUNT == 1 else None
        else:
            taken, share = _with_unsloth(parameters, args, data)
    except torch.OutOfMemoryError as error:
        allocated, reserved = trial.peaks_gib()
        return Measured(**facts, peak_allocated_gib=allocated, peak_reserved_gib=reserved, oom=str(error))
    return Measured(
        **facts,
        peak_allocated_gib=taken.peak_allocated_gib,
        peak_reserved_gib=taken.peak_reserved_gib,
        trial=taken,
        host_peak_gib=_host_peak_gib(),
        moved=share,
    )


def _host_peak_gib() -> float | None:
    """The most memory that this process had resident, page-locked memory included; None where no one counts it."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _try_switches(torch: Any) -> None:
    """Settings that are tried before `train` takes them up; each is named in the row's environment."""
    precision = os.environ.get("UNSLOTH_FFT_TRY_MATMUL")
    if precision:
        torch.set_float32_matmul_precision(precision)
    if os.environ.get("UNSLOTH_FFT_TRY_SDPA") == "cudnn":
        torch.backends.cuda.enable_flash_sdp(False)


def _with_unsloth(parameters: Parameters, args: argparse.Namespace, data: Any) -> tuple[trial.Trial, float | None]:
    """What the steps needed, and the share of weights that they moved."""
    import dataclasses
    import tempfile

    from ..training import model as models
    from ..training import text_model
    from . import moved

    local = dataclasses.replace(parameters, model=dataclasses.replace(parameters.model, name=str(args.model)))
    with tempfile.TemporaryDirectory(dir=Path(args.model).parent) as scratch:
        local, _ = text_model.taken_out(local, Path(scratch))
        base, tokenizer = models.load(local)
        taken = trial.measure(local, base, tokenizer, data, args.steps, Path(scratch), args.profile)
        return taken, moved.share_moved(base, Path(local.model.name)) if processes.COUNT == 1 else None


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
