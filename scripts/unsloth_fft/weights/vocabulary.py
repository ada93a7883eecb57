"""Whether a model has a row of its embedding for every token of its tokenizer, from the files of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput
from .checkpoint import open_checkpoint
from .naming import is_token_embedding

RESIZE = "resize the embedding first: model.resize_token_embeddings(len(tokenizer)), then save both"


def embedding_rows(folder: Path) -> int | None:
    """Rows of the token embedding, as the weights have them or else config.json; None where neither says."""
    try:
        tensors = open_checkpoint(folder).tensors
    except BadInput:  # weights that are not here yet, or not readable, are told of elsewhere
        tensors = {}
    for name, tensor in tensors.items():
        if is_token_embedding(name) and len(tensor.shape) == 2:
            return tensor.shape[0]
    config = _object(folder / "config.json")
    text = config.get("text_config")
    size = (text if isinstance(text, dict) else config).get("vocab_size")
    return size if type(size) is int and size > 0 else None


def unembedded(folder: Path) -> dict[int, str]:
    """The tokens of tokenizer.json, by id, for which the embedding in `folder` has no row."""
    tokenizer = _object(folder / "tokenizer.json")
    rows = embedding_rows(folder) if tokenizer else None
    if rows is None:
        return {}
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    found: dict[int, str] = {}
    if isinstance(vocabulary, dict):
        found = {number: text for text, number in vocabulary.items() if type(number) is int and number >= rows}
    elif isinstance(vocabulary, list):  # Unigram: (text, score) in the order of ids
        found = {number: str(entry[0]) for number, entry in enumerate(vocabulary) if number >= rows and entry}
    for entry in added if isinstance(added, list) else []:
        if isinstance(entry, dict) and type(entry.get("id")) is int and entry["id"] >= rows:
            found[entry["id"]] = str(entry.get("content"))
    return found


def refusal(tokens: dict[int, str], rows: int | None, where: str) -> BadInput:
    """The error for tokens beyond the embedding's rows; `where` says what uses them."""
    named = ", ".join(f"{number} ({text})" for number, text in sorted(tokens.items())[:3])
    more = f" and {len(tokens) - 3} more" if len(tokens) > 3 else ""
    return BadInput(f"{where}: token id {named}{more}, beyond the {rows} rows of the model's embedding", hint=RESIZE)


def _object(file: Path) -> dict[str, Any]:
    value = files.read_json(file, "model file") if file.is_file() else {}
    return value if isinstance(value, dict) else {}
