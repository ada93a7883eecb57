"""A session folder: one run's parameters, state, metrics, checkpoints and results.

Every file is replaced whole; `session.json` says how far the run came. A lock file keeps a second process out.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import files, locks, outputs, schema, staging_folders
from ..core.errors import BadInput
from ..core.shell_words import word
from ..settings import parameters as params
from ..settings.parameters import Parameters

SESSION_FILE = "session.json"
PARAMETERS_FILE = "params.json"
FORK_SECONDS = 1.0  # the longest that a process just forked may need to let go of what it inherited


@dataclass(frozen=True)
class Folder:
    """The paths inside a session folder."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / SESSION_FILE

    @property
    def parameters(self) -> Path:
        return self.root / PARAMETERS_FILE

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def correction(self) -> Path:
        """What float32 has beyond the bfloat16 weights in model/ (training/master.py); adamw_flash runs have it."""
        return self.root / "correction"

    @property
    def audit(self) -> Path:
        return self.root / "audit.json"

    @property
    def data_report(self) -> Path:
        return self.root / "data-report.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def loss_plot(self) -> Path:
        return self.root / "loss.png"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation.json"

    @property
    def tuning(self) -> Path:
        """How the learning rate was measured, where `tune` did that."""
        return self.root / "tuning.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"


@dataclass(frozen=True)
class DataRecord:
    path: str
    sha256: str | None
    format: str
    rows: int | None


@dataclass(frozen=True)
class ProcessRecord:
    pid: int
    host: str


@dataclass(frozen=True)
class Result:
    """What came of a completed run; losses in nats a token, memory in GiB, time in seconds."""

    train_loss: float | None
    eval_loss_before: float | None
    eval_loss_after: float | None
    eval_rows: int
    train_rows: int
    tokens: int
    supervised_tokens: int
    seconds: float
    tokens_per_second: float
    peak_gib: float | None
    model_step: int | None = None
    eval_loss_master: float | None = None
    eval_loss_bfloat16: float | None = None
    master_missing: str | None = None


@dataclass(frozen=True)
class Failure:
    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Session:
    """The contents of session.json."""

    state: str
    created: str
    updated: str
    params_sha256: str
    data: DataRecord
    base_model: str
    step: int = 0
    total_steps: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    process: ProcessRecord | None = None
    result: Result | None = None
    error: Failure | None = None
    schema_version: str = schema.SCHEMA_VERSION

    def changed(self, **changes: Any) -> Session:
        """A copy with `changes`, and `updated` set to now."""
        return dataclasses.replace(self, updated=now(), **changes)


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def save(folder: Folder, session: Session) -> None:
    """Write session.json, checked against its schema."""
    value = dataclasses.asdict(session)
    schema.check(value, "session", "the session state")
    files.write_json(folder.state, value)


def load(root: Path) -> tuple[Folder, Session, Parameters]:
    """Open a session folder.

    Raises BadInput when it is none, when a file in it is damaged, or when params.json was changed after init.
    """
    folder = Folder(root)
    with files.explained(root):
        found = root.is_dir()
    if not found:
        raise BadInput(
            f"session folder not found: {root}",
            hint="look where the run was started, for the folder named in `train FOLDER` (a rendered file's --output);"
            " a new session is made by init, from a parameters file",
        )
    if not folder.state.is_file():  # before its links, or the wrong folder would be walked through
        raise BadInput(f"{root} is not a session: it has no {SESSION_FILE}", hint="name a folder that init made")
    _refuse_links(folder)
    value = files.read_json(folder.state, "session state")
    schema.check(value, "session", f"session state {folder.state}")
    session = _from_json(value)
    parameters = params.load(folder.parameters)
    if digest(folder.parameters) != session.params_sha256:
        raise BadInput(
            f"{folder.parameters} was changed after init; this session no longer says what was run",
            hint="start a new session from the changed file: unsloth_fft_tool.py init --params"
            f" {word(folder.parameters)} --session {word(outputs.unused(root))}",
        )
    return folder, session, parameters


def _refuse_links(folder: Folder) -> None:
    """What a run reads and writes stays in its folder: a link in a session from elsewhere would lead it out."""
    own = {getattr(folder, name).name for name, kind in vars(Folder).items() if isinstance(kind, property)}
    outputs.refuse_links(folder.root, own)


def create(root: Path, parameters: Parameters, data: DataRecord) -> tuple[Folder, Session]:
    """Make a session folder whole or not at all. Raises BadInput when `root` already exists and is not empty."""
    require_new(root)
    place = Path(os.path.abspath(root))  # `new/..` and the like have no name to build on
    with files.folders_above(place), staging_folders.beside(place, "init") as staging:
        session = _written(Folder(staging), parameters, data)
        with files.explained(place):
            if place.is_dir():
                place.rmdir()
            staging.rename(place)
    return Folder(root), session


def _written(folder: Folder, parameters: Parameters, data: DataRecord) -> Session:
    files.write_json(folder.parameters, parameters.to_json())
    created = now()
    session = Session(
        state="initialized",
        created=created,
        updated=created,
        params_sha256=digest(folder.parameters),
        data=data,
        base_model=parameters.model.name,
    )
    save(folder, session)
    folder.lock.touch()  # here, so that a command that is refused later has nothing to make
    return session


def remove_leftovers(folder: Folder) -> None:
    """Remove the half-written files of killed processes. Only for the process that holds the session."""
    for path in folder.root.glob(".*.tmp"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def require_new(root: Path) -> None:
    """Raise BadInput when `root` holds anything already, or is a name that no folder can have."""
    with files.explained(root):
        taken = root.is_symlink() or root.exists()
    if taken and (root.is_symlink() or not root.is_dir() or any(root.iterdir())):
        raise BadInput(
            f"{root} already exists and is not empty; nothing was changed", hint="choose a new --session folder"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the session for this process. Raises BadInput when another process holds it.

    The lock ends with the process, so a killed run never leaves one behind. The processes it forks (`datasets` makes
    some) let go of it as they start.
    """
    try:
        with files.explained(folder.lock):
            held = locks.take(folder.lock, patience=FORK_SECONDS)
    except locks.HeldElsewhere:
        raise BadInput(
            f"another process is training in {folder.root}",
            hint=f"watch it with: unsloth_fft_tool.py status {word(folder.root)}",
        ) from None
    with held:
        yield


def this_process() -> ProcessRecord:
    """Who is training."""
    return ProcessRecord(pid=os.getpid(), host=socket.gethostname())


def is_held(folder: Folder) -> bool:
    """Whether some process holds the session's lock right now."""
    with files.explained(folder.lock):
        return locks.is_held(folder.lock)


def _from_json(value: dict[str, Any]) -> Session:
    nested: dict[str, Any] = {"data": DataRecord, "process": ProcessRecord, "result": Result, "error": Failure}
    known = {key: nested[key](**part) if key in nested and part is not None else part for key, part in value.items()}
    return Session(**known)
