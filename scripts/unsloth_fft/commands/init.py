"""init: check a parameters file, the data, the model, memory and disk, and write a session. Trains nothing."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..core import files, outputs, schema, terminal
from ..core.errors import BadInput, FFTError, MissingHere
from ..core.shell_words import word
from ..data import embedded, sources
from ..data.scanning import Counts
from ..hardware import detection
from ..models import catalogue, hub_cache
from ..planning import file_warnings, replan
from ..settings import parameters
from ..settings.parameters import Parameters
from ..training import environment, preflight, session, tasks
from ..training.session import DataRecord
from ..weights import model_folder

EPILOG = """examples:
  unsloth_fft_tool.py init --params params.json --check              is the file itself in order? reads nothing else
  unsloth_fft_tool.py init --params params.json --session runs/first
  unsloth_fft_tool.py train runs/first"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "init",
        help="check everything and write a session; trains nothing",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("--params", required=True, type=Path, metavar="F", help="file from generate_fft_params.py")
    made = command.add_mutually_exclusive_group(required=True)
    made.add_argument("--session", type=Path, metavar="DIR", help="new folder for this run")
    made.add_argument(
        "--check", action="store_true", help="check the file alone (keys, types, contradictions); write nothing"
    )
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `init` command."""
    if args.check:
        return _check(args)
    folder, state = initialize(args.params, args.session)
    if args.json:
        terminal.emit(dataclasses.asdict(state))
    else:
        terminal.say(f"initialized {folder.root}: {state.data.rows or 'unknown'} rows ({state.data.format})")
        terminal.say(f"next: unsloth_fft_tool.py train {word(folder.root)}")
    _warn(state_rows(session.load(folder.root)[2], state))
    return 0


def _warn(found: Parameters) -> None:
    """What the planner would have warned of, had it made these settings."""
    for sentence in file_warnings.warnings(found):
        terminal.say(f"warning: {sentence}")


def state_rows(found: Parameters, state: session.Session) -> Parameters:
    """The parameters with the number of rows that was counted here."""
    rows = state.data.rows or found.data.rows
    return dataclasses.replace(found, data=dataclasses.replace(found.data, rows=rows))


def _check(args: argparse.Namespace) -> int:
    """The parameters file by itself: data, model and machine are not looked at."""
    found = parameters.load(args.params)
    named = found.data.dataset is not None or bool(found.data.sources)
    if args.json:
        checked = {"params": str(args.params), "valid": True, "names_data": named}
        terminal.emit({**checked, "not_checked": ["data", "model", "memory", "disk"]})
    else:
        terminal.say(f"in order: {args.params}; data, model, memory and disk were not looked at")
        if named:
            session_name = word(outputs.unused("run-1"))
            terminal.say(f"next: unsloth_fft_tool.py init --params {word(args.params)} --session {session_name}")
        else:
            terminal.say("note: it names no data yet: set data.dataset, or plan with --dataset, before init")
    _warn(found)
    return 0


def initialize(params_file: Path, root: Path) -> tuple[session.Folder, session.Session]:
    """Check `params_file` and make the session `root` from it.

    Raises BadInput or MissingHere, in which case nothing was written.
    """
    session.require_new(root)
    return make(parameters.load(params_file), root)


def make(given: Parameters, root: Path, task: str = tasks.SUPERVISED) -> tuple[session.Folder, session.Session]:
    """`initialize` with parameters that are read already, for rows of `task`."""
    session.require_new(root)
    files.require_folder(root)  # now, and not after all rows were read
    found = resolved(given)
    model_folder.check_local(found.model.name, found.model.revision)
    _check_length(found)
    environment.require_tracker(found.schedule.report_to)
    record = _data_record(found, task)
    folder = hub_cache.find(found.model.name, found.model.revision)
    if folder is not None and folder.is_dir():
        model_folder.require_complete(folder)
        embedded.require(found.data, folder)
    if task == tasks.SUPERVISED:
        _check_rows(found)
    _check_memory(found)
    preflight.require_disk(found, root)
    made = session.create(root, found, record)
    _keep_tuning(found, made[0])
    return made


def _keep_tuning(found: Parameters, folder: session.Folder) -> None:
    """Copy how the rate was measured into the session, for its report; its folder may be gone when that is written."""
    if found.optimizer.tuning is None:
        return
    try:
        tuning = files.read_json(Path(found.optimizer.tuning), "tuning")
        schema.check(tuning, "tuning", f"tuning {found.optimizer.tuning}")
        files.write_json(folder.tuning, tuning)
    except FFTError as error:
        terminal.say(f"note: the report will not show how the rate was measured: {error.message}")


def _check_length(found: Parameters) -> None:
    """Raise BadInput for rows longer than the positions the model has, where its shape can be read here."""
    name, asked, limit = found.model.name, found.model.max_seq_length, _positions(found.model.name)
    if limit is not None and asked > limit:
        raise BadInput(
            f"model/max_seq_length is {asked}, and {name} has {limit} positions",
            hint=f"plan again with --seq-length {limit} or less",
        )


def _positions(name: str) -> int | None:
    try:
        return catalogue.load_shape(name).max_positions
    except FFTError:  # a shape the planner does not know may be one that Unsloth knows
        return None


def resolved(given: Parameters) -> Parameters:
    """`given` with local paths made absolute, so that the session works from any folder."""
    sources.sources_of(given.data)  # refuses parameters that name no data
    dataset, tuning = given.data.dataset, given.optimizer.tuning
    mixed = [{**entry, "dataset": _absolute(entry["dataset"])} for entry in given.data.sources]
    return dataclasses.replace(
        given,
        model=dataclasses.replace(given.model, name=_absolute(given.model.name)),
        optimizer=dataclasses.replace(given.optimizer, tuning=tuning and _absolute(tuning)),
        data=dataclasses.replace(given.data, dataset=dataset and _absolute(dataset), sources=mixed),
    )


def _absolute(name: str) -> str:
    try:
        path = files.expanded(name)
        return str(path.resolve()) if path.exists() else name
    except (OSError, ValueError):  # too long, a NUL byte: refused by name later
        return name


def _data_record(found: Parameters, task: str) -> DataRecord:
    """Read every local row once. Raises BadInput naming the line of a row that training would refuse."""
    mix = sources.sources_of(found.data)
    checked = [tasks.check(task, source, found.data) for source in mix]
    counts = [source.rows for source in checked]
    for source in checked:
        _say_what_was_not_used(source)
    return DataRecord(
        path=", ".join(source.dataset for source in mix),
        sha256=sources.fingerprint(mix),
        format=" + ".join(dict.fromkeys(source.form for source in checked)),
        rows=found.data.rows if None in counts else sum(count or 0 for count in counts),
    )


def _say_what_was_not_used(source: Counts) -> None:
    if source.unused:
        keys = ", ".join(f"{key} ({rows:,} rows)" for key, rows in list(source.unused.items())[:12])
        terminal.say(f"note: keys that were not used: {keys}")
    if source.skipped:
        more = f" and {len(source.skipped) - 6} more" if len(source.skipped) > 6 else ""
        terminal.say(f"note: files that were not read: {', '.join(path.name for path in source.skipped[:6])}{more}")


def _check_rows(found: Parameters) -> None:
    """Refuse rows that the tokenizer's template refuses, and a length that cuts their ends off.

    Where the tokenizer cannot be read here, `train` looks before its first step.
    """
    folder = hub_cache.find(found.model.name, found.model.revision)
    if folder is None or not folder.is_dir():
        return
    from ..data_doctor import before_training, every_row

    try:
        seen = before_training.check(found.data, folder, found.model.max_seq_length)
    except (before_training.Unreadable, MissingHere, ModuleNotFoundError) as error:
        terminal.say(f"note: rows were not tokenized here ({error}); train looks at them before it starts")
    except every_row.OutOfTime:
        terminal.say("note: there are too many rows to tokenize them now; train looks at them before it starts")
    else:
        for sentence in seen.remarks:
            terminal.say(f"warning: {sentence}")


def _check_memory(found: Parameters) -> None:
    """Refuse a plan that is known not to fit the machine it was made for, or this one when it has a GPU."""
    if found.plan is None:
        return
    need, planned = found.plan.predicted.peak_vram_gib, found.plan.hardware
    if need > planned.vram_gib:
        raise BadInput(
            f"plan/predicted/peak_vram_gib is {need:.1f} GiB, but {planned.name} has {planned.vram_gib:.1f} GiB",
            hint="plan again for this card, which finds settings that fit it",
        )
    here = detection.detect()
    if not here.is_cpu and need > here.vram_gib:
        raise MissingHere(
            f"the plan needs {need:.1f} GiB and {here.name} has {here.vram_gib:.1f} GiB",
            hint=f"plan for this card: {replan.for_this_machine(found)}",
        )
