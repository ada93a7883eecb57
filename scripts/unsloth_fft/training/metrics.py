"""What a run reports while it goes: lines in metrics.jsonl, a progress bar, and a stop on a non-finite loss."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files, json_text, quiet, schema
from ..core.errors import BadInput, TrainingFailed
from ..core.terminal import say
from ..hardware import host_memory
from .session import now

WARM_UP_LINES = 2
SAY_EVERY_S = 60.0


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
    """The lines of a metrics file, oldest first; a last line cut short by a kill is left out.

    Raises BadInput naming any other line that is not as this module writes it.
    """
    if not path.is_file():
        return []
    # Not splitlines: a file from elsewhere may hold other line ends inside a string.
    texts = files.read_text(path, "metrics").removesuffix("\n").split("\n")
    lines = [_line_of(text) for text in texts] if texts != [""] else []
    for number, line in enumerate(lines[:-1], start=1):
        if line is None:
            raise BadInput(f"{path}: line {number} is no metrics line", hint=_MEND)
    return [line for line in lines if line is not None]


_MEND = "remove that line, or restore the file; a resumed run writes the lines after its checkpoint anew"
_LARGEST_RATE = 1000  # as the schema has it: the audit adds the rates of all steps up
_WHOLE = ("step", "tokens")
_MEASURED = ("epoch", "loss", "grad_norm", "learning_rate", "tokens_per_second", "peak_gib")


def _line_of(text: str) -> Line | None:
    """The line in `text`, or None. By hand, because a schema takes 20 times as long and `status` reads every line."""
    try:
        value = json_text.parse(text)
        line = Line(**value)
        written = datetime.datetime.fromisoformat(line.time)
    except (ValueError, TypeError):
        return None
    whole = all(type(value[name]) is int and value[name] >= 0 for name in _WHOLE)
    numbers = (value[name] for name in _MEASURED)
    measured = all(number is None or type(number) in (int, float) and math.isfinite(number) for number in numbers)
    measured = measured and (line.learning_rate is None or 0 <= line.learning_rate <= _LARGEST_RATE)
    known = isinstance(line.kind, str) and line.kind in ("train", "eval") and written.tzinfo is not None
    return line if whole and measured and known else None


def steady_speed(lines: Sequence[Line]) -> float | None:
    """Median tokens/s of the training lines after the first two, which hold the compilation; None without any."""
    steps = [line for line in lines if line.kind == "train"][WARM_UP_LINES:]
    speeds = [line.tokens_per_second for line in steps if line.tokens_per_second is not None]
    return statistics.median(speeds) if speeds else None


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
    return round((host_memory.peak_resident() or 0) / 2**30, 4)


def reserved_and_free_gib() -> tuple[float, float]:
    """What torch reserved of this process's GPU at its peak, and what the GPU has free now, in GiB."""
    import torch

    if not torch.cuda.is_available():
        return 0.0, 0.0
    torch.cuda.empty_cache()
    return torch.cuda.max_memory_reserved() / 2**30, torch.cuda.mem_get_info()[0] / 2**30


class Recorder:
    """Builds the Trainer callback that writes metrics lines and moves the progress bar.

    Without a `path` nothing is written or shown: of several processes, one speaks.
    `on_start` is called once the Trainer is ready for its first step. `should_stop` is asked after every step,
    evaluation and save; when it says so the Trainer saves a checkpoint, unless it just did, and ends.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_start: Callable[[], None] = lambda: None,
        on_step: Callable[[int, int], None] = lambda step, total: None,
    ) -> None:
        self._path = path
        self._should_stop = should_stop
        self._on_start = on_start
        self._on_step = on_step
        self._bar: Any = None
        self._said = -math.inf
        self._last_time = time.perf_counter()
        self._last_tokens = 0

    def started(self, state: Any) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            leave=False,
            disable=self._path is None or not quiet.watched(),
        )
        self._said = -math.inf
        self._last_time = time.perf_counter()
        self._last_tokens = state.num_input_tokens_seen
        self._on_start()

    def stepped(self, state: Any, control: Any) -> None:
        self._bar.update(1)
        self._on_step(state.global_step, state.max_steps)
        self.obey(control, save=True)

    def obey(self, control: Any, *, save: bool) -> None:
        """Have the Trainer stop, after a checkpoint where `save` says that none is of this step yet."""
        if self._should_stop():
            control.should_save = control.should_save or save
            control.should_training_stop = True

    def logged(self, state: Any, logs: dict[str, Any]) -> None:
        if "loss" not in logs:
            return
        loss = float(logs["loss"])
        self.write(self._line(state, logs, loss))
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss is {loss} at step {state.global_step}; training stopped, the last checkpoint is kept",
                hint="lower the learning rate or lengthen the warm-up (references/hyperparameters.md), then start anew",
            )
        self._bar.set_postfix_str(f"loss {loss:.3f}")
        self._say_now_and_then(state, loss)

    def _say_now_and_then(self, state: Any, loss: float) -> None:
        """A line a minute where there is no bar, and one at the first step and at the last."""
        last = state.global_step == state.max_steps
        if self._path is None or quiet.watched() or not (last or time.monotonic() - self._said >= SAY_EVERY_S):
            return
        self._said = time.monotonic()
        say(f"step {state.global_step} of {state.max_steps}, loss {loss:.3f}")

    def write(self, line: Line) -> None:
        if self._path is not None:
            append(self._path, line)

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
                tokens = int(state.num_input_tokens_seen)
                recorder.write(evaluation_line(state.global_step, state.epoch, loss, tokens))
                recorder.obey(control, save=True)

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                recorder.obey(control, save=False)

        return RecorderCallback()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(line: Line) -> str:
    return json.dumps(dataclasses.asdict(line), ensure_ascii=False, allow_nan=False) + "\n"
