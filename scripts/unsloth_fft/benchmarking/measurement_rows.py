"""Measurement rows: one line of references/measurements/*.jsonl for each plan that was run (schemas/measurement)."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files, schema
from ..core.errors import BadInput
from ..core.redaction import without_secrets
from ..estimates import speed
from ..models import catalogue
from ..settings import recipes
from ..settings.parameters import Parameters, optim_args_text
from ..training import environment
from ..training.trial import Trial

TEXT = "Python standard library source, pre-tokenized rows of exactly seq tokens (random models: BPE of 8,192 entries)"
WEIGHTS = "random, drawn as the model's own initialization does, seed 0, under the published config"
PACKAGES = ("python", "torch", "triton", "transformers", "trl", "unsloth", "unsloth_zoo", *recipes.packages())


@dataclass(frozen=True)
class Measured:
    """What a run was seen to do: `trial` is None where memory ran out, and `oom` then holds torch's message.

    GiB for memory, TFLOP/s for `matmul_tflops`; `moved` is None where it was not looked at; `host_peak_gib` is the most
    that the process had resident.
    """

    stack: str
    steps: int
    gpu: str
    gpu_memory_gib: float
    cap_gib: float
    peak_allocated_gib: float
    peak_reserved_gib: float
    matmul_tflops: float | None
    trial: Trial | None = None
    moved: float | None = None
    host_peak_gib: float | None = None
    oom: str | None = None


def row_of(parameters: Parameters, seen: Measured, variables: dict[str, str]) -> dict[str, Any]:
    """The row for `parameters`, without its id; `variables` are those that the run was started with."""
    batch, optimizer = parameters.batch, parameters.optimizer
    count = parameters.distributed.gpus * parameters.distributed.nodes
    versions = environment.versions()
    row: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "gpu": {"name": seen.gpu, "memory_gib": round(seen.gpu_memory_gib, 2), "count": count},
        "versions": {name: versions[name] for name in PACKAGES if name in versions},
        "environment": variables,
        "launcher": "unsloth_fft_tool.py benchmark" + (f", torchrun with {count} processes" if count > 1 else ""),
        "weights": "those of a local folder" if Path(parameters.model.name).is_dir() else WEIGHTS,
        "data": TEXT,
        "lr_schedule": _schedule(parameters),
        "model": Path(parameters.model.name).name if Path(parameters.model.name).is_dir() else parameters.model.name,
        "stack": seen.stack,
        "precision": "fp32mp" if parameters.precision.weights == "float32" else "bf16",
        "optim": optimizer.name,
        "gc": {"off": "false"}.get(parameters.memory.gradient_checkpointing, parameters.memory.gradient_checkpointing),
        "bs": batch.per_device_train_batch_size,
        "ga": batch.gradient_accumulation_steps,
        "seq": parameters.model.max_seq_length,
        "padding_free": parameters.data.padding_free,
        "steps": seen.steps,
        "lr": optimizer.learning_rate,
        "cap_gb": round(seen.cap_gib, 2),
        "peak_alloc_gb": round(seen.peak_allocated_gib, 4),
        "peak_res_gb": round(seen.peak_reserved_gib, 4),
        "state_offload": optimizer.state_offload,
        "gradient_offload": parameters.memory.gradient_offload,
        "world": count,
    }
    if optimizer.state_offload and seen.stack == "unsloth":
        row["both_ways"] = True
    if parameters.precision.compute == "float8":
        row["compute"] = "float8"
    if parameters.memory.checkpointed_layers is not None:
        row["checkpointed_layers"] = parameters.memory.checkpointed_layers
    if parameters.memory.weight_offload:
        row["weight_offload"] = True
        if parameters.plan is not None:
            row["predicted_host_gb"] = parameters.plan.predicted.host_ram_gib
    if seen.host_peak_gib is not None:
        row["host_peak_gb"] = round(seen.host_peak_gib, 3)
    if optimizer.args:
        row["optim_args"] = optim_args_text(optimizer)
    if seen.matmul_tflops is not None:
        row["matmul_tflops"] = round(seen.matmul_tflops, 1)
    if parameters.plan is not None:
        row["predicted_peak_gb"] = parameters.plan.predicted.peak_vram_gib
        row["predicted_tok_s"] = parameters.plan.predicted.tokens_per_second
    if seen.oom is not None:
        row["oom"] = seen.oom[:200]
    if seen.trial is not None:
        row.update(_of_trial(parameters, seen.trial))
    if "tflops_model" in row and "matmul_tflops" in row:
        row["matmul_share"] = round(row["tflops_model"] / row["matmul_tflops"] / count, 4)
    if seen.moved is not None:
        row["moved"] = round(seen.moved, 6)
    return row


def _of_trial(parameters: Parameters, trial: Trial) -> dict[str, Any]:
    assert trial.step_s is not None and trial.tokens_per_second is not None
    flops = _model_flops_per_token(parameters)
    return {
        "step_s": round(trial.step_s, 5),
        "first_s": round(trial.first_step_s, 2),
        "alloc_retries": trial.allocation_retries,
        "tok_s": round(trial.tokens_per_second, 2),
        "tflops_model": round(flops * trial.tokens_per_second / 1e12, 3),
        "loss": [round(loss, 6) for loss in trial.losses],
        "gn": [round(norm, 4) if math.isfinite(norm) else None for norm in trial.gradient_norms],
        "optimizer": trial.optimizer,
    }


def _model_flops_per_token(parameters: Parameters) -> float:
    """Forward and backward, causal attention counted as half; recomputation is not counted."""
    shape = catalogue.load_shape(parameters.model.name)
    attention = speed.attention_flops_per_token(shape, parameters.model.max_seq_length)
    return 6.0 * shape.matmul_parameters_per_token + 3.0 * attention


def _schedule(parameters: Parameters) -> str:
    schedule, optimizer = parameters.schedule, parameters.optimizer
    return (
        f"{schedule.lr_scheduler_type}, warm-up {schedule.warmup_steps:g}, weight decay {optimizer.weight_decay:g},"
        f" clipped at {optimizer.max_grad_norm:g}, seed {schedule.seed}"
    )


def variables_that_matter() -> dict[str, str]:
    """Environment variables of this process that could change a figure: Unsloth's, and torch's allocator."""
    quiet = ("UNSLOTH_DISABLE_STATISTICS",)
    pattern = re.compile(r"UNSLOTH_|PYTORCH_(CUDA_)?ALLOC|TORCH_ALLOW_TF32|NVIDIA_TF32")
    return {
        name: without_secrets(value)
        for name, value in sorted(os.environ.items())
        if pattern.match(name) and name not in quiet
    }


def _number_of(line: str, path: Path) -> int:
    try:
        return int(json.loads(line)["id"].rsplit("-", 1)[1])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise BadInput(f"{path} holds a line that is no measured row: {line[:60]}", hint="name another file") from None


def append(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Give `row` the next id of the file `path`, check it against its schema and add it; returns the finished row."""
    earlier = files.read_text(path, "measured rows").splitlines() if path.is_file() else []
    stem = re.sub(r"[^a-z0-9.]+", "-", path.stem.lower()).strip("-")
    numbers = [_number_of(line, path) for line in earlier if line.strip()]
    finished = {"id": f"{stem}-{max(numbers, default=0) + 1:02d}", **row}
    schema.check(finished, "measurement", "the measurement row")
    files.append_line(path, finished)
    return finished
