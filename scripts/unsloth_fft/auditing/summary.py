"""The short form of an audit or a prediction: what one screen, or one reader with little room, needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..core import terminal

MOST_CHARACTERS: Final = 1_950
"""Of the whole text as printed; readers were promised less than 2,000."""

WORST: Final = 8
"""Tensors, causes or points of a curve that are named at most."""

_TEXT: Final = 240
"""Characters of one text before it is cut."""


def of_audit(audit: dict[str, Any]) -> dict[str, Any]:
    """An audit (schemas/audit.schema.json) without layers and most tensors; the worst tensors come first.

    `left_out` counts what the whole has besides.
    """
    explained = {None, *(cause["cause"] for cause in audit["causes"] if cause["explained"])}
    worst = sorted(
        audit["tensors"],
        key=lambda tensor: (tensor["cause"] in explained, tensor["moved_fraction"], -tensor["elements"]),
    )
    short: dict[str, Any] = {
        "schema_version": audit["schema_version"],
        "verdict": audit["verdict"],
        "basis": audit["basis"],
        "summary": _cut(audit["summary"]),
        "elements": audit["elements"],
        "changed": audit["changed"],
        "changed_fraction": _rounded(audit["changed_fraction"]),
        "moved_fraction": _rounded(audit["moved_fraction"]),
        "relative_change": _rounded(audit["relative_change"]),
        "groups": {name: _shares(group) for name, group in audit["groups"].items()},
        "causes": [],
        "tensors": [],
        "unchanged_tensors": [],
        "remarks": [],
    }
    wanted = {
        "remarks": [_cut(text) for text in audit["remarks"]],
        "causes": [
            {"cause": cause["cause"], "explained": cause["explained"], "remedy": _cut(cause["remedy"])}
            for cause in audit["causes"]
        ],
        "tensors": [
            {
                "name": tensor["name"],
                "elements": tensor["elements"],
                "changed": tensor["changed"],
                "moved_fraction": _rounded(tensor["moved_fraction"]),
                "cause": tensor["cause"],
            }
            for tensor in worst
        ],
        "unchanged_tensors": audit["unchanged_tensors"],
        "not_finite": audit["not_finite"],
        "missing_tensors": audit["missing_tensors"],
        "extra_tensors": audit["extra_tensors"],
        "mismatched_tensors": audit["mismatched_tensors"],
        "unused_experts": audit["unused_experts"],
    }
    return _filled(short, {name: items for name, items in wanted.items() if items}, audit)


def of_prediction(prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction (schemas/prediction.schema.json) with the points of its curve that are nearest to its rate."""
    short = {**prediction, "curve": []}
    for name in ("model", "note", "explanation", "remedy"):
        short[name] = _cut(short[name])
    rate = prediction["learning_rate"]
    nearest = sorted(
        prediction["curve"], key=lambda point: max(point["learning_rate"] / rate, rate / point["learning_rate"])
    )
    found = _filled(short, {"curve": nearest}, prediction)
    found["curve"] = sorted(found["curve"], key=lambda point: float(point["learning_rate"]))
    return found


def _filled(short: dict[str, Any], wanted: dict[str, Sequence[Any]], whole: dict[str, Any]) -> dict[str, Any]:
    """`short` with as much of each wanted list as there is room for, in turns, and the count of what was left out."""
    lists: dict[str, list[Any]] = {name: [] for name in wanted}
    full: set[str] = set()
    for turn in range(WORST):
        for name, items in wanted.items():
            if name in full or turn >= len(items):
                continue
            trial = {**lists, name: [*lists[name], items[turn]]}
            if _length({**short, **trial, "left_out": _left_out({**short, **trial}, whole)}) <= MOST_CHARACTERS:
                lists = trial
            else:
                full.add(name)  # no later item takes the place of an earlier one
    return {
        **short,
        **{name: items for name, items in lists.items() if items},
        "left_out": _left_out({**short, **lists}, whole),
    }


def _left_out(short: dict[str, Any], whole: dict[str, Any]) -> dict[str, int]:
    """How many items of each list of the whole are not in the short form."""
    counts = {name: len(items) - len(short.get(name, ())) for name, items in whole.items() if isinstance(items, list)}
    return {name: count for name, count in counts.items() if count}


def _length(value: dict[str, Any]) -> int:
    return len(terminal.lines(value))


def _shares(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "elements": group["elements"],
        "changed": group["changed"],
        "changed_fraction": _rounded(group["changed_fraction"]),
    }


def _rounded(value: float | None) -> float | None:
    """Five digits, but never all where it was nearly all."""
    if value is None or value in (0, 1):
        return value
    found = float(f"{value:.5g}")
    return value if found == 1 else found


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _TEXT else f"{text[: _TEXT - 3]}..."
