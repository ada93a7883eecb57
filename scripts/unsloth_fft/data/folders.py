"""The data files in a folder: of a plain one, of one that `datasets` saved, of a clone of a Hub data set.

What is not read is kept by name, so that it can be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import json_text
from ..core.errors import BadInput
from . import hub_readme
from .opening import kind

JSON = (".jsonl", ".ndjson", ".json")
TABLES = (".csv", ".tsv")
ARROW = (".parquet", ".arrow")
TEXT = (".txt", ".md")
READABLE = (*JSON, *TABLES, *ARROW, *TEXT)
# Names that `datasets` takes for held-out parts (Hugging Face, "Structure your repository", read 2026-11-23), and
# those that say so.
_HELD_OUT = re.compile(
    r"(^|[^a-z])(test|testing|eval|evaluation|dev|valid|validation|val|held[-_ ]?out|hold[-_ ]?out)([^a-z]|$)",
    re.IGNORECASE,
)
# Files about data or models, which hold no rows.
_ABOUT = (
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json", "config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"),
)
_SAVED, _SAVED_SPLITS = (
    "state.json",
    "dataset_dict.json",
)  # what Dataset.save_to_disk and DatasetDict.save_to_disk write


@dataclass(frozen=True)
class Files:
    """Local files of one source, sorted; `held_out` are set apart by name, `skipped` are not read."""

    train: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that is read."""
        return (*self.train, *self.held_out)


def files_in(path: Path, subset: str | None, split: str) -> Files:
    """The files of the folder `path`. Raises BadInput where it holds none, or does not say which are meant."""
    there = sorted(entry for entry in path.rglob("*") if entry.is_file() and not _is_hidden(entry.relative_to(path)))
    parts = _saved_parts(path) or _declared_parts(path, subset, there) or _parts_by_name(path, there)
    _refuse_outside([*there, *(file for part in parts.values() for file in part)], path)
    return _chosen(path, there, parts, split)


def _chosen(path: Path, there: list[Path], parts: dict[str, list[Path]], split: str) -> Files:
    """Files of the part called `split`, with those of held-out parts beside."""
    held_out = [name for name in parts if name != split and _HELD_OUT.search(name)]
    others = [name for name in parts if name not in held_out]
    wanted = split if split in others else others[0] if len(others) == 1 and split == "train" else None
    if wanted is None and others:
        raise BadInput(
            f"{path} has the parts {', '.join(others[:8])}, and none is called {split}",
            hint=f'name one: data.sources [{{"dataset": "{path}", "split": "{others[0]}"}}], or its files',
        )
    train = tuple(parts[wanted]) if wanted else ()
    if not train:
        raise BadInput(f"{path} holds no data to train on", hint=f"put files there: {', '.join(READABLE)}")
    apart = tuple(sorted({file for name in held_out for file in parts[name]}))
    taken = {*train, *apart}
    return Files(train, apart, tuple(entry for entry in there if entry not in taken))


def _parts_by_name(path: Path, there: list[Path]) -> dict[str, list[Path]]:
    """Rows by their file's name: what is called test, validation ... is held out. Text beside rows is about them."""
    rows = [entry for entry in there if kind(entry) in READABLE and not _is_about(entry)]
    if any(kind(entry) not in TEXT for entry in rows):
        rows = [entry for entry in rows if kind(entry) not in TEXT]
    parts: dict[str, list[Path]] = {"train": [], "test": []}
    for entry in rows:
        inside = entry.relative_to(path)
        names = (*inside.parent.parts, inside.name.removesuffix("".join(inside.suffixes[-2:])))
        parts["test" if any(map(_HELD_OUT.search, names)) else "train"].append(entry)
    return parts


def _is_about(entry: Path) -> bool:
    name = entry.name.lower()
    return name in _ABOUT or entry.stem.lower() in ("readme", "license") or name.startswith("cache-")


def _saved_parts(path: Path) -> dict[str, list[Path]]:
    """The Arrow files of a folder that `datasets` saved, by split; empty for another folder."""
    if (path / _SAVED_SPLITS).is_file():
        return {str(name): _saved_files(path / str(name)) for name in _list_in(path / _SAVED_SPLITS, "splits")}
    return {"train": _saved_files(path)} if (path / _SAVED).is_file() and any(path.glob("*.arrow")) else {}


def _saved_files(path: Path) -> list[Path]:
    listed = _list_in(path / _SAVED, "_data_files")
    found = [path / str(entry["filename"]) for entry in listed if isinstance(entry, dict) and "filename" in entry]
    missing = [file.name for file in found if not file.is_file()]
    if not found or missing:
        raise BadInput(
            f"{path} was saved by datasets, and lacks {', '.join(missing) or _SAVED}", hint="save the data set again"
        )
    return found


def _list_in(path: Path, key: str) -> list[Any]:
    """The list under `key` of the JSON object in a file; empty where there is none."""
    try:
        value = json_text.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _declared_parts(path: Path, subset: str | None, there: list[Path]) -> dict[str, list[Path]]:
    """The parts that a Hub data set's README.md declares (`configs`), of the subset that is meant; empty without."""
    declared = hub_readme.subsets(path / "README.md")
    if not declared:
        return {}
    marked = [name for name, one in declared.items() if one.is_default]
    name = subset or next(iter(marked or (declared if len(declared) == 1 else ())), "default")
    if name not in declared:
        unknown = f"no {name}" if subset else "none is named"
        raise BadInput(
            f"{path} has the subsets {', '.join(sorted(declared)[:12])}, and {unknown}",
            hint=f'name one: data.sources [{{"dataset": "{path}", "subset": "{sorted(declared)[0]}"}}], or its files',
        )
    meant = declared[name]
    folder = path / meant.folder
    if not folder.resolve().is_relative_to(path.resolve()):
        raise BadInput(f"{path}/README.md names a folder outside ({meant.folder})", hint="name the files themselves")
    if not meant.patterns:
        return _parts_by_name(folder, [entry for entry in there if entry.is_relative_to(folder)])
    try:
        return {split: _matching(path, folder, split, patterns) for split, patterns in meant.patterns.items()}
    except (ValueError, IndexError, NotImplementedError) as error:  # how pathlib refuses a pattern
        raise BadInput(
            f"{path}/README.md names files by a pattern that is none: {error}", hint="mend its configs"
        ) from None


def _matching(path: Path, folder: Path, split: str, patterns: Iterable[str]) -> list[Path]:
    found = {
        entry
        for pattern in patterns
        if pattern and not pattern.startswith("/") and "://" not in pattern
        for entry in folder.glob(pattern)
        if entry.is_file() and kind(entry) in READABLE
    }
    if not found:
        raise BadInput(
            f"{path}/README.md declares {', '.join(patterns)} as the split {split}, and no data file there matches",
            hint="download it whole (hf download OWNER/NAME --repo-type dataset), or name the files themselves",
        )
    return sorted(found)


def _refuse_outside(found: list[Path], path: Path) -> None:
    """A folder from elsewhere leads to no other file: by no link, and by no name that its own files give."""
    root = path.resolve()
    for entry in found:
        if kind(entry) in READABLE and not entry.resolve().is_relative_to(root):
            raise BadInput(
                f"{entry} leads to a file outside of {path}", hint="copy the file into the folder, or name it itself"
            )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
