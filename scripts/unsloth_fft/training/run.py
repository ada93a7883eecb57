"""One training run, top to bottom: open the session, load, evaluate, train, evaluate, save.

Whatever happens, session.json says so: completed, interrupted (resumable) or failed with the reason.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput, FFTError, Interrupted, MissingHere, TrainingFailed
from ..core.terminal import say
from ..data import preparing, sources
from ..planning.parameters import Parameters
from . import checkpoints, environment, metrics, model, session
from .arguments import training_arguments
from .session import Failure, Folder, Result, Session


def train(root: Path, *, resume: bool) -> Session:
    """Train the session in `root` to its end and return its final state.

    Raises BadInput (wrong state, changed files), MissingHere, TrainingFailed, or Interrupted after saving.
    """
    folder, state, parameters = session.load(root)
    with session.locked(folder):
        start = _starting_point(folder, state, resume)
        _check_data_unchanged(state, parameters)
        environment.prepare(parameters)
        state = state.changed(
            state="running", process=session.this_process(), error=None, versions=environment.versions()
        )
        session.save(folder, state)
        keeper = _StateKeeper(folder, state)
        preparing.remove_leftovers(root)
        with (
            environment.stdout_to_stderr(),
            keeper.on_failure(),
            _Signals() as signals,
            preparing.scratch(root) as space,
        ):
            result = _run(folder, parameters, start, signals, keeper, space)
        return keeper.save(state="completed", process=None, result=result)


def _run(
    folder: Folder, parameters: Parameters, start: Path | None, signals: _Signals, keeper: _StateKeeper, space: Path
) -> Result:
    import unsloth  # noqa: F401  (first: it patches what the others define)

    base, tokenizer = model.load(parameters)
    prepared = preparing.prepare(parameters.data, tokenizer, parameters.model.max_seq_length, space)
    say(
        f"{len(prepared.train)} rows to train on, {len(prepared.held_out or [])} held out ({prepared.format});"
        f" {prepared.truncated} cut, {prepared.dropped} left out"
    )
    recorder = metrics.Recorder(folder.metrics, lambda: signals.received is not None, keeper.stepped)
    trainer = _trainer(folder, parameters, base, tokenizer, prepared, recorder)
    if start is None and prepared.held_out is not None:
        trainer.evaluate()
    began = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    finally:
        recorder.finished()
    seconds = time.perf_counter() - began
    if signals.received is not None and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(
            f"stopped by {signals.received} at step {trainer.state.global_step} of {trainer.state.max_steps}; saved",
            hint=f"continue with: unsloth_fft_tool.py train {folder.root} --resume",
        )
    if prepared.held_out is not None and not _evaluated_at(folder, trainer.state.global_step):
        trainer.evaluate()
    _save_model(folder, trainer, tokenizer)
    return _result(folder, prepared, trainer, seconds)


def _starting_point(folder: Folder, state: Session, resume: bool) -> Path | None:
    """The checkpoint to go on from, or None to start at step 0. Raises BadInput when the state forbids it."""
    again = f"unsloth_fft_tool.py train {folder.root} --resume"
    if state.state == "completed":
        raise BadInput(
            f"{folder.root} is already completed; nothing was changed",
            hint=f"see it with: unsloth_fft_tool.py status {folder.root}; train anew in a new session",
        )
    checkpoints.remove_leftovers(folder.checkpoints)
    newest = checkpoints.newest(folder.checkpoints)
    if newest is not None and not resume:
        raise BadInput(
            f"{folder.root} has a checkpoint at step {checkpoints.step_of(newest)}", hint=f"continue with: {again}"
        )
    if newest is not None:
        metrics.cut_after(folder.metrics, checkpoints.step_of(newest))
    elif folder.metrics.exists():
        folder.metrics.unlink()
    return newest if resume else None


def _check_data_unchanged(state: Session, parameters: Parameters) -> None:
    if state.data.sha256 is None:
        return
    if sources.fingerprint(sources.sources_of(parameters.data)) != state.data.sha256:
        raise BadInput(
            f"{state.data.path} was changed after init", hint="start a new session with: init --params F --session NEW"
        )


def _trainer(
    folder: Folder, parameters: Parameters, base: Any, tokenizer: Any, prepared: Any, recorder: metrics.Recorder
) -> Any:
    from unsloth import UnslothTrainer, UnslothTrainingArguments

    folder.checkpoints.mkdir(exist_ok=True)
    trainer_class = checkpoints.whole_checkpoints(UnslothTrainer)
    trainer = trainer_class(
        model=base,
        processing_class=tokenizer,
        train_dataset=prepared.train,
        eval_dataset=prepared.held_out,
        args=UnslothTrainingArguments(**training_arguments(parameters, folder.checkpoints)),
        callbacks=[recorder.callback()],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints every log to stdout; metrics.jsonl has them
    return trainer


def _evaluated_at(folder: Folder, step: int) -> bool:
    return any(line.kind == "eval" and line.step == step for line in metrics.read(folder.metrics))


def _save_model(folder: Folder, trainer: Any, tokenizer: Any) -> None:
    staging = folder.root / ".model.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    with files.explained(staging):
        trainer.save_model(str(staging))
        tokenizer.save_pretrained(str(staging))
        (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
        shutil.rmtree(folder.model, ignore_errors=True)
        staging.rename(folder.model)


def _result(folder: Folder, prepared: Any, trainer: Any, seconds: float) -> Result:
    lines = metrics.read(folder.metrics)
    evaluations = [line for line in lines if line.kind == "eval"]
    steps = [line for line in lines if line.kind == "train"]
    tokens = int(trainer.state.num_input_tokens_seen)
    return Result(
        train_loss=steps[-1].loss if steps else None,
        eval_loss_before=evaluations[0].loss if evaluations else None,
        eval_loss_after=evaluations[-1].loss if evaluations else None,
        eval_rows=len(prepared.held_out or []),
        train_rows=len(prepared.train),
        tokens=tokens,
        supervised_tokens=prepared.supervised_tokens,
        seconds=round(seconds, 3),
        tokens_per_second=round(tokens / seconds, 2) if seconds > 0 else 0.0,
        peak_gib=metrics.peak_gib(),
    )


class _StateKeeper:
    """Keeps session.json true while the run goes."""

    def __init__(self, folder: Folder, state: Session) -> None:
        self._folder = folder
        self._state = state
        self._written = 0.0

    def save(self, **changes: Any) -> Session:
        self._state = self._state.changed(**changes)
        session.save(self._folder, self._state)
        return self._state

    def stepped(self, step: int, total: int) -> None:
        """Note progress; written at most once a second, and with whatever is saved next."""
        self._state = self._state.changed(step=step, total_steps=total)
        if time.monotonic() - self._written >= 1 or step == total:
            self._written = time.monotonic()
            session.save(self._folder, self._state)

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Write how the run ended before the error goes on to the user."""
        try:
            yield
        except KeyboardInterrupt:
            self.save(state="interrupted", process=None)
            raise Interrupted(
                "stopped before the first step; nothing was lost", hint="run the same command again"
            ) from None
        except Exception as error:
            failure = _explained(error, self._folder)
            kind = "interrupted" if isinstance(failure, Interrupted) else "failed"
            recorded = None if kind == "interrupted" else Failure(failure.code, failure.message, failure.hint)
            self.save(state=kind, process=None, error=recorded)
            if failure is error:
                raise
            raise failure from error


def _explained(error: Exception, folder: Folder) -> FFTError:
    """The error a user sees for what training raised."""
    import torch

    if isinstance(error, FFTError):
        return error
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return TrainingFailed(
            f"out of GPU memory after reserving {metrics.peak_gib():.1f} GiB",
            hint=f"plan for less with: generate_fft_params.py ... --vram-gib {max(1, int(metrics.peak_gib()) - 1)}",
        )
    if isinstance(error, OSError):
        return files.os_refusal(error, folder.root)
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, ImportError):
        return MissingHere(f"a package is missing: {first_line}", hint=environment.INSTALL_COMMAND)
    return TrainingFailed(
        f"training raised {type(error).__name__}: {first_line}",
        hint="see references/troubleshooting.md; set UNSLOTH_FFT_DEBUG=1 to see where it came from",
    )


class _Signals:
    """Turns the first SIGINT or SIGTERM into a request to save and stop; a second one stops at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: object) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        say(f"{self.received}: saving after this step, then stopping (again to stop at once)")
