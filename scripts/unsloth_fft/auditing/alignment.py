"""Which tensor of one checkpoint is which of the other: tied heads, resized vocabularies, what is missing or extra."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..weights.checkpoint import Checkpoint, Tensor
from ..weights.naming import group_of, is_buffer
from .compare import Pair, same_values


@dataclass(frozen=True)
class ExtraRows:
    """A vocabulary that was resized: only the rows both sides have were compared."""

    name: str
    base_rows: int
    trained_rows: int


@dataclass(frozen=True)
class Mismatch:
    """Two tensors of one name that cannot be compared; `reason` says why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Alignment:
    """The pairs to compare, and everything that has no counterpart."""

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    extra_rows: tuple[ExtraRows, ...]
    tied_head: bool


def align(base: Checkpoint, trained: Checkpoint) -> Alignment:
    """Match the tensors of two checkpoints by name, a head tied to its embedding counted once."""
    old, new, tied = _with_heads(base, trained)
    pairs, mismatched, rows = [], [], []
    for name in sorted(old.keys() & new.keys()):
        problem = _problem(old[name], new[name])
        if problem:
            mismatched.append(Mismatch(name, problem))
            continue
        pairs.append(_pair(name, old[name], new[name]))
        if old[name].shape != new[name].shape:
            rows.append(ExtraRows(name, old[name].shape[0], new[name].shape[0]))
    return Alignment(
        tuple(pairs),
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(new.keys() - old.keys())),
        tuple(mismatched),
        tuple(rows),
        tied,
    )


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in checkpoint.tensors.items() if not is_buffer(name)}


def _with_heads(base: Checkpoint, trained: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """Both sides' tensors with the head dropped where it is tied on both, and filled in where it is on one."""
    old, new = _weights(base), _weights(trained)
    head = next((name for name in {**old, **new} if _is(name, "head")), None)
    if head is None:
        return old, new, _tie_of(base) is True or _tie_of(trained) is True
    old_tied, new_tied = _head_is_tied(base, old, head), _head_is_tied(trained, new, head)
    if old_tied is not False and new_tied is not False:
        old.pop(head, None)
        new.pop(head, None)
        return old, new, True
    if old_tied:
        old[head] = _embedding(old)
    if new_tied:
        new[head] = _embedding(new)
    return old, new, False


def _head_is_tied(checkpoint: Checkpoint, tensors: dict[str, Tensor], head: str) -> bool | None:
    """Whether the embedding serves as the head; None where the head is not written and config.json does not say.

    A head that is written is tied when it holds the embedding's bytes, whatever config.json says.
    """
    if not any(_is(name, "embeddings") for name in tensors):
        return False
    if head not in tensors:
        return _tie_of(checkpoint)
    return same_values(_embedding(tensors), tensors[head])


def _embedding(tensors: dict[str, Tensor]) -> Tensor:
    return next(tensor for name, tensor in tensors.items() if _is(name, "embeddings"))


def _is(name: str, group: str) -> bool:
    positions = ("wpe.weight", "embed_positions.weight")
    return group_of(name) == group and name.endswith(".weight") and not name.endswith(positions)


def _tie_of(checkpoint: Checkpoint) -> bool | None:
    """`tie_word_embeddings`, at the top of config.json or in the text part of a multi-modal one."""
    for config in (checkpoint.config, checkpoint.config.get("text_config")):
        if isinstance(config, dict) and isinstance(config.get("tie_word_embeddings"), bool):
            return bool(config["tie_word_embeddings"])
    return None


def _problem(old: Tensor, new: Tensor) -> str | None:
    if old.is_weight != new.is_weight or (not old.is_weight and old.dtype != new.dtype):
        return f"type {old.dtype} against {new.dtype}"
    if old.shape == new.shape:
        return None
    resized = group_of(old.name) in ("embeddings", "head") and old.shape[1:] == new.shape[1:] and old.shape
    return None if resized else f"shape {list(old.shape)} against {list(new.shape)}"


def _pair(name: str, old: Tensor, new: Tensor) -> Pair:
    rows = min(old.shape[0], new.shape[0]) if old.shape else 1
    row_length = math.prod(old.shape[1:])
    count_rows = len(old.shape) >= 2 and row_length > 0 and group_of(name) in ("embeddings", "head")
    return Pair(name, old, new, rows * row_length, row_length, count_rows)
