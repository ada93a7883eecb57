"""The search: every setting that keeps the promise, what each needs and does, and the fastest that fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from ..core.errors import BadInput
from ..estimates import memory, speed
from ..estimates.memory import MemoryEstimate, margin_gib
from ..estimates.speed import SpeedEstimate
from ..settings.recipes import RANK, RECIPES, Recipe, objection, optimizer_of
from ..settings.setting import OFF, TRUE, UNSLOTH, Setting
from . import amount, basis, duration, pinned, row_joining
from .request import Request

# More rows at once than this bring no speed and only cost search time.
MAX_MICRO_BATCH = 512
# Host memory kept for the operating system and everything else on the machine.
HOST_RESERVE_GIB = 2.0


class Candidate(NamedTuple):
    """One setting with its estimates. GiB; `missing` is what lacks on the GPU, `host_missing` on the host (0: fits).

    `spilled` is paged state for which the GPU has no room. `step_s` is a step's time on the user's rows, and `learned`
    the tokens that it learns a second: what plans are compared by. `read` counts the padding, too.
    """

    setting: Setting
    exactness: str
    memory: MemoryEstimate
    speed: SpeedEstimate
    margin: float
    missing: float
    host_missing: float
    spilled: float
    step_s: float
    learned: float
    read: float

    @property
    def fits(self) -> bool:
        return self.missing <= 0 and self.host_missing <= 0

    @property
    def tokens_per_second(self) -> float:
        """On the user's rows, rounded once, so that the plan and every sentence about it say the same."""
        return round(self.read, 1)

    @property
    def kind(self) -> tuple[object, ...]:
        """Everything but how the batch is split: runners-up differ in this."""
        setting = self.setting
        return (
            setting.weights, setting.optimizer, setting.state_offload, setting.gradient_offload, setting.checkpointing
        )  # fmt: skip


class Outcome(NamedTuple):
    """All candidates, best first; those that fit stand before those that do not."""

    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        first = self.candidates[0]
        return first if first.fits else None

    @property
    def nearest(self) -> Candidate:
        """The candidate that lacks least memory."""
        return min(self.candidates, key=lambda one: max(one.missing, 0) + max(one.host_missing, 0))

    def runners_up(self, count: int) -> list[Candidate]:
        """The best other candidates that fit, one of each kind."""
        seen = {self.candidates[0].kind}
        found: list[Candidate] = []
        for candidate in self.candidates:
            if candidate.fits and candidate.kind not in seen:
                seen.add(candidate.kind)
                found.append(candidate)
        return found[:count]

    def best_of_each_kind(self) -> list[Candidate]:
        """One candidate of each kind: its fastest that fits, else the one nearest to fitting."""
        kinds: dict[tuple[object, ...], list[Candidate]] = {}
        for candidate in self.candidates:
            kinds.setdefault(candidate.kind, []).append(candidate)
        return [
            group[0] if group[0].fits else min(group, key=lambda one: (one.missing, one.host_missing))
            for group in kinds.values()
        ]


def search(request: Request) -> Outcome:
    """Estimate every setting that the request allows, best first by what it prefers.

    Raises BadInput when it allows none, saying why.
    """
    candidates = [_candidate(request, recipe.exactness, setting) for recipe, setting in _settings(request)]
    candidates += partly_checkpointed(request, candidates)
    candidates.sort(key=_preference)
    if request.prefer == "memory":
        # A stable sort: of equal peaks the faster stays in front.
        candidates.sort(key=lambda one: (not one.fits, one.memory.peak))
    return Outcome(tuple(candidates))


def partly_checkpointed(request: Request, candidates: list[Candidate]) -> list[Candidate]:
    """Plans between recomputing every layer and none: with as few layers recomputed as fit, where that beats the rest.

    Only where the number was not pinned, nor the mode, and for one GPU: a number of layers was tried on no other.
    """
    if request.prefer == "memory" or request.hardware.is_cpu or request.gpus > 1 or request.pins.checkpointing:
        return []
    if request.pins.checkpointed_layers is not None or request.pins.weight_offload:
        return []
    best = {name: _most_learned(candidates, rank) for name, rank in RANK.items()}
    # Nothing is faster than recomputing nothing; with paged state that is not certain, as less of it may spill.
    free = {one.setting: one.learned for one in candidates if one.setting.checkpointing == OFF and not one.memory.paged}
    found = []
    for whole in candidates:
        if whole.fits and whole.setting.checkpointing != OFF:
            most = free.get(whole.setting._replace(checkpointing=OFF))
            if most is not None and most <= best[whole.exactness]:
                continue
            partly = _least_recomputed(request, whole, best[whole.exactness])
            if partly is not None:
                found.append(partly)
    return found


def _most_learned(candidates: list[Candidate], rank: int) -> float:
    """What the best plan that fits learns a second, of those that keep updates at least this well."""
    return max((one.learned for one in candidates if one.fits and RANK[one.exactness] >= rank), default=0.0)


def _least_recomputed(request: Request, whole: Candidate, best: float) -> Candidate | None:
    """`whole` with as few layers recomputed as fit; None where all must be, or where it would not beat `best`.

    Memory falls and time grows with every layer that is recomputed, so the number is found by halving.
    """

    def with_layers(count: int) -> Candidate:
        return _candidate(request, whole.exactness, whole.setting._replace(checkpointed_layers=count))

    if with_layers(1).learned <= best:
        return None
    too_few, found, enough = 0, None, request.shape.layers
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        tried = with_layers(middle)
        if tried.fits:
            enough, found = middle, tried
        else:
            too_few = middle
    return found if found is not None and found.learned > best else None


def _as_joined(request: Request, setting: Setting) -> Setting:
    joined = row_joining.packs(request, setting) or row_joining.lays_end_to_end(request, setting)
    return setting if joined == setting.padding_free else setting._replace(padding_free=joined)


def _preference(candidate: Candidate) -> tuple[object, ...]:
    """Fitting before not, then fastest, then least memory, then a fixed order so that the answer never varies."""
    setting = candidate.setting
    return (
        not candidate.fits,
        -candidate.learned,
        candidate.memory.peak,
        candidate.memory.host,
        setting.weights,
        setting.optimizer,
        setting.checkpointing,
        setting.micro_batch,
    )


def _candidate(request: Request, exactness: str, setting: Setting) -> Candidate:
    hardware = request.hardware
    setting = _as_joined(request, setting)
    needed = memory.estimate(request.shape, setting, hardware.vram_gib, is_cpu=hardware.is_cpu)
    margin = margin_gib(needed.peak, setting, basis.kind_of_model(request), is_cpu=hardware.is_cpu)
    missing = needed.peak + margin - hardware.vram_gib
    spilled = min(max(missing + needed.paged, 0.0), needed.paged)
    rate = speed.estimate(request.shape, setting, hardware, spilled_gib=spilled)
    step_s = duration.step_seconds(request, setting, rate)
    return Candidate(
        setting=setting,
        exactness=exactness,
        memory=needed,
        speed=rate,
        margin=margin,
        missing=missing,
        host_missing=_host_missing(request, needed),
        spilled=spilled,
        step_s=step_s,
        learned=request.effective_batch * amount.learned_per_row(request, setting) / step_s,
        read=request.effective_batch * amount.tokens_per_row(request, setting) / step_s,
    )


def _host_missing(request: Request, needed: MemoryEstimate) -> float:
    available = request.hardware.host_ram_gib
    if available is None or request.hardware.is_cpu:
        return 0.0
    return needed.host + HOST_RESERVE_GIB - available


def _settings(request: Request) -> Iterator[tuple[Recipe, Setting]]:
    splits = list(batch_splits(request))
    for recipe in allowed_recipes(request):
        for offload, gradients in _offloads(request, recipe):
            for checkpointing in _checkpointing(request):
                for micro_batch, accumulation in splits:
                    yield (
                        recipe,
                        Setting(
                            weights=recipe.weights,
                            optimizer=recipe.optimizer,
                            optimizer_args=recipe.optimizer_args,
                            state_offload=offload,
                            checkpointing=checkpointing,
                            micro_batch=micro_batch,
                            accumulation=accumulation,
                            seq_length=request.seq_length,
                            gpus=request.gpus,
                            nodes=request.hardware.nodes,
                            gradient_offload=gradients,
                            checkpointed_layers=request.pins.checkpointed_layers,
                            float8=request.float8,
                            weight_offload=bool(request.pins.weight_offload),
                        ),
                    )


def allowed_recipes(request: Request) -> list[Recipe]:
    """Recipes that keep the asked exactness, run on the hardware and match the pins. Raises BadInput without any."""
    if request.pins.gradient_offload and (refusal := _gradients_stay(request)) is not None:
        raise refusal
    if (refusal := pinned.refusal(request)) is not None:
        raise refusal
    reasons: list[str] = []
    found: list[Recipe] = []
    for recipe in RECIPES:
        if _differs_from_pins(recipe, request):
            continue
        reason = _refusal(recipe, request)
        if reason is None:
            found.append(recipe)
        else:
            reasons.append(reason)
    if found:
        return found
    raise BadInput(
        f"the pinned choice{_pinned_text(request)} cannot be planned:"
        f" {'; '.join(dict.fromkeys(reasons)) or 'no such pair'}",
        hint=_way_out(request),
    )


def _differs_from_pins(recipe: Recipe, request: Request) -> bool:
    pins = request.pins
    return (pins.weights not in (None, recipe.weights)) or (pins.optimizer not in (None, recipe.optimizer))


def _refusal(recipe: Recipe, request: Request) -> str | None:
    if reason := objection(recipe, request.hardware):
        return reason
    if request.float8 and recipe.weights != "bfloat16":
        return "--compute float8 needs bfloat16 weights"
    if RANK[recipe.exactness] < RANK[request.exactness]:
        return f"{recipe.name} updates are '{recipe.exactness}', and --exactness {request.exactness} was asked"
    if request.pins.state_offload and not recipe.offloads:
        return f"Unsloth does not offload the state of {recipe.optimizer}"
    if request.pins.state_offload and request.hardware.is_cpu:
        return "there is no GPU to offload optimizer state from"
    if request.pins.weight_offload and not optimizer_of(recipe.optimizer, {}).streams:
        return f"--weight-offload on is for adamw_flash, not {recipe.optimizer}"
    if not _offloads(request, recipe):
        return "gradients are kept in host memory only on one GPU, and together with the optimizer state"
    return None


def _pinned_text(request: Request) -> str:
    pins = request.pins
    parts = [
        part
        for part in (
            pins.weights,
            pins.optimizer,
            "with state offload" if pins.state_offload else None,
            "with gradient offload" if pins.gradient_offload else None,
            "with weight offload" if pins.weight_offload else None,
        )
        if part
    ]
    return f" ({' '.join(parts)})" if parts else ""


def _way_out(request: Request) -> str:
    matching = [recipe for recipe in RECIPES if not _differs_from_pins(recipe, request)]
    runnable = [recipe for recipe in matching if objection(recipe, request.hardware) is None]
    if not matching:
        known = ", ".join(sorted({f"{recipe.weights} with {recipe.optimizer}" for recipe in RECIPES}))
        return f"choose one of: {known}"
    if runnable and RANK[runnable[0].exactness] < RANK[request.exactness]:
        return f"add --exactness {runnable[0].exactness}, or leave --precision and --optimizer to the planner"
    return "leave that knob to the planner, or name other hardware with --gpu"


def _gradients_stay(request: Request) -> BadInput | None:
    """Why gradients cannot go to host memory on this hardware, whatever the recipe; None where they can."""
    if request.gpus > 1:
        return BadInput(
            f"gradients are kept in host memory only on one GPU, and {request.gpus} were asked for",
            hint="plan for one with --gpus 1, or leave --gradient-offload out",
        )
    if not request.hardware.has_bf16:
        return BadInput(
            f"gradients are not kept in host memory on {request.hardware.name}: without bfloat16 the loss is scaled,"
            " and scaling looks for gradients on the GPU",
            hint="leave --gradient-offload out, or name a card with bfloat16",
        )
    return None


def _offloads(request: Request, recipe: Recipe) -> list[tuple[bool, bool]]:
    """(optimizer state, gradients) in host memory, as far as the recipe, the hardware and the pins allow."""
    pins = request.pins
    ways = [] if pins.weight_offload else [(False, False)]
    if recipe.offloads and not request.hardware.is_cpu:
        if not pins.weight_offload:
            ways.append((True, False))
        if _gradients_stay(request) is None:
            ways.append((True, True))
    return [
        (state, gradients)
        for state, gradients in ways
        if pins.state_offload in (None, state) and pins.gradient_offload in (None, gradients)
    ]


def _checkpointing(request: Request) -> tuple[str, ...]:
    if request.pins.checkpointing is not None:
        return (request.pins.checkpointing,)
    if request.pins.checkpointed_layers is not None or request.pins.weight_offload:
        return (TRUE, UNSLOTH)
    # Without a GPU there is nowhere to offload checkpoints to, and "unsloth" means plain checkpointing.
    return (OFF, TRUE) if request.hardware.is_cpu else (OFF, TRUE, UNSLOTH)


def batch_splits(request: Request) -> list[tuple[int, int]]:
    """(micro-batch, accumulation) pairs whose product over all GPUs is exactly the effective batch.

    Raises BadInput where there is none: the effective batch is never changed silently.
    """
    gpus, batch, pins = request.gpus, request.effective_batch, request.pins
    if batch % gpus:
        near = sorted({max(batch // gpus, 1) * gpus, (batch // gpus + 1) * gpus})
        raise BadInput(
            f"--effective-batch {batch} cannot be shared evenly by {gpus} GPUs",
            hint=f"use --effective-batch {' or '.join(map(str, near))}",
        )
    per_gpu = batch // gpus
    splits = [
        (micro, per_gpu // micro)
        for micro in _divisors(per_gpu)
        if pins.micro_batch in (None, micro)
        and pins.accumulation in (None, per_gpu // micro)
        and (micro <= MAX_MICRO_BATCH or pins.micro_batch or pins.accumulation)
    ]
    if not splits:
        raise BadInput(
            f"--micro-batch {pins.micro_batch or '?'} x --grad-accumulation {pins.accumulation or '?'} x {gpus} GPU(s)"
            f" cannot make --effective-batch {batch}",
            hint=_batch_hint(pins.micro_batch, pins.accumulation, gpus, batch),
        )
    return splits


def _divisors(number: int) -> list[int]:
    """All of them, in order, in the time that the square root of `number` takes."""
    small = [one for one in range(1, math.isqrt(number) + 1) if number % one == 0]
    return sorted({*small, *(number // one for one in small)})


def _batch_hint(micro: int | None, accumulation: int | None, gpus: int, batch: int) -> str:
    if micro and accumulation:
        return f"use --effective-batch {micro * accumulation * gpus}, or leave one of the two out"
    given = (micro or accumulation or 1) * gpus
    near = sorted({max(batch // given, 1) * given, (batch // given + 1) * given})
    return f"use --effective-batch {' or '.join(map(str, near))}"
