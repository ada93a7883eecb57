"""Which tensor of one checkpoint is which of the other: prefixes, tied heads, resized tables, what has none."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from ..weights.checkpoint import Checkpoint, Tensor
from ..weights.naming import (
    group_of,
    holds_experts_in_turn,
    is_buffer,
    is_token_embedding,
    kind_of,
    layer_of,
    plain_name,
)
from .compare import Pair, same_values

MOST_EXPERTS: Final = 2048
"""A first dimension beyond this counts something else (models of 2026 have up to 512 experts a layer)."""


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
class Prefix:
    """So many tensors whose names begin with `base` on one side, and with `trained` on the other."""

    base: str
    trained: str
    tensors: int


@dataclass(frozen=True)
class Alignment:
    """The pairs to compare, by the base's names, and everything that has no counterpart.

    `unloaded` are tensors of the base that transformers does not load, and so nobody trains or saves: further
    prediction layers.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    extra_rows: tuple[ExtraRows, ...]
    tied_head: bool
    prefixes: tuple[Prefix, ...] = ()
    unloaded: tuple[str, ...] = ()


def align(base: Checkpoint, trained: Checkpoint) -> Alignment:
    """Match the tensors of two checkpoints by name, prefixes apart, a head tied to its embedding counted once."""
    renamed, prefixes = _under_names_of(base, trained)
    old, new, tied = _with_heads(base, renamed)
    pairs, mismatched, rows = [], [], []
    layers = _layers_of(base) or 1
    for name in sorted(old.keys() & new.keys()):
        problem = _problem(old[name], new[name])
        if problem:
            mismatched.append(Mismatch(name, problem))
            continue
        pairs.append(_pair(name, old[name], new[name], layers))
        if old[name].shape != new[name].shape:
            rows.append(ExtraRows(name, old[name].shape[0], new[name].shape[0]))
    missing = sorted(old.keys() - new.keys())
    unloaded = [name for name in missing if _is_further_prediction(name, base)]
    return Alignment(
        tuple(pairs),
        tuple(name for name in missing if name not in unloaded),
        tuple(sorted(new.keys() - old.keys())),
        tuple(mismatched),
        tuple(rows),
        tied,
        prefixes,
        tuple(unloaded),
    )


# --- names ---


def _under_names_of(base: Checkpoint, trained: Checkpoint) -> tuple[Checkpoint, tuple[Prefix, ...]]:
    """`trained` with the base's names for tensors whose names differ in a prefix alone, and those prefixes."""
    known = _by_plain_name(base.tensors.keys() - trained.tensors.keys())
    found = _by_plain_name(trained.tensors.keys() - base.tensors.keys())
    names = {found[plain]: known[plain] for plain in found.keys() & known.keys()}
    if not names:
        return trained, ()
    tensors = {names.get(name, name): tensor for name, tensor in trained.tensors.items()}
    prefixes = Counter(_prefixes(old, new) for new, old in names.items())
    return replace(trained, tensors=tensors), tuple(Prefix(*pair, count) for pair, count in sorted(prefixes.items()))


def _by_plain_name(names: set[str]) -> dict[str, str]:
    """Names by their plain names, those left out that share one."""
    plain = {name: plain_name(name) for name in names}
    times = Counter(plain.values())
    return {short: name for name, short in plain.items() if times[short] == 1}


def _prefixes(old: str, new: str) -> tuple[str, str]:
    """What differs at the front of two names, whole parts of them."""
    left, right = old.split("."), new.split(".")
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return kind_of("".join(f"{part}." for part in left)), kind_of("".join(f"{part}." for part in right))


def _is_further_prediction(name: str, base: Checkpoint) -> bool:
    """Whether `name` is a layer for predicting more tokens at once, which transformers' decoders do not have.

    They pass over `mtp.` and over layers beyond the count in config.json (`_keys_to_ignore_on_load_unexpected` of
    Qwen3-Next, DeepSeek-V3 and GLM-4-MoE in transformers 5.17).
    """
    plain, layers, layer = plain_name(name), _layers_of(base), layer_of(name)
    beyond = layers is not None and layer is not None and layer >= layers and plain.startswith("layers.")
    return plain.startswith("mtp.") or beyond


def _layers_of(base: Checkpoint) -> int | None:
    """The decoder layers that config.json counts, in its text part where it has one."""
    text = base.config.get("text_config")
    layers = (text if isinstance(text, dict) else base.config).get("num_hidden_layers")
    return layers if type(layers) is int and layers > 0 else None


# --- heads and shapes ---


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in checkpoint.tensors.items() if not is_buffer(name)}


def _with_heads(base: Checkpoint, trained: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """Both sides' tensors with the head dropped where it is tied on both, and filled in where it is on one."""
    old, new = _weights(base), _weights(trained)
    head = next((name for name in {**old, **new} if _is_head(name)), None)
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
    if not any(is_token_embedding(name) for name in tensors):
        return False
    if head not in tensors:
        return _tie_of(checkpoint)
    return same_values(_embedding(tensors), tensors[head])


def _embedding(tensors: dict[str, Tensor]) -> Tensor:
    return next(tensor for name, tensor in tensors.items() if is_token_embedding(name))


def _is_head(name: str) -> bool:
    return group_of(name) == "head" and name.endswith(".weight")


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
    tables = old.shape and new.shape and group_of(old.name) in ("embeddings", "head")
    resized = tables and old.shape[1:] == new.shape[1:]
    return None if resized else f"shape {list(old.shape)} against {list(new.shape)}"


def _pair(name: str, old: Tensor, new: Tensor, layers: int) -> Pair:
    rows = min(old.shape[0], new.shape[0]) if old.shape else 1
    row_length = math.prod(old.shape[1:])
    table = len(old.shape) == 2 and row_length > 0 and group_of(name) in ("embeddings", "head")
    parts = rows if old.shape and rows * row_length > 0 and rows <= MOST_EXPERTS and holds_experts_in_turn(name) else 0
    elements = rows * row_length
    if table and "per_layer" in name and row_length % layers == 0:
        # Gemma 3n and 4 keep a row for each layer side by side, and a token may have a gradient in some layers alone.
        row_length //= layers
    return Pair(name, old, new, elements, row_length, table, parts)
