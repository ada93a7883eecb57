"""Published models whose shapes are known without a network: a name, or a local config.json, to a ModelShape.

Standard library only; reads one JSON file. Every entry in `catalogue.json` says where it was read and when
(references/model-catalogue.md), and tests/models/test_catalogue.py holds its count equal to what Transformers builds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files
from ..core.errors import BadInput
from . import hub_cache
from .shape import ModelShape

CATALOGUE_FILE = Path(__file__).with_name("catalogue.json")
# Unsloth publishes copies of other organisations' models under its own name, with the same shapes.
MIRROR = "unsloth"
CLOSEST_NAMES = 3


class Entry(NamedTuple):
    """One published shape: its repository id, other ids with the same shape, its config's shape keys, its source.

    `read` is the date on which `source` was read (ISO 8601).
    """

    name: str
    aliases: tuple[str, ...]
    config: Mapping[str, Any]
    source: str
    read: str


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """Every entry, in the file's order."""
    models = files.read_json(CATALOGUE_FILE, "model catalogue")["models"]
    return tuple(Entry(**{**model, "aliases": tuple(model["aliases"])}) for model in models)


def names() -> list[str]:
    """The repository ids of all entries, in the file's order, without aliases."""
    return [entry.name for entry in entries()]


def find_entry(name: str) -> Entry:
    """The entry for a repository id, an alias, or either without its organisation; letter case does not matter.

    Raises BadInput that lists the closest names when there is none.
    """
    wanted = name.strip().lower()
    index = _index()
    found = index.get(wanted) or index.get(wanted.removeprefix(f"{MIRROR}/"))
    if found is None:
        raise BadInput(
            f'model "{name}" is not in the catalogue of {len(entries())} published shapes; '
            f"closest: {', '.join(_closest(wanted))}",
            hint="give --model one of these, a folder that holds the model's config.json, or that file itself",
        )
    return found[1]


def find(name: str) -> ModelShape:
    """The shape of a catalogue entry, under the entry's own name. Names and errors as for `find_entry`."""
    return _shape_of(find_entry(name).name)


@cache
def _shape_of(name: str) -> ModelShape:
    """Counted once: where nothing fits, the planner looks through the smaller models again for each other change."""
    return ModelShape.from_config(find_entry(name).config, name)


def published_name(model: str) -> str:
    """The repository id to load `model` by: `llama-3.1-8b` is meta-llama/Llama-3.1-8B; a path stays what it is."""
    if os.path.exists(os.path.expanduser(model)):
        return model
    found = _index().get(model.strip().lower())
    return model if found is None else found[0]


def load_shape(model: str) -> ModelShape:
    """The shape of `model`: a path to a config.json, a folder with one, a downloaded Hub name, or a catalogue name.

    A folder's weights are not looked at. A local path wins over a Hub name, and what was downloaded over the catalogue.
    Raises BadInput for a path without a readable config.json, an unknown name, or a config that cannot be counted.
    """
    path = Path(os.path.expanduser(model))
    if os.path.isfile(path):  # os.path takes a name too long for any file as one that is not there; Path raises
        return _from_file(path, model)
    if os.path.isfile(path / "config.json"):
        return _from_file(path / "config.json", model)
    if os.path.isdir(path) and not _is_known(model):
        raise BadInput(
            f"folder {model} holds no config.json; a model folder in Hugging Face format was expected",
            hint="name the folder that holds the model's config.json, or a catalogue name",
        )
    if _looks_like_path(model):
        raise BadInput(
            f"model path not found: {model}; a folder with config.json, or that file, was expected",
            hint="check the path, or give a catalogue name such as " + names()[0],
        )
    downloaded = hub_cache.snapshot(published_name(model))
    if downloaded is not None and os.path.isfile(downloaded / "config.json"):
        return _from_file(downloaded / "config.json", published_name(model))
    return find(model)


def as_table() -> str:
    """The catalogue as a Markdown table, as references/model-catalogue.md shows it."""
    rows = ["| model | family | parameters | in products per token |", "|---|---|---:|---:|"]
    for entry in entries():
        shape = ModelShape.from_config(entry.config, entry.name)
        counts = f"{shape.parameters:,} | {shape.matmul_parameters_per_token:,}"
        rows.append(f"| {entry.name} | {shape.model_type} | {counts} |")
    return "\n".join(rows) + "\n"


def _from_file(path: Path, name: str) -> ModelShape:
    return ModelShape.from_config(files.read_json(path, "model config"), name)


def _is_known(name: str) -> bool:
    return name.strip().lower() in _index()


def _looks_like_path(model: str) -> bool:
    # A repository id has at most one slash and never begins with a dot, a slash or a tilde.
    return model.startswith((".", "/", "~")) or model.endswith(".json") or model.count("/") > 1 or "\\" in model


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[str, Entry]]:
    """Lower-case full and short names to the repository id as it is spelt, and its entry.

    A short name keeps the first entry that claims it.
    """
    published = [(name, entry) for entry in entries() for name in (entry.name, *entry.aliases)]
    index: dict[str, tuple[str, Entry]] = {}
    for name, entry in published:
        index.setdefault(name.lower(), (name, entry))
    for name, entry in published:
        index.setdefault(name.lower().rsplit("/", 1)[-1], (name, entry))
    return index


def _closest(wanted: str) -> list[str]:
    # Imported here: only a wrong name needs it, and it costs a few milliseconds.
    from difflib import SequenceMatcher

    short = wanted.rsplit("/", 1)[-1]

    def likeness(name: str) -> float:
        return SequenceMatcher(None, short, name.lower().rsplit("/", 1)[-1]).ratio()

    return sorted(names(), key=lambda name: (-likeness(name), name))[:CLOSEST_NAMES]
