"""Plans for several GPUs or hosts: the assumed network, layouts that were never measured, and whether hosts pay."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import BadInput
from ..estimates.memory import fsdp2_keeps_gathered
from ..estimates.speed import NETWORK_GBS
from .request import Request
from .search import Candidate, search

# Batches that are tried for one that makes more hosts pay: twice the planned one, and so on.
DOUBLINGS = 5


def sentences(request: Request, best: Candidate) -> list[str]:
    """For a plan's warnings; none for one GPU."""
    if request.gpus == 1:
        return []
    return [*_unmeasured(request, best), *_network(request), *_slower_than_one(request, best)]


def _unmeasured(request: Request, best: Candidate) -> list[str]:
    """Unsloth's layouts and offloads that no row of references/measurements has."""
    found = []
    if not fsdp2_keeps_gathered(request.shape, best.setting, request.hardware.vram_gib):
        found.append("FSDP2's sharded layout (the model is too large to stay gathered on one GPU)")
    if best.setting.state_offload:
        found.append("optimizer state in host memory under FSDP2")
    if not found:
        return []
    return [f"Not measured: {' and '.join(found)}; memory and speed follow from the code alone, so try a few steps."]


def _network(request: Request) -> list[str]:
    if request.hardware.nodes == 1:
        return []
    given = request.hardware.network_gbs
    taken = (
        f"taken to carry {given:g} GB/s a GPU, as given" if given else f"assumed to carry {NETWORK_GBS:g} GB/s a GPU"
    )
    other = "" if given else " (--network-gbs X says otherwise)"
    return [f"Several nodes: the network is {taken}{other}, and nothing was measured on it."]


def _slower_than_one(request: Request, best: Candidate) -> list[str]:
    """Where one host alone learns as much a second: so, and the batch from which more of them pay."""
    hosts = request.hardware.nodes
    one = None if hosts == 1 else _learned(request, 1, request.effective_batch)
    if one is None or one < best.learned:
        return []
    text = (
        f"{hosts} hosts are expected to be no faster than one here: they learn {best.learned:,.0f} tokens/s, and one"
        f" host {one:,.0f}, with {request.effective_batch} rows a step."
    )
    batch = _paying_batch(request)
    if batch is None:
        most = request.effective_batch << DOUBLINGS
        return [f"{text} No batch up to {most:,} rows was found that makes them pay: take one (--nodes 1)."]
    return [f"{text} Take one (--nodes 1); of the doubled batches, --effective-batch {batch} is the first that pays."]


def _paying_batch(request: Request) -> int | None:
    """The least of the doubled batches with which all hosts learn more a second than one."""
    for doubling in range(1, DOUBLINGS + 1):
        batch = request.effective_batch << doubling
        one, several = _learned(request, 1, batch), _learned(request, request.hardware.nodes, batch)
        if several is not None and (one is None or several > one):
            return batch
    return None


def _learned(request: Request, hosts: int, batch: int) -> float | None:
    """Tokens that the best plan on so many hosts learns a second with `batch` rows a step; None where none fits."""
    try:
        best = search(replace(request, hardware=replace(request.hardware, nodes=hosts), effective_batch=batch)).best
    except BadInput:  # pinned rows do not make this batch
        return None
    return None if best is None else best.learned
