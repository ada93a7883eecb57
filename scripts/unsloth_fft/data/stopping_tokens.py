"""The tokens at which a model that learned a chat template's answers stops, in the file that generation reads.

A base model's own end of sequence is often another token than the one that its chat template ends a turn with
(<|endoftext|> and <|im_end|>, <eos> and <end_of_turn>): trained on conversations it says the second, and whoever
generates waits for the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core import files

_TURNS = [{"role": "user", "content": "userprobe7q2"}, {"role": "assistant", "content": "answerprobe4z9"}]
_FILE = "generation_config.json"


def end_of_turn(tokenizer: Any) -> str | None:
    """The token that the chat template writes right after the last answer; None where it writes none there."""
    if tokenizer.chat_template is None:
        return None
    try:
        text = str(tokenizer.apply_chat_template(_TURNS, tokenize=False))
    except Exception:  # a template may raise anything, and may take no plain question and answer
        return None
    _, answer, rest = text.rpartition(_TURNS[1]["content"])
    added = sorted((str(token) for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    return next((token for token in added if answer and rest.lstrip().startswith(token)), None)


def of(tokenizer: Any) -> list[str]:
    """The tokenizer's end of sequence, and its template's end of a turn where that is another."""
    found = [token for token in (tokenizer.eos_token, end_of_turn(tokenizer)) if token]
    return list(dict.fromkeys(found))


def complete(folder: Path, tokenizer: Any) -> None:
    """Add the tokens of `tokenizer` to those at which the model saved in `folder` stops; what it has stays first."""
    value = _object(folder / _FILE)
    known = value.get("eos_token_id", _object(folder / "config.json").get("eos_token_id"))
    known = [] if known is None else known if isinstance(known, list) else [known]
    wanted = list(dict.fromkeys([*known, *tokenizer.convert_tokens_to_ids(of(tokenizer))]))
    if wanted != known:
        files.write_json(folder / _FILE, {**value, "eos_token_id": wanted if len(wanted) > 1 else wanted[0]})


def _object(path: Path) -> dict[str, Any]:
    value = files.read_json(path, "model file") if path.is_file() else {}
    return value if isinstance(value, dict) else {}
