"""When nothing fits: the nearest plan, what it lacks, and the smallest changes that would make something fit.

Every suggestion was tried: the search was run again with it, as the command line with that change would ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..core.errors import BadInput, NothingFits
from ..hardware import cards
from ..models import catalogue
from ..settings.recipes import RANK
from ..weights.expected import expected
from . import default_batch, words
from .defaults import defaults_for
from .duration import span
from .request import Request
from .search import HOST_RESERVE_GIB, Candidate, Outcome, search

VRAM, HOST_RAM, GPUS = "--vram-gib", "--host-ram-gib", "--gpus"
SHORTEST = 256
GPU_COUNTS = (2, 4, 8)
HOST_RAM_GIB = (16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True)
class Change:
    """One change to the request: the flags that make it, and the request with it made."""

    flags: str
    request: Request


def nothing_fits(request: Request, outcome: Outcome) -> NothingFits:
    """The error that names the nearest plan and the changes that would help."""
    nearest = outcome.nearest
    return NothingFits(
        f"nothing fits: {request.model} at {request.seq_length} tokens does not fit on {_hardware_text(request)};"
        f" the nearest plan ({_setting_text(nearest)})"
        f" needs {_needs_text(request, nearest)}{_short_of_host(request, outcome, nearest)}{_host_unknown(request)}",
        hint=_hint(request),
    )


def _host_unknown(request: Request) -> str:
    known = request.hardware.is_cpu or request.hardware.host_ram_gib is not None
    return "" if known else f"; host memory was not given ({HOST_RAM}), and any amount was assumed"


def _short_of_host(request: Request, outcome: Outcome, nearest: Candidate) -> str:
    """The plan that the GPU could hold, where only host memory lacks for it; empty where there is none."""
    fits_gpu = [one for one in outcome.candidates if one.missing <= 0 < one.host_missing]
    if nearest.missing <= 0 or not fits_gpu:
        return ""
    least = min(fits_gpu, key=lambda one: one.host_missing)
    return (
        f"; on the GPU a plan would fit ({_setting_text(least)}), but it needs {least.memory.host:.0f} GiB of host"
        f" memory where {request.hardware.host_ram_gib:.0f} GiB are ({HOST_RESERVE_GIB:.0f} of them left to the system)"
    )


def _hint(request: Request) -> str:
    told = [_told(change, best) for change, best in _changes_that_fit(request)]
    hint = f"any one of these fits: {'; '.join(told)}" if told else "no single change was found that fits"
    return f"{hint}; or LoRA, which trains an adapter (the command lora writes its script)"


def _told(change: Change, best: Candidate) -> str:
    """The change, and what comes of it where its flags do not say: which plan takes the memory, what is given up."""
    if change.flags.startswith(HOST_RAM):
        return (
            f"{change.flags} (a plan that uses {best.memory.host:.0f} GiB of it, about"
            f" {best.tokens_per_second:,.0f} tokens/s)"
        )
    if change.flags.startswith("--exactness"):
        return f"{change.flags} ({_given_up(change.request, best)}, only with the user's consent)"
    return change.flags


def _given_up(request: Request, best: Candidate) -> str:
    """What becomes of updates in a plan that does not keep every one."""
    setting = best.setting
    taken = f"{setting.weights} {setting.optimizer}"
    if best.exactness == "stochastic":
        return f"updates are then noisy, by {taken}"
    rate = request.learning_rate or defaults_for(request.objective, request.shape.parameters).learning_rate
    args = {name: bool(value) for name, value in setting.optimizer_args}
    moved = expected(request.model, rate, setting.weights, setting.optimizer, args)
    low, high = moved.range or (moved.share, moved.share)
    return f"updates are then lost: {taken} moves {span(f'{low:.0%}', f'{high:.0%}')} of the weights a step"


def _hardware_text(request: Request) -> str:
    kind, count = request.hardware.name, request.gpus
    return f"{count} x {kind}" if count > 1 else kind


def _setting_text(candidate: Candidate) -> str:
    setting = candidate.setting
    offload = ", state offload" if setting.state_offload else ""
    offload += ", gradient offload" if setting.gradient_offload else ""
    offload += ", weight offload" if setting.weight_offload else ""
    return (
        f"{setting.weights} {setting.optimizer}{offload}, checkpointing {words.checkpointing(setting)},"
        f" {setting.micro_batch} x {setting.accumulation}"
    )


def _needs_text(request: Request, nearest: Candidate) -> str:
    needs = []
    if nearest.missing > 0:
        total = nearest.memory.peak + nearest.margin
        needs.append(
            f"{total:.1f} GiB with its margin, {nearest.missing:.1f} GiB more than the"
            f" {request.hardware.vram_gib:.1f} GiB there are"
        )
    if nearest.host_missing > 0:
        needs.append(
            f"{nearest.memory.host:.1f} GiB of host memory, {nearest.host_missing:.1f} GiB more than can be used of the"
            f" {request.hardware.host_ram_gib:.1f} GiB there are"
        )
    return " and ".join(needs)


def _changes_that_fit(request: Request) -> list[tuple[Change, Candidate]]:
    """The least change of each kind that makes a plan fit, with that plan; the cheapest first, several GPUs last."""
    kinds = (_unpinned, _uncapped, _batch, _host_memory, _length, _exactness, _cards, _models, _more_gpus)
    found = []
    for kind in kinds:
        for change in kind(request):
            best = _best(change.request)
            if best is not None:
                found.append((change, best))
                break
    return found


def _best(request: Request) -> Candidate | None:
    try:
        return search(request).best
    except BadInput:
        return None


def _unpinned(request: Request) -> Iterator[Change]:
    pins = request.pins
    flags = {
        "weights": "--precision",
        "optimizer": "--optimizer",
        "state_offload": "--state-offload",
        "gradient_offload": "--gradient-offload",
        "checkpointing": "--gradient-checkpointing",
        "checkpointed_layers": "--checkpointed-layers",
        "micro_batch": "--micro-batch",
        "accumulation": "--grad-accumulation",
    }
    for name, flag in flags.items():
        if getattr(pins, name) is not None:
            yield Change(f"without {flag}", replace(request, pins=replace(pins, **{name: None})))


def _uncapped(request: Request) -> Iterator[Change]:
    """The named card with all of its memory."""
    now = request.hardware
    if VRAM in request.given and now.gpu is not None:
        yield Change(f"without {VRAM}", replace(request, hardware=replace(now, vram_gib=now.gpu.vram_gib)))


def _exactness(request: Request) -> Iterator[Change]:
    for name in sorted(RANK, key=lambda name: -RANK[name]):
        if RANK[name] < RANK[request.exactness]:
            yield Change(f"--exactness {name}", replace(request, exactness=name))


def _batch(request: Request) -> Iterator[Change]:
    batch = request.effective_batch
    while batch > request.gpus:
        batch = max(batch // 2 // request.gpus, 1) * request.gpus
        yield Change(f"--effective-batch {batch}", replace(request, effective_batch=batch, batch_by_default=False))


def _length(request: Request) -> Iterator[Change]:
    length = request.seq_length
    while length // 2 >= SHORTEST:
        length //= 2
        yield Change(f"--seq-length {length}", replace(request, seq_length=length))


def _host_memory(request: Request) -> Iterator[Change]:
    have = request.hardware.host_ram_gib
    if have is None or request.hardware.is_cpu:
        return
    for size in HOST_RAM_GIB:
        if size > have:
            more = replace(request.hardware, host_ram_gib=float(size))
            yield Change(f"{HOST_RAM} {size}", replace(request, hardware=more))


def _cards(request: Request) -> Iterator[Change]:
    """Larger cards, the smallest first; what was read from this machine does not hold for another card."""
    now, given = request.hardware, request.given
    smallest = 0.0 if now.is_cpu else now.vram_gib
    host = now.host_ram_gib if HOST_RAM in given else None
    count = now.gpus if GPUS in given else 1
    for gpu in sorted(cards.gpus(), key=lambda gpu: (gpu.vram_gib, gpu.name)):
        if gpu.vram_gib > smallest and gpu != now.gpu:
            other = cards.on_gpu(gpu, gpus=count, nodes=now.nodes, host_ram_gib=host)
            flags = f'--gpu "{gpu.name}"' + (f" without {VRAM}" if VRAM in given else "")
            yield Change(flags, replace(default_batch.on(request, other), given=given - {VRAM}))


def _more_gpus(request: Request) -> Iterator[Change]:
    if request.hardware.is_cpu:
        return
    for count in GPU_COUNTS:
        if count > request.hardware.gpus:
            yield Change(f"{GPUS} {count}", default_batch.on(request, replace(request.hardware, gpus=count)))


def _models(request: Request) -> Iterator[Change]:
    """Smaller models of the catalogue, of the same type, the largest first."""
    smaller = []
    for name in catalogue.names():
        shape = catalogue.find(name)
        if shape.model_type == request.shape.model_type and shape.parameters < request.shape.parameters:
            smaller.append(shape)
    for shape in sorted(smaller, key=lambda shape: -shape.parameters):
        if shape.max_positions >= request.seq_length:
            yield Change(f"--model {shape.name}", replace(request, model=shape.name, shape=shape))
