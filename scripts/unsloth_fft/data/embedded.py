"""Refuse rows whose tokens the model has no embedding for, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..settings.parameters import Data
from ..weights import vocabulary
from . import scanning, sources

_ALWAYS_USED = ("bos_token", "eos_token", "pad_token")


def require(data: Data, folder: Path) -> None:
    """Raise BadInput when `data` need a token for which the model in `folder` has no row.

    Looks at the rows' text, the chat template and the tokens that every row gets; the rows are read a second time only
    where the tokenizer has such tokens at all. What merging letters into tokens makes, training checks again.
    """
    missing = vocabulary.unembedded(folder)
    if not missing:
        return
    rows = vocabulary.embedding_rows(folder)
    for where, text in _fixed_texts(folder):
        used = {number: token for number, token in missing.items() if token in text}
        if used:
            raise vocabulary.refusal(used, rows, where)
    for source in sources.sources_of(data):
        found = sources.files_of(source.dataset)
        for row in scanning.scan((*found.train, *found.held_out), data.sample_by) if found else ():
            used = {
                number: token
                for text in _texts(row.value)
                for number, token in missing.items()
                if len(token) > 1 and token in text
            }
            if used:
                raise vocabulary.refusal(used, rows, scanning.place(row))


def _fixed_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """What stands in every row: the special tokens around it and the template's own words."""
    config_file, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    config = files.read_json(config_file, "tokenizer file") if config_file.is_file() else {}
    for role in _ALWAYS_USED:
        value = config.get(role)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            yield f"{role} of {config_file}", value
    if isinstance(config.get("chat_template"), str):
        yield f"chat_template of {config_file}", config["chat_template"]
    if template.is_file():
        yield str(template), template.read_text(encoding="utf-8")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
