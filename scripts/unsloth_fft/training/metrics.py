"""What a run reports while it goes: lines in metrics.jsonl, a progress bar, and a stop on a non-finite loss."""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files, schema
from ..core.errors import TrainingFailed
from .session import now


@dataclass(frozen=True)
class Line:
    """One line of metrics.jsonl (schemas/metrics.schema.json says the units)."""

    kind: str
    step: int
    epoch: float | None
    loss: float | None
    grad_norm: float | None
    learning_rate: float | None
    tokens: int
    tokens_per_second: float | None
    peak_gib: float | None
    time: str


def read(path: Path) -> list[Line]:
    """The lines of a metrics file, oldest first; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    lines = []
    texts = path.read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(Line(**json.loads(text)))
        except (json.JSONDecodeError, TypeError):
            if number < len(texts):
                raise
    return lines


def cut_after(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, which a resumed run will write again."""
    kept = [line for line in read(path) if line.step <= step]
    files.write_text(path, "".join(_text(line) for line in kept))


def evaluation_line(step: int, epoch: float | None, loss: float, tokens: int) -> Line:
    """The line of one held-out evaluation."""
    return Line("eval", step, epoch, _finite(loss), None, None, tokens, None, peak_gib(), now())


def append(path: Path, line: Line) -> None:
    """Add one line, checked against its schema."""
    value = dataclasses.asdict(line)
    schema.check(value, "metrics", "the metrics line")
    files.append_line(path, value)


def peak_gib() -> float:
    """Peak memory of this process in GiB: reserved by torch on a GPU, else resident on the host."""
    import torch

    if torch.cuda.is_available():
        return round(float(torch.cuda.max_memory_reserved()) / 2**30, 4)
    # Linux gives ru_maxrss in KiB (getrusage(2)).
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 4)


class Recorder:
    """Builds the Trainer callback that writes metrics lines and moves the progress bar.

    `should_stop` is asked after every step; when it says so the Trainer saves a checkpoint and ends.
    """

    def __init__(self, path: Path, should_stop: Callable[[], bool], on_step: Callable[[int, int], None]) -> None:
        self._path = path
        self._should_stop = should_stop
        self._on_step = on_step
        self._bar: Any = None
        self._last_time = time.perf_counter()
        self._last_tokens = 0

    def started(self, state: Any) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step", leave=False)
        self._last_time = time.perf_counter()
        self._last_tokens = state.num_input_tokens_seen

    def stepped(self, state: Any, control: Any) -> None:
        self._bar.update(1)
        self._on_step(state.global_step, state.max_steps)
        if self._should_stop():
            control.should_save = True
            control.should_training_stop = True

    def logged(self, state: Any, logs: dict[str, Any]) -> None:
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        append(self._path, self._line(state, logs, loss))
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss is {loss} at step {state.global_step}; training stopped, the last checkpoint is kept",
                hint="lower the learning rate or lengthen the warm-up (references/troubleshooting.md), then start anew",
            )
        self._bar.set_postfix_str(f"loss {loss:.3f}")

    def finished(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line(self, state: Any, logs: dict[str, Any], loss: float) -> Line:
        elapsed, tokens = time.perf_counter() - self._last_time, state.num_input_tokens_seen - self._last_tokens
        self._last_time, self._last_tokens = time.perf_counter(), state.num_input_tokens_seen
        return Line(
            kind="train",
            step=state.global_step,
            epoch=_finite(float(logs.get("epoch", 0.0))),
            loss=_finite(loss),
            grad_norm=_finite(float(logs.get("grad_norm", math.nan))),
            learning_rate=_finite(float(logs.get("learning_rate", math.nan))),
            tokens=int(state.num_input_tokens_seen),
            tokens_per_second=round(tokens / elapsed, 2) if elapsed > 0 else None,
            peak_gib=peak_gib(),
            time=now(),
        )

    def callback(self) -> Any:
        """This recorder as a `transformers.TrainerCallback`."""
        from transformers import TrainerCallback

        recorder = self

        class RecorderCallback(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                recorder.started(state)

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                recorder.stepped(state, control)

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                recorder.logged(state, logs or {})

            def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
                loss = float((metrics or {}).get("eval_loss", math.nan))
                append(
                    recorder._path,
                    evaluation_line(state.global_step, state.epoch, loss, int(state.num_input_tokens_seen)),
                )

        return RecorderCallback()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(line: Line) -> str:
    return json.dumps(dataclasses.asdict(line), ensure_ascii=False, allow_nan=False) + "\n"
