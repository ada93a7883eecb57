"""The verdict on a comparison, and the likely cause of whatever did not move (defined in references/exactness.md)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ..estimates import survival
from ..weights import floats
from ..weights.floats import Array
from ..weights.naming import group_of, is_kept, kind_of, layer_of
from . import chance, experts, remedies
from .alignment import Alignment
from .compare import Comparison, Moves, Pair
from .experts import UnusedExperts
from .signature import BIAS, Signature, signature

SEEN: Final = 10
"""Elements that should have moved before their standing still is called frozen."""

EXPLANATIONS: Final = {
    "not_finite": "holds NaN or infinite values that the base does not have",
    "frozen": "did not move at all, and rounding does not explain it: not trained, or without any gradient",
    "bf16_rounding": "steps smaller than half the bfloat16 spacing of the weight were rounded away",
    "unused_rows": "whole rows of a table did not move: their tokens or positions had no gradient in the data",
    "unused_experts": "whole experts did not move while others of their layer did: they saw no token",
    "kept_buffers": "kept, as in every trainer: constants of the model that no gradient reaches",
    "kept_towers": "kept, as planned: parts of a multimodal checkpoint outside the language model that text trains",
    "storage_rounding": "the precise master moved by less than bfloat16 storage can show",
    "finer_master": "usually harmless: a finer master or stochastic rounding collected what storage cannot show",
    "stochastic_rounding": "updates are kept on average, but by chance these weights kept their value",
    "unexplained": "some elements moved and others did not, in no pattern that rounding leaves",
}

_ALWAYS_EXPLAINED: Final = ("kept_buffers", "kept_towers")
_EXPLAINED_BY_SESSION: Final = ("storage_rounding", "unused_rows", "unused_experts")


@dataclass(frozen=True)
class AuditContext:
    """What a session says about how the checkpoint came about; learning rates are per step."""

    exactness: str
    weights: str
    optimizer: str
    optimizer_args: dict[str, bool]
    learning_rate: float
    total_learning_rate: float
    steps: int

    @property
    def update(self) -> survival.Update:
        return survival.update_of(self.weights, self.optimizer, self.optimizer_args)


@dataclass(frozen=True)
class Finding:
    """One tensor: what was counted, what counts as moved, and the likely cause of what did not move."""

    pair: Pair
    comparison: Comparison
    in_unused_experts: int = 0
    cause: str | None = None

    @property
    def group(self) -> str:
        return group_of(self.pair.name)

    @property
    def layer(self) -> int | None:
        return layer_of(self.pair.name)

    @property
    def moves(self) -> Moves:
        """The moves that count."""
        return self.comparison.moves_of(self.pair)

    @property
    def in_unused_rows(self) -> int:
        """Elements in rows of a table that did not move at all, while other rows did."""
        return self.comparison.unchanged_rows * self.pair.row_length if self.moves.changed else 0

    @property
    def still(self) -> int:
        """Elements that did not move."""
        return self.pair.elements - self.moves.changed

    @property
    def in_question(self) -> int:
        """Elements that should have moved: those that no unused row and no unused expert holds."""
        return self.pair.elements - self.in_unused_rows - self.in_unused_experts

    @property
    def chance(self) -> float:
        """The chance that a trained element of this tensor stands where it began."""
        coarse = floats.FRACTION_BITS[self.pair.trained.dtype] < floats.FRACTION_BITS["F32"]
        if coarse or not self.moves.changed:
            return chance.RETURNED
        weight = math.sqrt(self.comparison.base_squares / self.pair.elements)
        change = math.sqrt(self.moves.squares / self.moves.changed)
        return chance.returning(weight, change, floats.FRACTION_BITS["F32"])

    @property
    def returned(self) -> int:
        """Elements in question that did not move."""
        return self.in_question - self.moves.changed

    @property
    def has_moved(self) -> bool:
        """Whether what stands still in this tensor may do so by chance."""
        return self.returned <= chance.may_stand(self.in_question, self.chance)


@dataclass(frozen=True)
class Cause:
    """One reason for what did not move: how many elements, in which tensors, worst first.

    `remedy` is None where nothing needs mending. `learning_rate` is the session's; `learning_rate_range` is (more than,
    at most) as the files alone tell it.
    """

    name: str
    explained: bool
    elements: int
    tensors: tuple[str, ...]
    explanation: str
    learning_rate: float | None = None
    learning_rate_range: tuple[float, float] | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`basis` says what it rests on: the files alone ("data"), or also what the session says ("session")."""

    name: str
    basis: str
    summary: str
    causes: tuple[Cause, ...]
    findings: tuple[Finding, ...]
    unused_experts: tuple[UnusedExperts, ...]


def judge(
    alignment: Alignment,
    compared: dict[str, Comparison],
    context: AuditContext | None,
    towers: Collection[str] = (),
) -> Verdict:
    """The verdict on `compared`, which holds a comparison of every pair in `alignment`.

    `towers` names what stands outside the language model of a multimodal checkpoint: kept where none of it moved.
    """
    unused = experts.unused(alignment.pairs, compared)
    bare = [
        Finding(pair, compared[pair.name], experts.elements_in(pair, compared[pair.name], unused))
        for pair in alignment.pairs
        if pair.base.is_weight and pair.elements
    ]
    kept = _kept(bare, towers)
    trained = [finding for finding in bare if finding.pair.name not in kept]
    pattern, moved = _pattern(trained), _moved(trained)
    findings = [
        replace(f, cause="kept_towers" if f.pair.name in kept else _cause(f, f.pair.name in moved, pattern, context))
        for f in bare
    ]
    causes = _causes(findings, pattern, context, unused)
    name = _name(alignment, findings, causes)
    basis = "data" if context is None else "session"
    summary = _summary(name, alignment, findings, causes)
    return Verdict(name, basis, summary, causes, tuple(findings), unused)


def _kept(findings: Sequence[Finding], towers: Collection[str]) -> frozenset[str]:
    """The towers' tensors, where not one of their elements moved; else they were trained, and are judged as all are."""
    found = [finding for finding in findings if finding.pair.name in towers]
    moved = any(finding.moves.changed or finding.comparison.trained_not_finite.count for finding in found)
    return frozenset() if moved or len(found) == len(findings) else frozenset(f.pair.name for f in found)


def _moved(findings: Sequence[Finding]) -> set[str]:
    """The names of tensors whose trained elements moved, but for what chance may leave standing.

    Chance is allowed to a tensor, and over all layers to a kind of tensor: a few elements standing still in every
    small norm of a model are no chance.
    """
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[kind_of(finding.pair.name)].append(finding)
    moved = set()
    for kind in kinds.values():
        most = max(finding.chance for finding in kind)
        together = sum(finding.in_question for finding in kind)
        by_chance = sum(finding.returned for finding in kind) <= chance.may_stand(together, most)
        any_moved = any(finding.moves.changed for finding in kind)
        moved |= {
            finding.pair.name
            for finding in kind
            if any_moved and finding.has_moved and (by_chance or finding.returned <= most * finding.in_question)
        }
    return moved


def _pattern(findings: Sequence[Finding]) -> Signature:
    """The signature of matrices that moved; norms and biases have other sizes and often another precision."""
    moved = [finding for finding in findings if finding.moves.changed]
    matrices = [f for f in moved if f.group not in ("norms", "biases") and not f.in_unused_rows]
    return signature(finding.comparison for finding in matrices or moved)


def _cause(finding: Finding, moved: bool, pattern: Signature, context: AuditContext | None) -> str | None:
    if finding.comparison.trained_not_finite.count > finding.comparison.base_not_finite.count:
        return "not_finite"
    if is_kept(finding.pair.name):
        return None if finding.moves.changed else "kept_buffers"
    if moved or not finding.in_question:
        return "unused_rows" if finding.in_unused_rows else "unused_experts" if finding.in_unused_experts else None
    rounding = _rounding_cause(finding, pattern, context)
    if finding.moves.changed:
        return rounding or "unexplained"
    return rounding if rounding and not _should_have_moved(finding, pattern, context) else "frozen"


def _rounding_cause(finding: Finding, pattern: Signature, context: AuditContext | None) -> str | None:
    """The kind of rounding that hides or loses movement in this tensor, if there is reason to think of one."""
    coarse = floats.FRACTION_BITS[finding.pair.trained.dtype] < floats.FRACTION_BITS["F32"]
    if context is None:
        if pattern.edge is not None:
            return "bf16_rounding"
        return "finer_master" if pattern.fades and coarse else None
    if context.update.unbiased:
        return "stochastic_rounding"
    if context.update.rounds_to == "bfloat16":
        return "bf16_rounding"
    if _contradicted(pattern, context):
        return "bf16_rounding"
    return "storage_rounding" if coarse else None


def _contradicted(pattern: Signature, context: AuditContext) -> bool:
    """Whether a session that claims a precise master shows the sharp edge of lost updates all the same.

    After one step the two look alike, so the claim is only tested once the steps add up to four full ones.
    """
    if pattern.edge is None or context.total_learning_rate < 4 * context.learning_rate:
        return False
    rates = pattern.learning_rates
    return rates is not None and context.learning_rate > rates[0] / 2 and context.learning_rate <= rates[1]


def _should_have_moved(finding: Finding, pattern: Signature, context: AuditContext | None) -> bool:
    """Whether a tensor that did not move would show movement, had it been trained as the others were."""
    sampled = finding.comparison.sampled
    scale = finding.pair.elements / max(int(sampled.sum()), 1)
    if pattern.edge is not None or pattern.fades:
        return pattern.expected(sampled) * scale >= min(SEEN, finding.pair.elements / 2)
    if context is None:
        return True
    return survival.survival(exponent_counts(sampled), context.learning_rate) * finding.pair.elements >= SEEN


def exponent_counts(sampled: Array) -> survival.ExponentCounts:
    """Sampled float32 exponent bins as bfloat16 counts; powers of two are counted with their neighbours above."""
    others = {int(index) - BIAS: int(sampled[index]) for index in np.flatnonzero(sampled) if index}
    return survival.ExponentCounts("bfloat16", int(sampled[0]), {}, others)


def _causes(
    findings: Sequence[Finding],
    pattern: Signature,
    context: AuditContext | None,
    unused: Sequence[UnusedExperts],
) -> tuple[Cause, ...]:
    """The causes found, those that take away from the verdict first, then by elements."""
    causes = []
    for name, explanation in EXPLANATIONS.items():
        concerned = [finding for finding in findings if finding.cause == name]
        if not concerned:
            continue
        concerned.sort(key=lambda finding: (-finding.still / finding.pair.elements, -finding.pair.elements))
        elements = sum(
            finding.comparison.trained_not_finite.count if name == "not_finite" else finding.still
            for finding in concerned
        )
        explained = name in _ALWAYS_EXPLAINED or (context is not None and name in _EXPLAINED_BY_SESSION)
        rate, rates, words = _rate_evidence(name, pattern, context)
        if name == "unused_experts":
            words = f": {experts.words(unused)}"
        tensors = tuple(finding.pair.name for finding in concerned)
        remedy = None if explained else remedies.remedy(name, tensors, len(findings))
        causes.append(Cause(name, explained, elements, tensors, explanation + words, rate, rates, remedy))
    causes.sort(key=lambda cause: (cause.explained, -cause.elements))
    return tuple(causes)


def _rate_evidence(
    name: str, pattern: Signature, context: AuditContext | None
) -> tuple[float | None, tuple[float, float] | None, str]:
    """The session's learning rate, or the range of rates that the files alone fit, and either in words."""
    if name != "bf16_rounding":
        return None, None, ""
    if context is not None:
        limit = _edge_of(context.learning_rate)
        claim = ", although the session promises a precise master" if context.update.rounds_to != "bfloat16" else ""
        words = (
            f"; at the session's learning rate {context.learning_rate:g} only weights below {limit:g} can move{claim}"
        )
        return context.learning_rate, None, words
    rates = pattern.learning_rates
    assert rates is not None
    low, high = rates
    return None, rates, f"; the edge at {256 * low * 2:g} fits a learning rate between {low:.2g} and {high:.2g}"


def _edge_of(learning_rate: float) -> float:
    """Weights of at least this size do not move at this learning rate in bfloat16."""
    return float(2.0 ** (math.ceil(math.log2(learning_rate)) + 8))


def _name(alignment: Alignment, findings: Sequence[Finding], causes: Sequence[Cause]) -> str:
    if not findings or alignment.missing or alignment.extra or alignment.mismatched:
        return "incomparable"
    if not any(finding.moves.changed for finding in findings):
        return "frozen"
    return "full" if all(cause.explained for cause in causes) else "partial"


def _summary(
    name: str,
    alignment: Alignment,
    findings: Sequence[Finding],
    causes: Sequence[Cause],
) -> str:
    elements = sum(finding.pair.elements for finding in findings)
    changed = sum(finding.moves.changed for finding in findings)
    moved = f"{changed:,} of {elements:,} weights moved" + (f" ({changed / elements:.2%})" if elements else "")
    if name == "incomparable":
        return f"not the same model: {_differences(alignment)}; among the rest {moved}"
    if name == "frozen":
        return f"no weight moved: {elements:,} compared"
    reasons = "; ".join(f"{_tensor_words(cause)}: {cause.explanation}" for cause in causes)
    if not reasons:
        return f"every tensor moved: {moved}"
    lead = "every tensor was trained: " if name == "full" else ""
    return f"{lead}{moved}; {reasons}"


def _tensor_words(cause: Cause) -> str:
    return f"{len(cause.tensors)} tensor{'s' if len(cause.tensors) > 1 else ''} ({cause.elements:,} weights)"


def _differences(alignment: Alignment) -> str:
    parts = []
    for words, names in (
        ("missing", alignment.missing),
        ("extra", alignment.extra),
        ("of another shape or type", tuple(item.name for item in alignment.mismatched)),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            parts.append(f"{words}: {names[0]}{more}")
    return ", ".join(parts) or "no tensor in common"
