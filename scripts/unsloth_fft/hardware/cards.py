"""What the plan is for: a card from the cited table, a bare memory size, or the machine this runs on.

The table is gpus.json beside this file; references/hardware.md says how each kind of figure was obtained.
Units: GiB is 2**30 bytes, GB/s is 1e9 bytes a second, TFLOP/s is 1e12 operations a second, dense (no sparsity).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files, schema
from ..core.errors import BadInput

GPU_TABLE = Path(__file__).with_name("gpus.json")
# Public on-demand prices, each with its source and date; never used unless asked for. A file of yours replaces it.
SHIPPED_PRICES = Path(__file__).with_name("prices.json")
NO_CARD_HINT = "name a card from the list, or give the memory itself: --vram-gib X"

# The maker and the product line carry no information that the model number lacks.
_NOISE = {"nvidia", "amd", "geforce", "tesla", "instinct", "gpu", "graphics", "tensor", "core", "generation", "edition"}
# These do: an RTX 4070 Ti is not an RTX 4070.
_OTHER_MODEL = {"ti", "super"}


class Gpu(NamedTuple):
    """One card.

    `vram_gib` is what a program can allocate, as CUDA reports it to PyTorch, so a little less than nvidia-smi's total;
    `vram_basis` says whether that was `measured` here, `reported` by somebody's run, or `derived` from the total.
    `bf16_tflops` is the dense bfloat16 tensor peak with float32 accumulation; float16 where `has_bf16` is false.
    `host_link_gbs` is the link to host memory, one direction, before protocol overhead; `nvlink_gbs` the one to other
    cards of the host, where there is such a link (data sheets of A100, H100, H200 and B200, read 2026-11-23).
    """

    name: str
    vram_gib: float
    bf16_tflops: float
    memory_bandwidth_gbs: float
    host_link_gbs: float
    has_bf16: bool
    compute_capability: str
    source: str
    read: str
    vram_basis: str
    aliases: tuple[str, ...] = ()
    nvlink_gbs: float | None = None

    @property
    def card_link_gbs(self) -> float:
        """GB/s to another card of the same host, one direction."""
        return self.nvlink_gbs or self.host_link_gbs


@dataclass(frozen=True)
class Hardware:
    """The machine planned for. On a CPU `vram_gib` is the host memory and `gpus` is 1.

    `network_gbs` is what the network between nodes carries for each GPU, in GB/s; None: as estimates/speed.py assumes.
    `system` is Linux, as of nearly every machine that is rented, unless this machine is planned for.
    """

    name: str
    gpu: Gpu | None
    vram_gib: float
    gpus: int
    nodes: int
    host_ram_gib: float | None
    has_bf16: bool
    is_cpu: bool = False
    notes: tuple[str, ...] = ()
    system: str = "Linux"
    network_gbs: float | None = None


class Price(NamedTuple):
    """What one GPU costs in US dollars an hour, and who said so when."""

    usd_per_hour: float
    source: str
    date: str


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """Every card of the table, in its order (older and smaller first)."""
    rows = files.read_json(GPU_TABLE, "GPU table")["gpus"]
    return tuple(Gpu(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


def find_gpu(name: str) -> Gpu:
    """The card meant by `name`, in any common spelling: "H100", "rtx-4090", "NVIDIA A100-SXM4-80GB".

    Raises BadInput when nothing matches (with the closest names) or several cards do (with all of them).
    """
    exact = [gpu for gpu in gpus() if _key(name) in _keys(gpu)]
    if exact:
        return exact[0]
    matches = [gpu for gpu in gpus() if any(_covers(spelling, name) for spelling in _spellings(gpu))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        choices = ", ".join(gpu.name for gpu in matches)
        raise BadInput(f"--gpu {name} could be any of: {choices}", hint="name one of them in full")
    raise BadInput(f"--gpu {name} is not in the GPU table{_closest(name)}", hint=NO_CARD_HINT)


def on_gpu(gpu: Gpu, *, gpus: int = 1, nodes: int = 1, host_ram_gib: float | None = None) -> Hardware:
    """`gpus` cards of one kind in each of `nodes` machines; `host_ram_gib` is that of one machine."""
    return Hardware(gpu.name, gpu, gpu.vram_gib, gpus, nodes, host_ram_gib, gpu.has_bf16)


def on_memory(vram_gib: float, *, gpus: int = 1, nodes: int = 1, host_ram_gib: float | None = None) -> Hardware:
    """A card of which only the usable memory is known; bfloat16 is assumed, as on every NVIDIA card since 2020."""
    return Hardware("custom", None, vram_gib, gpus, nodes, host_ram_gib, True)


def price_per_hour(name: str, prices_file: Path) -> Price | None:
    """The price of one card `name` in the user's own table (or SHIPPED_PRICES), or None when it has no row for it.

    The table is JSON as in schemas/prices.schema.json. Raises BadInput when it does not match, or prices a card twice.
    """
    table = files.read_json(prices_file, "price file")
    schema.check(table, "prices", f"price file {prices_file}")
    wanted = _canonical(name)
    rows = [row for row in table["prices"] if _canonical(row["gpu"]) == wanted]
    if len(rows) > 1:
        raise BadInput(
            f"price file {prices_file} has {len(rows)} rows for {name}, one was expected", hint="keep one of them"
        )
    return _price(rows[0]) if rows else None


def _price(row: dict[str, Any]) -> Price:
    return Price(usd_per_hour=row["usd_per_hour"], source=row["source"], date=row["date"])


def _canonical(name: str) -> str:
    try:
        return _key(find_gpu(name).name)
    except BadInput:
        return _key(name)


def _closest(name: str) -> str:
    import difflib  # only a misspelt name needs it

    by_key = {key: gpu.name for gpu in gpus() for key in _keys(gpu)}
    close = difflib.get_close_matches(_key(name), list(by_key), n=5, cutoff=0.5)
    names = list(dict.fromkeys(by_key[key] for key in close))
    if names:
        return f"; the closest are {', '.join(names)}"
    return f"; it has {', '.join(gpu.name for gpu in gpus())}"


def _covers(spelling: str, name: str) -> bool:
    """Whether `name` is a shorter form of `spelling`: "A100" of "A100 80GB SXM", not "RTX 5070" of "RTX 5070 Ti"."""
    wanted, known = set(_words(name)), set(_words(spelling))
    return bool(wanted) and wanted <= known and wanted & _OTHER_MODEL == known & _OTHER_MODEL


def _spellings(gpu: Gpu) -> tuple[str, ...]:
    return (gpu.name, *gpu.aliases)


def _keys(gpu: Gpu) -> set[str]:
    return {_key(spelling) for spelling in _spellings(gpu)}


def _key(name: str) -> str:
    """`name` reduced to what identifies it, so that "NVIDIA GeForce RTX 4090" and "rtx-4090" are one."""
    return "".join(_words(name))


def _words(name: str) -> list[str]:
    joined_sizes = re.sub(r"(\d+)\s*(?:gib|gb|g)\b", r"\1gb", name.lower())
    return [word for word in re.findall(r"[a-z0-9]+", joined_sizes) if word not in _NOISE]
