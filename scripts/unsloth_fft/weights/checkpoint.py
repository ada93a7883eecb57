"""A safetensors checkpoint on disk: which tensors it holds and where their bytes lie, without reading the weights.

Format: https://github.com/huggingface/safetensors (README, section "Format", read 2026-11-23): eight bytes that give
the header's length, a JSON header, then the tensors' bytes without holes. A checkpoint is one such file, or several
with `model.safetensors.index.json` naming the file of each tensor. Pickle files are refused, never opened as such.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..core import files, json_text
from ..core.errors import BadInput
from ..core.shell_words import word
from ..models import hub_cache

ITEM_BYTES: Final = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes an element, by the name safetensors gives the type."""

WEIGHT_DTYPES: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

MAX_HEADER_BYTES: Final = 100_000_000
"""The limit of the safetensors library itself (safetensors/src/tensor.rs, MAX_HEADER_SIZE, read 2026-11-23)."""

WHOLE_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"
MAX_DIMENSIONS: Final = 64
"""More than the tensors of any model have; beyond it a header is damaged."""

PICKLE_SUFFIXES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PICKLE_STARTS: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@dataclass(frozen=True)
class Tensor:
    """One tensor and where its bytes lie: `file[start:start + bytes]`, little-endian, last dimension contiguous."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]

    @property
    def is_weight(self) -> bool:
        return self.dtype in WEIGHT_DTYPES


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its tensors by name, and config.json (empty where there is none).

    `remarks` are sentences on the folder: which files of weights in it were not read, and why.
    """

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    remarks: tuple[str, ...] = ()


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the headers of the checkpoint at `path`: a folder, a Hub cache folder, an index or a safetensors file.

    Of a folder, what loaders load: `model.safetensors` before an index (transformers 5.17, modeling_utils.py,
    `_get_resolved_checkpoint_files`), unless config.json names another file as `transformers_weights`.
    Raises BadInput naming the file when it is missing, a pickle, truncated or malformed.
    """
    place = resolved(path)
    tensors: dict[str, Tensor] = {}
    config = _config(place if place.is_dir() else place.parent)
    shards = _shards(place, config)
    for file, expected in shards:
        found = {tensor.name: tensor for tensor in read_header(file)}
        _refuse_duplicates(tensors, found, file)
        if expected is not None:
            _check_index(found, expected, file)
        tensors.update(found)
    if not tensors:
        raise BadInput(f"{path} holds no tensors", hint="name a folder with model.safetensors")
    return Checkpoint(place, tensors, config, tuple(_remarks(place, [file for file, _ in shards])))


def locate(name: str, revision: str | None = None) -> Path:
    """The folder of a model given as a path, or as a Hub name that is already in the local Hub cache.

    Raises BadInput when it is neither; nothing is downloaded.
    """
    found = hub_cache.find(name, revision) or hub_cache.repository(name)
    if found is not None:
        return found
    if name.count("/") <= 1 and not name.startswith((".", "/", "~")):
        raise BadInput(
            f"no folder '{name}', and no model of that name in the Hub cache {hub_cache.root()}",
            hint=f"hf download {word(name)}",
        )
    raise BadInput(f"checkpoint not found: {name}", hint="name a folder with model.safetensors, or a downloaded model")


def read_header(file: Path) -> list[Tensor]:
    """The tensors of one safetensors file in the order of their bytes. Raises BadInput unless it is well formed."""
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):  # to open a pipe would wait for ever
            raise BadInput(
                f"{file} is no file of weights but a folder, a device or a pipe", hint="copy the file itself"
            )
        size = about.st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            _refuse_pickle(file, start)
            length = int.from_bytes(start, "little")
            _check_header_length(file, length, size)
            header = stream.read(length)
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}", hint="check the path and its permissions") from None
    entries = _parsed(file, header)
    tensors = [_tensor(file, name, entry, 8 + length) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    _check_layout(file, tensors, 8 + length, size)
    return tensors


# --- finding the files ---


def resolved(path: Path) -> Path:
    """`path`, or inside a Hub cache folder the snapshot that its main branch points to."""
    if not os.path.exists(path):
        raise BadInput(f"checkpoint not found: {path}", hint="name a folder with model.safetensors")
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    main = path / "refs" / "main"
    if main.is_file():  # a name of one folder: anything else would lead out of the cache
        named = snapshots / files.read_text(main, "branch of the Hub cache").strip()
        if named.parent == snapshots and named.is_dir():
            return named
    found = sorted(folder for folder in snapshots.iterdir() if folder.is_dir())
    if len(found) != 1:
        raise BadInput(
            f"{path} holds {len(found)} snapshots and no refs/main that names one of them",
            hint=f"name one of the folders in {snapshots}",
        )
    return found[0]


def _shards(place: Path, config: dict[str, Any]) -> list[tuple[Path, set[str] | None]]:
    """The files to read, each with the tensor names an index promises in it (None without an index)."""
    if place.is_file():
        if place.name.endswith(".index.json"):
            return _indexed(place)
        _refuse_pickle_name(place)
        return [(place, None)]
    named = config.get("transformers_weights")
    for name in (named, WHOLE_FILE, INDEX_FILE):
        if isinstance(name, str) and Path(name).name == name and (place / name).is_file():
            return _shards(place / name, config)
    if (place / "adapter_config.json").is_file():
        raise BadInput(
            f"{place} holds a LoRA adapter, not full weights",
            hint="merge the adapter into its base model first, or audit a fully fine-tuned model",
        )
    if not place.is_dir():
        raise BadInput(f"{place} is neither a file nor a folder", hint="name a folder with model.safetensors")
    found = sorted(place.glob("*.safetensors"))
    if found:
        return [(file, None) for file in found]
    for file in sorted(place.iterdir()):
        _refuse_pickle_name(file)
    raise BadInput(f"no safetensors file in {place}", hint="name a folder with model.safetensors")


def _remarks(place: Path, read: list[Path]) -> Iterator[str]:
    """A word on every file of weights in a folder that its loaders pass over."""
    if not place.is_dir():
        return
    index, names = place / INDEX_FILE, {file.name for file in read}
    others = sorted(file.name for file in place.glob("*.safetensors") if file.name not in names)
    if not index.is_file() and not (place / WHOLE_FILE).is_file():
        yield (
            f"{place} has neither {WHOLE_FILE} nor {INDEX_FILE}: transformers does not load it;"
            f" every safetensors file in it was read"
        )
    elif index.is_file() and names == {WHOLE_FILE} and others:
        yield (
            f"{place} holds two sets of weights: {WHOLE_FILE} was read, as transformers does, and {INDEX_FILE} with"
            f" {_listed(others)} was not; other loaders may take that one: delete the set that is not meant"
        )
    elif others:
        yield f"{place}: {_listed(others)} was not read; transformers passes over it, too"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _indexed(index: Path) -> list[tuple[Path, set[str] | None]]:
    weight_map = files.read_json(index, "shard index")
    weight_map = weight_map.get("weight_map") if isinstance(weight_map, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise BadInput(f"shard index {index} has no 'weight_map' of tensor names to file names", hint="save it again")
    shards: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        shards.setdefault(shard, set()).add(name)
    for shard in shards:
        if Path(shard).name != shard:
            raise BadInput(f"shard index {index} names a file outside its folder: {shard}", hint="save it again")
        if not (index.parent / shard).is_file():
            raise BadInput(f"shard named in {index} is missing: {shard}", hint="download or copy it again")
    return [(index.parent / shard, names) for shard, names in sorted(shards.items())]


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    value = files.read_json(file, "model configuration") if file.is_file() else {}
    return value if isinstance(value, dict) else {}


# --- refusing what is wrong ---


def _refuse_pickle_name(file: Path) -> None:
    if file.name.endswith(PICKLE_SUFFIXES):
        raise _pickle(file)


def _refuse_pickle(file: Path, start: bytes) -> None:
    # A header of 640 bytes also begins with 0x80 0x02, but no allowed length reaches into the two highest bytes.
    if start.startswith(_PICKLE_STARTS) and not start.endswith(b"\0\0"):
        raise _pickle(file)


def _pickle(file: Path) -> BadInput:
    return BadInput(
        f"{file} is a PyTorch pickle file, which can run code when it is opened; safetensors was expected",
        hint="save the model again with save_pretrained, which writes safetensors",
    )


def _check_header_length(file: Path, length: int, size: int) -> None:
    if size < 8:
        raise BadInput(f"{file} is truncated: {size} bytes, no room for a safetensors header", hint=_AGAIN)
    if length > MAX_HEADER_BYTES:
        raise BadInput(
            f"{file} is not a safetensors file: its header would be {length} bytes, at most {MAX_HEADER_BYTES} allowed",
            hint=_AGAIN,
        )
    if 8 + length > size:
        raise BadInput(f"{file} is truncated: its header needs {8 + length} bytes, the file has {size}", hint=_AGAIN)


def _parsed(file: Path, header: bytes) -> dict[str, Any]:
    try:
        entries = json_text.parse(header.decode("utf-8"), keys_once=True)
    except ValueError as error:  # what is no text, too
        raise BadInput(f"{file} has a malformed safetensors header: {error}", hint=_AGAIN) from None
    if not isinstance(entries, dict):
        raise BadInput(f"{file} has a malformed safetensors header: an object was expected", hint=_AGAIN)
    entries.pop("__metadata__", None)
    return entries


def _tensor(file: Path, name: str, entry: Any, data_start: int) -> Tensor:
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise BadInput(f"{file}: the name of a tensor, {ascii(name)[:200]}, is no Unicode text", hint=_AGAIN)
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers_fine = len(shape) <= MAX_DIMENSIONS and all(
            type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end)
        )
    except (TypeError, KeyError, ValueError):
        numbers_fine = False
    if not numbers_fine:
        raise BadInput(f"{file}: tensor '{name}' has no proper dtype, shape and data_offsets", hint=_AGAIN)
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise BadInput(f"{file}: tensor '{name}' has the unknown type {dtype}", hint="convert it to BF16 or F32 first")
    tensor = Tensor(name, dtype, shape, file, data_start + begin)
    if end - begin != tensor.bytes:
        raise BadInput(
            f"{file}: tensor '{name}' of shape {list(shape)} in {dtype} needs {tensor.bytes} bytes,"
            f" its data_offsets span {end - begin}",
            hint=_AGAIN,
        )
    return tensor


def _check_layout(file: Path, tensors: Iterable[Tensor], data_start: int, size: int) -> None:
    expected = data_start
    for tensor in tensors:
        if tensor.start != expected:
            fault = "overlaps the one before it" if tensor.start < expected else "leaves a hole before it"
            raise BadInput(f"{file}: tensor '{tensor.name}' {fault}", hint=_AGAIN)
        expected += tensor.bytes
    if size < expected:
        raise BadInput(f"{file} is truncated: {expected} bytes were expected, it has {size}", hint=_AGAIN)
    if size > expected:
        raise BadInput(f"{file} is {size - expected} bytes longer than its header says", hint=_AGAIN)


def _refuse_duplicates(known: dict[str, Tensor], found: dict[str, Tensor], file: Path) -> None:
    for name in known.keys() & found.keys():
        raise BadInput(f"tensor '{name}' is in two shards: {known[name].file} and {file}", hint="save it again")


def _check_index(found: dict[str, Tensor], expected: set[str], file: Path) -> None:
    absent, unnamed = expected - found.keys(), found.keys() - expected
    if absent:
        raise BadInput(f"{file} lacks tensor '{min(absent)}', which the shard index promises in it", hint=_AGAIN)
    if unnamed:
        raise BadInput(f"{file} holds tensor '{min(unnamed)}', which the shard index does not name", hint=_AGAIN)


_AGAIN = "download, copy or save it again"
