"""The audit: which weights of a trained checkpoint differ from its base, and why the others do not.

audit = audit_folders(Path("base"), Path("trained"))      any two checkpoints
audit = audit_session(Path("runs/first"))                 a session, whose settings explain more
audit.to_json()                                           valid under schemas/audit.schema.json
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core import schema
from ..core.shell_words import word
from ..weights import floats
from ..weights.checkpoint import locate, open_checkpoint
from ..weights.multimodal import outside_text
from ..weights.naming import GROUPS
from . import remarks
from .alignment import Alignment, align
from .compare import Comparison, Moves, NotFinite, compare
from .verdict import AuditContext, Finding, Verdict, judge

__all__ = ["Audit", "AuditContext", "audit_folders", "audit_session"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Audit:
    """Everything an audit found; `to_json` gives it as schemas/audit.schema.json describes it."""

    base: Path
    trained: Path
    alignment: Alignment
    compared: dict[str, Comparison]
    judgement: Verdict
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """full, partial, frozen or incomparable."""
        return self.judgement.name

    @property
    def summary(self) -> str:
        """The verdict in a sentence."""
        return self.judgement.summary

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against the schema."""
        findings = self.judgement.findings
        value = {
            "schema_version": schema.SCHEMA_VERSION,
            "verdict": self.judgement.name,
            "basis": self.judgement.basis,
            "summary": self.judgement.summary,
            "base": str(self.base),
            "trained": str(self.trained),
            **_totals(findings),
            "after_rounding": _rounded_totals(findings),
            "groups": {name: _totals(part) for name, part in _by_group(findings)},
            "layers": [
                {"layer": layer, **_totals(part), "groups": {name: _totals(some) for name, some in _by_group(part)}}
                for layer, part in _by_layer(findings)
            ],
            "causes": [
                {
                    "cause": cause.name,
                    "explained": cause.explained,
                    "elements": cause.elements,
                    "tensors": list(cause.tensors),
                    "explanation": cause.explanation,
                    "learning_rate": cause.learning_rate,
                    "learning_rate_range": cause.learning_rate_range and list(cause.learning_rate_range),
                    "remedy": cause.remedy,
                }
                for cause in self.judgement.causes
            ],
            "tensors": [_tensor(finding) for finding in findings],
            "unchanged_tensors": [finding.pair.name for finding in findings if not finding.moves.changed],
            "not_finite": list(_not_finite(findings)),
            "missing_tensors": list(self.alignment.missing),
            "extra_tensors": list(self.alignment.extra),
            "mismatched_tensors": [asdict(item) for item in self.alignment.mismatched],
            "extra_rows": [asdict(item) for item in self.alignment.extra_rows],
            "not_weights": [
                {
                    "name": pair.name,
                    "dtype": pair.base.dtype,
                    "elements": pair.elements,
                    "changed": self.compared[pair.name].moves.changed,
                }
                for pair in self.alignment.pairs
                if not pair.base.is_weight
            ],
            "tied_head": self.alignment.tied_head,
            "unused_experts": [
                {"layer": item.layer, "experts": list(item.experts), "of": item.of}
                for item in self.judgement.unused_experts
            ],
            "prefixes": [asdict(item) for item in self.alignment.prefixes],
            "unloaded_tensors": list(self.alignment.unloaded),
            "remarks": list(self.remarks),
        }
        schema.check(value, "audit", "the audit")
        return value


def audit_folders(
    base: Path,
    trained: Path,
    *,
    context: AuditContext | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Compare two checkpoints, streaming both. `progress(done, total)` counts bytes.

    Raises BadInput where a checkpoint is missing, malformed, truncated or a pickle.
    """
    old, new = open_checkpoint(base), open_checkpoint(trained)
    alignment = align(old, new)
    compared = compare(alignment.pairs, progress)
    judgement = judge(alignment, compared, context, outside_text(old))
    return Audit(old.path, new.path, alignment, compared, judgement, remarks.of(old, new, alignment, judgement))


def audit_session(root: Path, *, progress: Progress | None = None) -> Audit:
    """Compare a session's model with its base; its parameters and metrics explain what did not move.

    Raises BadInput where the session has no trained model yet, or its base is not on this machine.
    """
    from ..core.errors import BadInput
    from ..training import session

    folder, state, parameters = session.load(root)
    if not folder.model.is_dir():
        raise BadInput(
            f"session {root} has no trained model yet (state: {state.state})",
            hint=f"unsloth_fft_tool.py train {word(root)}" + ("" if state.state == "initialized" else " --resume"),
        )
    base, context = locate(state.base_model, parameters.model.revision), context_of(folder, parameters)
    return audit_folders(base, folder.model, context=context, progress=progress)


def context_of(folder: Any, parameters: Any) -> AuditContext | None:
    """What a session's parameters and metrics say (a training.session.Folder and planning.parameters.Parameters)."""
    from ..training import metrics

    lines = [line for line in metrics.read(folder.metrics) if line.kind == "train" and line.learning_rate is not None]
    rates, steps, total = [], 0, 0.0
    for line in lines:
        total += (line.learning_rate or 0.0) * (line.step - steps)
        steps = line.step
        rates.append(line.learning_rate or 0.0)
    optimizer = parameters.optimizer
    return AuditContext(
        exactness=parameters.precision.exactness,
        weights=parameters.precision.weights,
        optimizer=optimizer.name,
        optimizer_args=dict(optimizer.args),
        learning_rate=max(rates, default=0.0) or optimizer.learning_rate,
        total_learning_rate=total,
        steps=steps,
    )


def _totals(findings: Iterable[Finding]) -> dict[str, Any]:
    """Elements, changes and sizes of change over several tensors."""
    found = list(findings)
    moves = sum((finding.comparison.moves for finding in found), Moves())
    squares = sum(finding.comparison.base_squares for finding in found)
    elements, moved = sum(finding.pair.elements for finding in found), sum(finding.moves.changed for finding in found)
    counts = _counts(elements, moves, squares)
    return {**counts, "moved": moved, "moved_fraction": moved / elements if elements else 0.0}


def _rounded_totals(findings: Iterable[Finding]) -> dict[str, Any] | None:
    """The totals after rounding to the narrower type, where a tensor's types differ; others count as they are."""
    found = list(findings)
    narrow = sorted({_narrow(finding) for finding in found if finding.comparison.rounded is not None})
    if not narrow:
        return None
    moves = sum((finding.comparison.rounded or finding.comparison.moves for finding in found), Moves())
    squares = sum(finding.comparison.base_squares for finding in found)
    return {"dtype": "/".join(narrow), **_counts(sum(finding.pair.elements for finding in found), moves, squares)}


def _counts(elements: int, moves: Moves, base_squares: float) -> dict[str, Any]:
    return {
        "elements": elements,
        "changed": moves.changed,
        "changed_fraction": moves.changed / elements if elements else 0.0,
        "largest_change": _finite(moves.largest),
        "relative_change": _finite(math.sqrt(moves.squares / base_squares)) if base_squares else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _narrow(finding: Finding) -> str:
    return floats.narrower(finding.pair.base.dtype, finding.pair.trained.dtype)


def _tensor(finding: Finding) -> dict[str, Any]:
    pair, comparison = finding.pair, finding.comparison
    return {
        "name": pair.name,
        "group": finding.group,
        "layer": finding.layer,
        "shape": list(pair.trained.shape),
        "base_dtype": pair.base.dtype,
        "trained_dtype": pair.trained.dtype,
        **_totals([finding]),
        "after_rounding": _rounded_totals([finding]),
        "unchanged_rows": comparison.unchanged_rows if pair.count_rows else None,
        "cause": finding.cause,
    }


def _by_group(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    parts: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        parts[finding.group].append(finding)
    return [(name, parts[name]) for name in GROUPS if name in parts]


def _by_layer(findings: Iterable[Finding]) -> list[tuple[int | None, list[Finding]]]:
    """Layers in order; what is in none comes last, as layer None."""
    parts: dict[int | None, list[Finding]] = defaultdict(list)
    for finding in findings:
        parts[finding.layer].append(finding)
    return sorted(parts.items(), key=lambda part: (part[0] is None, part[0] or 0))


def _not_finite(findings: Iterable[Finding]) -> Iterable[dict[str, Any]]:
    for finding in findings:
        sides: tuple[tuple[str, NotFinite], ...] = (
            ("base", finding.comparison.base_not_finite),
            ("trained", finding.comparison.trained_not_finite),
        )
        for side, found in sides:
            if found.count:
                yield {
                    "name": finding.pair.name,
                    "side": side,
                    "nan": found.nan,
                    "infinite": found.infinite,
                    "first_index": found.first,
                }
