"""The language model inside a multimodal checkpoint: taken out to be trained alone, and put back beside its towers.

Standard library only. Towers, projectors and whatever else stands outside the language model (multi-token prediction
heads, for one) are never loaded for training; write_back copies them byte for byte, so that they cannot change.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput
from ..models.config import stored_dtype, text_part
from ..models.families import TEXT_TYPE_OF_WRAPPER
from .checkpoint import INDEX_FILE, PICKLE_SUFFIXES, Checkpoint, Tensor, open_checkpoint

# How checkpoints name the language model's tensors, and how the language model alone names them: as published for
# Gemma 3 and Mistral Small 3.1, and as transformers 5 saves them (conversion_mapping.py, 5.17.0).
TEXT_PREFIXES = (
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("lm_head.", "lm_head."),
)
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Parted:
    """A multimodal checkpoint's tensors: the language model's by the names it has alone, the others by their own."""

    text: dict[str, Tensor]
    kept: dict[str, Tensor]

    @property
    def kept_elements(self) -> int:
        return sum(tensor.elements for tensor in self.kept.values())


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """Whether a config.json wraps a language model together with something else."""
    return isinstance(config.get("text_config"), Mapping)


def text_name(name: str) -> str | None:
    """What the language model alone calls the checkpoint's tensor `name`; None for a tensor that is not its own."""
    for prefix, alone in TEXT_PREFIXES:
        if name.startswith(prefix):
            return alone + name.removeprefix(prefix)
    return None


def part(checkpoint: Checkpoint) -> Parted:
    """Tell the language model's tensors from the others. Raises BadInput where there are none of its own."""
    named = {name: text_name(name) for name in checkpoint.tensors}
    text = {alone: checkpoint.tensors[name] for name, alone in named.items() if alone is not None}
    if EMBEDDING not in text:
        raise BadInput(
            f"{checkpoint.path}: config.json wraps a language model, and no tensor is named model.language_model.* or"
            " language_model.model.*",
            hint="use the checkpoint as it was published, or save the language model alone and train that",
        )
    return Parted(text, {name: checkpoint.tensors[name] for name, alone in named.items() if alone is None})


def outside_text(checkpoint: Checkpoint) -> frozenset[str]:
    """Names of a multimodal checkpoint's tensors that are no part of its language model; none for other checkpoints."""
    if not is_multimodal(checkpoint.config):
        return frozenset()
    return frozenset(name for name in checkpoint.tensors if text_name(name) is None)


def text_config(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The config.json of the language model alone; special tokens are the wrapper's where it does not say."""
    values, _ = text_part(config, name)
    values["model_type"] = TEXT_TYPE_OF_WRAPPER.get(values["model_type"], values["model_type"])
    for key in ("rope_scaling", "rope_parameters"):  # positions in a picture, which text does not have
        if isinstance(values.get(key), Mapping) and values["model_type"] == "qwen3":
            values[key] = {name: value for name, value in values[key].items() if not name.startswith("mrope")}
    for key in TOKENS:
        if values.get(key) is None and config.get(key) is not None:
            values[key] = config[key]
    return values


def write_text_model(base: Path, to: Path) -> Parted:
    """Write the language model of the checkpoint `base` into the new folder `to`, with the tokenizer's files."""
    checkpoint = open_checkpoint(base)
    parted = part(checkpoint)
    with files.explained(to):
        to.mkdir(parents=True)
    config = text_config(checkpoint.config, str(base))
    if HEAD not in parted.text:
        config["tie_word_embeddings"] = True  # else transformers would make a head of random weights
    files.write_json(to / "config.json", config)
    _copy_others(checkpoint, to, without=("config.json", "preprocessor_config.json", "processor_config.json"))
    _template_from_processor(to)
    _write_weights(checkpoint, {tensor.name: (alone, tensor) for alone, tensor in parted.text.items()}, to)
    return parted


def write_back(base: Path, trained: Path, to: Path) -> None:
    """Write the checkpoint `base` into the new folder `to` with the language model of the folder `trained` in place.

    Layout, names and all other files are the base's. Raises BadInput, with nothing written, where `trained` lacks a
    tensor or has another shape.
    """
    checkpoint, now = open_checkpoint(base), open_checkpoint(trained)
    taken = {tensor.name: _trained(now, alone, tensor) for alone, tensor in part(checkpoint).text.items()}
    with files.explained(to):
        to.mkdir(parents=True)
    _copy_others(checkpoint, to, without=("config.json",))
    kept = {name: (name, tensor) for name, tensor in checkpoint.tensors.items()}
    _write_weights(checkpoint, kept | {name: (name, tensor) for name, tensor in taken.items()}, to)
    files.write_json(to / "config.json", with_dtype(checkpoint.config, stored_dtype(now.config)))


def _trained(now: Checkpoint, alone: str, before: Tensor) -> Tensor:
    """The trained tensor for one of the base's; a tied head is stored as the embedding."""
    found = now.tensors.get(alone) or (now.tensors.get(EMBEDDING) if alone == HEAD else None)
    if found is None or found.shape != before.shape:
        seen = "missing" if found is None else f"of shape {list(found.shape)}, not {list(before.shape)}"
        raise BadInput(
            f"{now.path}: the trained {alone} is {seen}, so it cannot take the place of {before.name}",
            hint="use the base checkpoint that was trained",
        )
    return found


def with_dtype(config: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    """`config` with the type that its weights are stored in now, wherever it names one."""
    found = {**config, "text_config": dict(config["text_config"])}
    for level in (found, found["text_config"]):
        for key in ("dtype", "torch_dtype"):
            if dtype is not None and level.get(key) is not None:
                level[key] = dtype
    return found


def _copy_others(checkpoint: Checkpoint, to: Path, *, without: tuple[str, ...]) -> None:
    """Every plain file of the checkpoint's folder that holds no weights."""
    with files.explained(to):
        for path in sorted(checkpoint.path.iterdir()):
            weights = path.suffix in (*PICKLE_SUFFIXES, ".safetensors", ".gguf") or path.name.endswith(".index.json")
            if path.is_file() and not weights and path.name not in without:
                shutil.copyfile(path, to / path.name)


def _template_from_processor(folder: Path) -> None:
    """Processors keep their template in a JSON file of its own, where a tokenizer does not look for it."""
    source, target = folder / "chat_template.json", folder / "chat_template.jinja"
    if source.is_file() and not target.exists():
        value = files.read_json(source, "chat template")
        if isinstance(value, dict) and isinstance(value.get("chat_template"), str):
            files.write_text(target, value["chat_template"])


def _write_weights(checkpoint: Checkpoint, chosen: Mapping[str, tuple[str, Tensor]], to: Path) -> None:
    """Write `chosen` (the checkpoint's name to the new name and where its bytes lie) in the checkpoint's own shards."""
    shards: dict[str, dict[str, Tensor]] = {}
    for name, (new, tensor) in chosen.items():
        shards.setdefault(checkpoint.tensors[name].file.name, {})[new] = tensor
    for file, tensors in shards.items():
        _write_shard(to / ("model.safetensors" if len(shards) == 1 else file), tensors)
    if len(shards) > 1:
        weight_map = {new: file for file, tensors in sorted(shards.items()) for new in tensors}
        total = sum(tensor.bytes for tensors in shards.values() for tensor in tensors.values())
        files.write_json(to / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end + tensor.bytes]}
        end += tensor.bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with files.explained(path), path.open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            _copy_bytes(tensor, target)


def _copy_bytes(tensor: Tensor, target: Any) -> None:
    left = tensor.bytes
    with tensor.file.open("rb") as source:
        source.seek(tensor.start)
        while left:
            block = source.read(min(BLOCK_BYTES, left))
            if not block:
                raise BadInput(f"{tensor.file} ends before its tensor {tensor.name} does", hint="download it again")
            target.write(block)
            left -= len(block)
