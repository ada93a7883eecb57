"""Checkpoints written byte by byte for the audit's tests, without the library under whose name they go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Stored = tuple[str, np.ndarray]
"""A safetensors type and the array whose bytes are stored."""


def bf16(values: np.ndarray) -> Stored:
    """Float values rounded to bfloat16, to nearest and to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return "BF16", ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def f32(values: np.ndarray) -> Stored:
    return "F32", np.ascontiguousarray(values, np.float32)


def f16(values: np.ndarray) -> Stored:
    return "F16", np.ascontiguousarray(values, np.float16)


def f64(values: np.ndarray) -> Stored:
    return "F64", np.ascontiguousarray(values, np.float64)


def write_file(path: Path, tensors: Mapping[str, Stored], *, order: list[str] | None = None) -> Path:
    """One safetensors file; `order` is the order of the tensors' bytes."""
    header, begin = {}, 0
    for name in order or list(tensors):
        dtype, array = tensors[name]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order or list(tensors):
            file.write(tensors[name][1].tobytes())
    return path


def write_folder(folder: Path, tensors: Mapping[str, Stored], *, config: dict | None = None, shards: int = 1) -> Path:
    """A checkpoint folder; with several shards the tensors are dealt out in turn and an index is written."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        write_file(folder / "model.safetensors", tensors)
        return folder
    weight_map = {}
    for number in range(shards):
        shard = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[number::shards]}
        write_file(folder / shard, part)
        weight_map |= dict.fromkeys(part, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
QUERY, UP, NORM = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"


def small_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a small untied model: 600 x 64 embedding and head, two matrices, a norm of ones.

    Float32 numbers that bfloat16 holds exactly, as those of a published bfloat16 model are.
    """
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        _, bits = bf16(random.normal(0, 0.02, shape))
        return (bits.astype(np.uint32) << 16).view(np.float32)

    return {
        EMBEDDING: normal(600, 64),
        QUERY: normal(64, 64),
        UP: normal(256, 64),
        NORM: np.ones(64, np.float32),
        HEAD: normal(600, 64),
    }


def step(values: np.ndarray, size: float, seed: int = 1) -> np.ndarray:
    """`values` after every one took a step of `size` up or down."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], values.shape)
    return (values.astype(np.float64) + size * signs).astype(np.float32)


def stored(weights: Mapping[str, np.ndarray], kind: Callable[[np.ndarray], Stored] = bf16) -> dict[str, Stored]:
    """`weights` as a checkpoint holds them."""
    return {name: kind(values) for name, values in weights.items()}
