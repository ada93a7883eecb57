"""What a data source names: one file, a folder of files, or a data set on the Hub. Nothing is opened here.

Standard library only, so that `init` can check a source at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import files
from ..core.errors import BadInput
from ..settings.parameters import Data
from .folders import JSON, READABLE, TABLES, TEXT, Files, files_in
from .opening import kind
from .row_format import Reader

__all__ = ["JSON", "READABLE", "TABLES", "TEXT", "Files", "Source", "files_of", "fingerprint", "sources_of"]

_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True)
class Source:
    """One source and how often its rows are used in a pass: 2.0 is each row twice, 0.5 a seeded half of them."""

    dataset: str
    weight: float = 1.0
    subset: str | None = None
    split: str = "train"
    columns: dict[str, str] | None = None

    def files(self) -> Files | None:
        """Its local files, None for a Hub name. Raises what files_of raises."""
        return files_of(self.dataset, self.subset, self.split)

    def reader(self, data: Data) -> Reader:
        """What reads its rows in order, as `data` says."""
        return Reader(data.format, data.columns if self.columns is None else self.columns, data.ignored_columns)


def sources_of(data: Data) -> list[Source]:
    """The sources `data` names, in order. Raises BadInput when there is none."""
    if data.sources:
        return [Source(**entry) for entry in data.sources]
    if data.dataset is None:
        raise BadInput(
            "data/dataset is null and data/sources is empty: there is nothing to train on",
            hint="set data.dataset in the parameters file, or generate the file with --dataset PATH",
        )
    return [Source(data.dataset)]


def files_of(dataset: str, subset: str | None = None, split: str = "train") -> Files | None:
    """The local files behind `dataset`, or None when it is a Hub name; `subset` and `split` choose within a folder.

    Raises BadInput when it is neither, when a file is of an unknown kind, or when a folder holds none to read.
    """
    path = files.expanded(dataset)
    try:
        if dataset and path.is_dir():
            return files_in(path, subset, split)
        if dataset and path.exists():
            return _one_file(path)
        if dataset and path.is_symlink():
            raise BadInput(f"{dataset} is a link to nothing that is here", hint="check where it leads")
    except OSError as error:
        raise BadInput(f"{dataset[:200]} cannot be opened: {error.strerror}", hint="check the path") from None
    if _HUB_NAME.fullmatch(dataset) and kind(path) not in READABLE:
        return None
    raise BadInput(f"data file not found: {dataset!r}", hint="check the path; a Hub data set is written OWNER/NAME")


def fingerprint(sources: Sequence[Source]) -> str | None:
    """SHA-256 over the local files of `sources`, None when all are on the Hub; of one file, the file's own."""
    digests = [_digest(path) for source in sources for path in _all_files(source)]
    if len(digests) > 1:
        return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()
    return digests[0] if digests else None


def _all_files(source: Source) -> tuple[Path, ...]:
    files = source.files()
    return () if files is None else (*files.train, *files.held_out)


def _one_file(path: Path) -> Files:
    if not path.is_file():
        raise BadInput(f"{path} is neither a file nor a folder", hint="name a data file")
    if kind(path) not in READABLE:
        raise BadInput(f"{path}: unknown kind of data file", hint=f"use one of: {', '.join(READABLE)}")
    return Files((path,))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"data file {path} cannot be read: {error.strerror}", hint="check its permissions") from None
