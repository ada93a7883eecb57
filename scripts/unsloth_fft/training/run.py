"""One training run, top to bottom: open the session, load, evaluate, train, evaluate, save.

Whatever happens, session.json says so: completed, interrupted (resumable) or failed with the reason.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, FFTError, Interrupted, MissingHere, TrainingFailed
from ..core.terminal import say
from ..data import preparing, sources
from ..planning import survival
from ..planning.parameters import Parameters
from . import checkpoints, environment, metrics, model, session, starting
from .arguments import training_arguments
from .session import Failure, Folder, Result, Session
from .stopping import Signals


def train(root: Path, *, resume: bool) -> Session:
    """Train the session in `root` to its end and return its final state.

    Raises BadInput (wrong state, changed files), MissingHere, TrainingFailed, or Interrupted after saving.
    """
    with Signals() as signals:
        try:
            folder, state, parameters = session.load(root)
            with session.locked(folder):
                return _train(folder, state, parameters, resume, signals)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped by {signals.received}; nothing was changed", hint="run the same command again"
            ) from None


def _train(folder: Folder, state: Session, parameters: Parameters, resume: bool, signals: Signals) -> Session:
    start = starting.find(folder, state, resume)
    _check_data_unchanged(state, parameters)
    environment.prepare(parameters, folder.root)
    warn_of_lost_updates(parameters)
    keeper = _StateKeeper(folder, state)
    with keeper.on_failure(signals), environment.stdout_to_stderr():
        keeper.save(state="running", process=session.this_process(), error=None, versions=environment.versions())
        starting.tidy(folder, start, state)
        session.remove_leftovers(folder)
        preparing.remove_leftovers(folder.root)
        with preparing.scratch(folder.root) as space:
            result = _run(folder, parameters, start.checkpoint, signals, keeper, space)
        return keeper.save(state="completed", process=None, result=result)


def warn_of_lost_updates(parameters: Parameters) -> None:
    """Say before training how many updates rounding would lose, and what keeps them, when it is more than a few."""
    optimizer = parameters.optimizer
    share = survival.typical_survival(
        optimizer.learning_rate, parameters.precision.weights, optimizer.name, optimizer.args
    )
    if share < survival.WANTED_SHARE:
        say(
            f"warning: about {share:.0%} of the weights will move a step at learning rate {optimizer.learning_rate:g};"
            f" rounding to bfloat16 loses the rest. Keep them with: generate_fft_params.py {survival.REMEDY}"
        )


def _run(
    folder: Folder, parameters: Parameters, start: Path | None, signals: Signals, keeper: _StateKeeper, space: Path
) -> Result:
    import unsloth  # noqa: F401  (first: it patches what the others define)

    base, tokenizer = model.load(parameters)
    prepared = preparing.prepare(parameters.data, tokenizer, parameters.model.max_seq_length, space)
    say(
        f"{len(prepared.train)} rows to train on, {len(prepared.held_out or [])} held out ({prepared.format});"
        f" {prepared.truncated} cut, {prepared.dropped} left out"
    )
    recorder = metrics.Recorder(
        folder.metrics, should_stop=signals.requested, on_start=signals.defer, on_step=keeper.stepped
    )
    trainer = _trainer(folder, parameters, base, tokenizer, prepared, recorder)
    if start is None and prepared.held_out is not None:
        trainer.evaluate()
    began = time.perf_counter()
    try:
        _train_from(trainer, start, keeper)
    finally:
        recorder.finished()
    seconds = time.perf_counter() - began
    step = trainer.state.global_step
    if signals.received is not None and step < trainer.state.max_steps:
        raise Interrupted(
            f"stopped by {signals.received} at step {step} of {trainer.state.max_steps}; saved",
            hint=f"continue with: unsloth_fft_tool.py train {folder.root} --resume",
        )
    last = checkpoints.newest(folder.checkpoints)
    signals.at_once = last is not None and checkpoints.step_of(last) == step
    if prepared.held_out is not None and not _evaluated_at(folder, step):
        trainer.evaluate()
    model.require_finite(trainer.model, step)
    _save_model(folder, trainer, tokenizer)
    return _result(folder, prepared, trainer, seconds)


def _train_from(trainer: Any, start: Path | None, keeper: _StateKeeper) -> None:
    """Train to the end from `start`; a checkpoint saved when training had ended is only loaded."""
    try:
        if start is None or not starting.is_finished(start):
            trainer.train(resume_from_checkpoint=str(start) if start else None)
        else:
            trainer.take_up(start)
            keeper.stepped(trainer.state.global_step, trainer.state.max_steps)
    except (FFTError, OSError):
        raise
    except Exception as error:
        # What torch refuses to unpickle never ran; every kind of damage has its own exception.
        if start is None or trainer.state.global_step > checkpoints.step_of(start) or not _is_about_loading(error):
            raise
        raise TrainingFailed(
            f"{start.name} cannot be loaded: {_first_line(error)}",
            hint=f"remove {start} to go on from the checkpoint before it",
        ) from error


def _is_about_loading(error: Exception) -> bool:
    """Whether the traceback passes through the Trainer's loading of a checkpoint."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return any(name.startswith("_load_") or name == "_init_training_state" for name in names)


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
    schedule = parameters.schedule
    if schedule.early_stopping_patience is not None:
        from transformers import EarlyStoppingCallback

        trainer.add_callback(EarlyStoppingCallback(schedule.early_stopping_patience, schedule.early_stopping_threshold))
    return trainer


def _evaluated_at(folder: Folder, step: int) -> bool:
    return any(line.kind == "eval" and line.step == step for line in metrics.read(folder.metrics))


def _save_model(folder: Folder, trainer: Any, tokenizer: Any) -> None:
    staging = folder.root / ".model.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        trainer.save_model(str(staging))
        tokenizer.save_pretrained(str(staging))
        (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
        checkpoints.flush(staging)
        shutil.rmtree(folder.model, ignore_errors=True)
        staging.rename(folder.model)
    except Exception as error:
        shutil.rmtree(staging, ignore_errors=True)
        refusal = checkpoints.disk_refusal(error, folder.checkpoints, "the trained model")
        if refusal is None:
            raise
        raise refusal from error


def _result(folder: Folder, prepared: Any, trainer: Any, seconds: float) -> Result:
    lines = metrics.read(folder.metrics)
    evaluations = [line for line in lines if line.kind == "eval"]
    steps = [line for line in lines if line.kind == "train"]
    tokens = int(trainer.state.num_input_tokens_seen)
    step = _model_step(trainer)
    of_model = [line.loss for line in evaluations if line.step == step]
    return Result(
        train_loss=steps[-1].loss if steps else None,
        eval_loss_before=evaluations[0].loss if evaluations else None,
        eval_loss_after=of_model[-1] if of_model else None,
        eval_rows=len(prepared.held_out or []),
        train_rows=len(prepared.train),
        tokens=tokens,
        supervised_tokens=prepared.supervised_tokens,
        seconds=round(seconds, 3),
        tokens_per_second=round(tokens / seconds, 2) if seconds > 0 else 0.0,
        peak_gib=metrics.peak_gib(),
        model_step=step,
    )


def _model_step(trainer: Any) -> int:
    """The step whose weights the trainer holds: the best checkpoint's where it was loaded, else the last."""
    state = trainer.state
    if trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None:
        return int(state.best_global_step)
    return int(state.global_step)


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
    def on_failure(self, signals: Signals) -> Iterator[None]:
        """Write how the run ended before the error goes on to the user."""
        try:
            yield
        except KeyboardInterrupt:
            self._try_to_save(state="interrupted", process=None)
            raise self._stopped_at_once(signals) from None
        except Exception as error:
            if os.environ.get("UNSLOTH_FFT_DEBUG"):
                traceback.print_exc()
            failure = _explained(error, self._folder)
            kind = "interrupted" if isinstance(failure, Interrupted) else "failed"
            recorded = None if kind == "interrupted" else Failure(failure.code, failure.message, failure.hint)
            self._try_to_save(state=kind, process=None, error=recorded)
            if failure is error:
                raise
            raise failure from error

    def _stopped_at_once(self, signals: Signals) -> Interrupted:
        newest = checkpoints.newest(self._folder.checkpoints)
        step = 0 if newest is None else checkpoints.step_of(newest)
        return Interrupted(
            f"stopped at once by {signals.received} at step {self._state.step}; saved up to step {step}",
            hint=f"continue with: unsloth_fft_tool.py train {self._folder.root}{' --resume' if step else ''}",
        )

    def _try_to_save(self, **changes: Any) -> None:
        """On a full disk even this fails; the lock that ends with the process then tells what happened."""
        try:
            self.save(**changes)
        except FFTError as error:
            say(f"{self._folder.state} could not be written: {error.message}")


def _explained(error: Exception, folder: Folder) -> FFTError:
    """The error a user sees for what training raised."""
    import torch

    if isinstance(error, FFTError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return TrainingFailed(
            f"out of GPU memory after reserving {metrics.peak_gib():.1f} GiB",
            hint=f"plan for less with: generate_fft_params.py ... --vram-gib {max(1, int(metrics.peak_gib()) - 1)}",
        )
    refusal = checkpoints.disk_refusal(error, folder.checkpoints, "the run's data")
    if refusal is not None:
        return refusal
    if isinstance(error, ImportError):
        return MissingHere(f"a package is missing: {_first_line(error)}", hint=environment.INSTALL_COMMAND)
    return TrainingFailed(
        f"training raised {type(error).__name__}: {_first_line(error)}",
        hint="see references/troubleshooting.md; set UNSLOTH_FFT_DEBUG=1 to see where it came from",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
