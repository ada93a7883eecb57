"""One training run, top to bottom: open the session, check the machine, load, evaluate, train, evaluate, save.

Whatever happens, session.json says so: completed, interrupted (resumable) or failed with the reason. A plan for
several GPUs goes through launcher.py, whose workers come back here.
"""

from __future__ import annotations

import socket
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import outputs, quiet
from ..core.errors import BadInput, FFTError, Interrupted, TrainingFailed
from ..core.shell_words import word
from ..core.terminal import say
from ..data import arrow_rows, cut_ends, preparing, sources
from ..estimates import survival
from ..models.shape import ModelShape
from ..planning import row_joining
from ..settings.parameters import Parameters
from ..weights import model_folder
from ..weights.expected import expected
from . import (
    checkpoints,
    environment,
    experts,
    foreign_launcher,
    gpu_limit,
    kernel_tuning,
    launcher,
    metrics,
    model,
    outcome,
    preflight,
    processes,
    rehearsal,
    saving,
    session,
    shown_rows,
    starting,
    tasks,
    text_model,
    trial,
)
from .launcher import Machines
from .session import Folder, Result, Session
from .starting import Start
from .state_keeper import StateKeeper, Stop, explained, first_line, stopped_at_once
from .stopping import Signals


@dataclass(frozen=True)
class Options:
    """How to run, beside what the parameters say.

    `hold_to_plan` limits torch to the memory of the card that was planned for. `rendezvous` is HOST:PORT of the first
    of several machines; `follows` is true on the others, which train and write nothing of their own. `task` is a
    name that tasks.py knows.
    """

    resume: bool = False
    hold_to_plan: bool = False
    rendezvous: str | None = None
    follows: bool = False
    task: str = tasks.SUPERVISED


def train(root: Path, options: Options) -> Session:
    """Train the session in `root` to its end and return its final state.

    Raises BadInput (wrong state, changed files), MissingHere, TrainingFailed, or Interrupted after saving.
    """
    with Signals() as signals:
        try:
            folder, _, parameters = session.load(root)
            machines = _machines(folder, parameters, options)
            foreign_launcher.refuse()
            if options.follows:
                environment.prepare(parameters, folder.root)
                launcher.run(machines, folder, _worker_arguments(options), signals)
                return session.load(root)[1]
            with session.locked(folder):
                # Only now: until the lock was taken, another process may have trained, and even finished.
                _, state, parameters = session.load(root)
                with signals.as_a_stop():
                    start = _prepared(folder, state, parameters, options)
                if machines.gpus * machines.nodes > 1:
                    return _train_on_several(machines, folder, state, start, options, signals)
                return _train_here(folder, state, parameters, start, options, signals)
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped by {signals.received}; nothing was changed", hint="run the same command again"
            ) from None


def dry_run(root: Path, steps: int, options: Options) -> trial.Trial:
    """Take `steps` optimizer steps on the session's longest rows, and measure them; the session stays as it is.

    Raises TrainingFailed where memory is not enough, as `train` would.
    """
    with Signals() as signals, signals.as_a_stop():
        folder, _, parameters = session.load(root)
        if options.task != tasks.SUPERVISED:
            raise BadInput("a trial of preference tuning is not measured", hint="train with --max-steps 3 in the plan")
        if processes_of(parameters) > 1:
            raise BadInput(
                "a dry run takes one GPU, and this plan is for several",
                hint=f"try it with: unsloth_fft_tool.py benchmark {word(folder.parameters)} --output rows.jsonl",
            )
        with session.locked(folder):
            environment.prepare(parameters, folder.root)
            foreign_launcher.refuse()
            preflight.check(parameters, folder)
            with quiet.stdout_to_stderr(), preparing.scratch(folder.root) as space:
                try:
                    return _trial(parameters, steps, options, space)
                except Exception as error:
                    raise explained(error, folder, parameters) from error


def train_as_worker(root: Path, *, resume: bool, hold_to_plan: bool) -> None:
    """One process of several: the whole run beside the others. Raises what `train` raises."""
    folder, state, parameters = session.load(root)
    if processes_of(parameters) != processes.COUNT:
        raise BadInput(
            f"this plan is for {processes_of(parameters)} processes, and torchrun started {processes.COUNT}",
            hint=f"start it with: unsloth_fft_tool.py train {word(root)}",
        )
    stop = _StopFile(folder)
    start = starting.find(folder, state, resume)
    keeper = StateKeeper(folder, state, parameters)
    options = Options(resume=resume, hold_to_plan=hold_to_plan)
    with keeper.on_failure(stop), preparing.scratch(folder.root) as space:
        result = _run(folder, parameters, start.checkpoint, options, stop, keeper, space)
        keeper.save(state="completed", process=None, result=result)


def processes_of(parameters: Parameters) -> int:
    """Processes that a plan takes: one a GPU."""
    return parameters.distributed.gpus * parameters.distributed.nodes


class _StopFile:
    """A worker's side of the launcher's request: all workers agree on it after the same step."""

    def __init__(self, folder: Folder) -> None:
        self._file = launcher.stop_file(folder)
        self.received: str | None = None
        self.at_once = False

    def requested(self) -> bool:
        if self.received is None and processes.any_of(self._file.exists()):
            self.received = "a signal"
        return self.received is not None

    def defer(self) -> None:
        """A worker is stopped by its launcher alone."""


def _machines(folder: Folder, parameters: Parameters, options: Options) -> Machines:
    distributed = parameters.distributed
    if distributed.nodes > 1 and options.rendezvous is None:
        raise BadInput(
            f"this plan is for {distributed.nodes} machines, which must be told where to meet",
            hint=f"here, as the first of them: unsloth_fft_tool.py train {word(folder.root)} --rendezvous"
            f" {word(socket.gethostname())}:29500; on the others the same, and --follow",
        )
    if distributed.nodes == 1 and (options.rendezvous or options.follows):
        raise BadInput("this plan is for one machine", hint="leave --rendezvous and --follow out")
    return Machines(distributed.gpus, distributed.nodes, options.rendezvous, options.follows)


def _prepared(folder: Folder, state: Session, parameters: Parameters, options: Options) -> Start:
    """Where to start, once nothing stands against it; changes nothing."""
    start = starting.find(folder, state, options.resume)
    _check_data_unchanged(folder, state, parameters)
    environment.begin(parameters, folder.root)  # before a look at the model, which may import transformers
    model_folder.check_local(parameters.model.name)  # init looked, but the session may come from elsewhere
    preflight.check(parameters, folder)
    warn_of_lost_updates(parameters)
    return start


def _tidy(folder: Folder, start: Start, state: Session) -> None:
    starting.tidy(folder, start, state)
    if start.checkpoint is not None:
        say(f"resuming at step {start.step}")
    session.remove_leftovers(folder)
    preparing.remove_leftovers(folder.root)


def _train_here(
    folder: Folder, state: Session, parameters: Parameters, start: Start, options: Options, signals: Signals
) -> Session:
    keeper = StateKeeper(folder, state, parameters)
    with keeper.on_failure(signals), signals.as_a_stop(), quiet.stdout_to_stderr():
        keeper.save(state="running", process=session.this_process(), error=None, versions=environment.versions())
        try:
            _tidy(folder, start, state)
            with preparing.scratch(folder.root) as space:
                result = _run(folder, parameters, start.checkpoint, options, signals, keeper, space)
        finally:  # a signal between making the scratch folder and entering it would leave it
            preparing.remove_leftovers(folder.root)
        return keeper.save(state="completed", process=None, result=result)


def _train_on_several(
    machines: Machines, folder: Folder, state: Session, start: Start, options: Options, signals: Signals
) -> Session:
    running = state.changed(
        state="running", process=session.this_process(), error=None, versions=environment.versions()
    )
    session.save(folder, running)
    _tidy(folder, start, state)
    try:
        launcher.run(machines, folder, _worker_arguments(options), signals)
    except KeyboardInterrupt:
        stopped = stopped_at_once(folder, session.load(folder.root)[1].step, signals)
        launcher.settle(folder, stopped)
        raise stopped from None
    except FFTError as error:
        launcher.settle(folder, error)
        raise
    finally:
        preparing.remove_leftovers(folder.root)
    return session.load(folder.root)[1]


def _worker_arguments(options: Options) -> list[str]:
    return [
        *(["--resume"] if options.resume else []),
        *(["--hold-to-plan"] if options.hold_to_plan else []),
        *(["--follow"] if options.follows else []),
    ]


def warn_of_lost_updates(parameters: Parameters) -> None:
    """Say before training how many updates rounding would lose, and what keeps them, when it is more than a few."""
    optimizer = parameters.optimizer
    found = expected(
        parameters.model.name,
        optimizer.learning_rate,
        parameters.precision.weights,
        optimizer.name,
        optimizer.args,
        parameters.model.revision,
    )
    if found.share < survival.WANTED_SHARE:
        say(
            f"warning: a step at learning rate {optimizer.learning_rate:g} will move only about {found.in_words};"
            f" rounding to bfloat16 loses the rest. Plan again with {survival.REMEDY}"
        )


def warn_of_joined_rows(parameters: Parameters, config: dict[str, Any]) -> None:
    """Say before training where packed or padding-free rows will cost memory and speed instead of saving them.

    `config` is the model's config.json.
    """
    joined = "packing" if parameters.data.packing else "padding_free" if parameters.data.padding_free else None
    weights = parameters.precision.weights
    try:
        obstacle = row_joining.obstacle_of(ModelShape.from_config(config, parameters.model.name), weights)
    except BadInput:  # a family that the planner does not count
        obstacle = row_joining.obstacle(config["model_type"], weights)
    alone = not parameters.data.packing and parameters.batch.per_device_train_batch_size == 1
    if joined is not None and obstacle is not None and not alone:
        say(f"warning: data.{joined} is true, but {obstacle}; set it to false")


def say_of_router_loss(base: Any) -> None:
    """Say whether the loss that is shown contains the router's load-balancing loss, where there are experts."""
    experts.name_their_number(base.config)
    coefficient = experts.router_loss(base)
    if coefficient:
        say(f"the loss contains the router's load-balancing loss times {coefficient:g}, as the model's config asks")
    elif getattr(base.config.get_text_config(), "num_experts", 0):
        say("no load-balancing loss of the router is trained")


def _loaded(parameters: Parameters, options: Options, space: Path) -> tuple[Any, Any, Any, Path | None]:
    """(model, tokenizer, prepared data, the multimodal checkpoint it came from), within the memory that is allowed."""
    quiet.prepare()
    import unsloth  # noqa: F401  (first: it patches what the others define)

    quiet.libraries()
    if options.hold_to_plan and parameters.plan is not None:
        gpu_limit.hold_to(parameters.plan.hardware.vram_gib)
    loaded, multimodal_base = text_model.taken_out(parameters, space.parent)
    base, tokenizer = model.load(loaded)
    if processes.is_first() and base.device.type == "cuda":  # on a CPU Unsloth joins no rows
        warn_of_joined_rows(parameters, base.config.to_dict())
    prepared = tasks.of(options.task).prepare(parameters.data, tokenizer, parameters.model.max_seq_length, space)
    cut_ends.refuse(prepared.ends, parameters.data)
    rehearsal.before_training(parameters.model.name, base, tokenizer, prepared, space)
    if processes.is_first():
        shown_rows.say_of(prepared, tokenizer)
    return base, tokenizer, prepared, multimodal_base


def _trial(parameters: Parameters, steps: int, options: Options, space: Path) -> trial.Trial:
    base, tokenizer, prepared, _ = _loaded(parameters, options, space)
    needed = steps * parameters.batch.effective_batch_size
    longest = (-arrow_rows.lengths(prepared.train, "input_ids")).argsort(kind="stable")
    rows = prepared.train.select([longest[number % len(longest)] for number in range(needed)])
    return trial.measure(parameters, base, tokenizer, rows, steps, space, saves=True)


def _run(
    folder: Folder,
    parameters: Parameters,
    start: Path | None,
    options: Options,
    stop: Stop,
    keeper: StateKeeper,
    space: Path,
) -> Result:
    base, tokenizer, prepared, multimodal_base = _loaded(parameters, options, space)
    recorder = metrics.Recorder(
        folder.metrics if processes.is_first() else None,
        should_stop=stop.requested,
        on_start=stop.defer,
        on_step=keeper.stepped,
    )
    if processes.is_first():
        say_of_router_loss(base)
    published = experts.switches(base.config)
    runner = tasks.of(options.task).build(
        parameters, folder.checkpoints, base, tokenizer, prepared.train, prepared.held_out, [recorder.callback()]
    )
    starting.refuse_different(folder, start)
    if start is None and prepared.held_out is not None:
        runner.evaluate()
    began = time.perf_counter()
    try:
        with kernel_tuning.told():
            _train_from(runner, start, keeper)
    finally:
        recorder.finished()
    seconds = time.perf_counter() - began
    step = runner.state.global_step
    if stop.received is not None and step < runner.state.max_steps:
        raise Interrupted(
            f"stopped by {stop.received} at step {step} of {runner.state.max_steps}; saved",
            hint=f"continue with: unsloth_fft_tool.py train {word(folder.root)} --resume",
        )
    last = checkpoints.newest(folder.checkpoints)
    stop.at_once = last is not None and checkpoints.step_of(last) == step
    if prepared.held_out is not None and not outcome.evaluated_at(folder, step):
        runner.evaluate()
    model.require_finite(runner.model, step)
    experts.restore(runner.model.config, published)
    saving.save_model(folder, runner, tokenizer, multimodal_base)
    return outcome.finish(folder, parameters, prepared, runner, seconds)


def _train_from(runner: Any, start: Path | None, keeper: StateKeeper) -> None:
    """Train to the end from `start`; a checkpoint saved when training had ended is only loaded."""
    try:
        if start is None or not starting.is_finished(start):
            runner.train(resume_from_checkpoint=str(start) if start else None)
        else:
            runner.restore(start)
            keeper.stepped(runner.state.global_step, runner.state.max_steps)
    except (FFTError, OSError):
        raise
    except Exception as error:
        # What torch refuses to unpickle never ran; every kind of damage has its own exception.
        if start is None or runner.state.global_step > checkpoints.step_of(start) or not _is_about_loading(error):
            raise
        raise TrainingFailed(
            f"{start.name} cannot be loaded: {first_line(error)}",
            hint=f"remove {start} to go on from the checkpoint before it",
        ) from error


def _is_about_loading(error: Exception) -> bool:
    """Whether the traceback passes through the Trainer's loading of a checkpoint."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return any(name.startswith("_load_") or name == "_init_training_state" for name in names)


def _check_data_unchanged(folder: Folder, state: Session, parameters: Parameters) -> None:
    if state.data.sha256 is None:
        return
    if sources.fingerprint(sources.sources_of(parameters.data)) != state.data.sha256:
        raise BadInput(
            f"{state.data.path} was changed after init",
            hint=f"start a new session: unsloth_fft_tool.py init --params {word(folder.parameters)} --session"
            f" {word(outputs.unused(folder.root))}",
        )
