"""A few real optimizer steps of a plan, measured and thrown away: what it needs and how fast it is on this machine."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..settings.parameters import Parameters
from . import trainer as trainers

# The first steps compile, and with offload they pin host memory; the median is taken over the rest.
WARM_UP_STEPS = 2
GIB = 2**30


@dataclass(frozen=True)
class Trial:
    """Peaks in GiB of the first process's GPU, time in s, tokens/s over all processes, losses in nats a token.

    `step_s` is the median over the steps after the first two, or None where there were none; `tokens_per_second` too.
    `allocation_retries` counts how often an allocation failed at first and torch gave back cached memory to try again:
    memory was nearly out then, and every time costs speed.
    """

    peak_allocated_gib: float
    peak_reserved_gib: float
    first_step_s: float
    step_s: float | None
    tokens_per_second: float | None
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    optimizer: str
    processes: int
    allocation_retries: int = 0


class Clock:
    """Times each optimizer step on an idle GPU, and keeps what is logged.

    With `profile` the step of that number, counted from 1, is taken under torch's profiler, and a table of what took
    the GPU's time is written there; its own time is not representative.
    """

    def __init__(self, profile: Path | None = None, profiled_step: int = 0) -> None:
        self.profile = profile
        self.profiled_step = profiled_step
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.began = 0.0
        self.profiler: Any = None

    def callback(self) -> Any:
        import torch
        from transformers import TrainerCallback

        clock = self
        synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None

        class ClockCallback(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                if clock.profile is not None and len(clock.seconds) + 1 == clock.profiled_step:
                    clock.profiler = torch.profiler.profile()
                    clock.profiler.start()
                synchronize()
                clock.began = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                synchronize()
                clock.seconds.append(time.perf_counter() - clock.began)
                if clock.profile is not None and len(clock.seconds) == clock.profiled_step:
                    clock.profiler.stop()
                    clock.profile.write_text(kernel_table(clock.profiler), encoding="utf-8")

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if "loss" in (logs or {}):
                    clock.losses.append(float(logs["loss"]))
                    clock.norms.append(float(logs.get("grad_norm", "nan")))

        return ClockCallback()


def kernel_table(profiler: Any, rows: int = 60) -> str:
    """Kernels by GPU time: milliseconds, share, calls, name; the whole step's sum first."""
    kernels = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    kernels = [event for event in kernels if "cuda" in str(event.device_type).lower()]
    total = sum(event.self_device_time_total for event in kernels)
    lines = [f"{total / 1e3:.1f} ms of GPU time in {sum(event.count for event in kernels)} kernels"]
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:rows]:
        spent = event.self_device_time_total
        lines.append(f"{spent / 1e3:9.2f} ms {spent / total:6.1%} {event.count:6d}  {event.key[:150]}")
    return "\n".join(lines) + "\n"


def measure(
    parameters: Parameters,
    base: Any,
    tokenizer: Any,
    rows: Any,
    steps: int,
    scratch: Path,
    profile: Path | None = None,
    *,
    saves: bool = False,
) -> Trial:
    """Take `steps` optimizer steps on `rows` (columns input_ids and labels) and say what they needed.

    `base` is changed by them; nothing is saved but throw-away files in `scratch`. Rows are taken in their order.
    With `profile` the last step is profiled into that file; with `saves` the model is saved as at the end of a run.
    Raises torch.OutOfMemoryError where the plan does not fit.
    """
    clock = Clock(profile, steps)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        trainer = trainers.build(
            parameters,
            Path(folder) / "checkpoints",
            base,
            tokenizer,
            rows,
            None,
            [clock.callback()],
            max_steps=steps,
            save_strategy="no",
            eval_strategy="no",
            logging_steps=1,
            report_to="none",
            train_sampling_strategy="sequential",
        )
        reset_peak()
        trainer.train()
        if saves:
            trainer.save_model(str(Path(folder) / "model"))
            tokenizer.save_pretrained(str(Path(folder) / "model"))
    return summary(clock, parameters.batch.effective_batch_size * parameters.model.max_seq_length, trainer)


def summary(clock: Clock, tokens_a_step: int, trainer: Any) -> Trial:
    """The trial that `clock` saw, of rows of full length; `trainer` is asked for its optimizer and processes."""
    warm = clock.seconds[WARM_UP_STEPS:]
    step_s = statistics.median(warm) if warm else None
    allocated, reserved = peaks_gib()
    return Trial(
        peak_allocated_gib=allocated,
        peak_reserved_gib=reserved,
        first_step_s=clock.seconds[0],
        step_s=step_s,
        tokens_per_second=None if step_s is None else tokens_a_step / step_s,
        losses=tuple(clock.losses),
        gradient_norms=tuple(clock.norms),
        optimizer=type(getattr(trainer.optimizer, "optimizer", trainer.optimizer)).__name__,
        processes=trainer.args.world_size,
        allocation_retries=allocation_retries(),
    )


def reset_peak() -> None:
    """Forget earlier peaks and retries; without a GPU there are none."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.reset_accumulated_memory_stats()


def peaks_gib() -> tuple[float, float]:
    """(allocated, reserved) peaks of this process's GPU, (0, 0) without one."""
    import torch

    if not torch.cuda.is_available():
        return 0.0, 0.0
    return torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB


def allocation_retries() -> int:
    """How often allocations on this process's GPU failed at first and were tried again, since `reset_peak`."""
    import torch

    return int(torch.cuda.memory_stats().get("num_alloc_retries", 0)) if torch.cuda.is_available() else 0
