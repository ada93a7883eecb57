"""An audit as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.columns import aligned
from ..core.shell_words import word
from ..core.terminal import fold, pasteable

SHOWN = 8
"""Tensors named under a cause before the rest is only counted."""


def render(audit: dict[str, Any], session: Path | None = None) -> str:
    """The JSON audit as text: verdict, what to do, groups, what did not move and why, worst first.

    `session` is the folder that was audited, where it was one.
    """
    parts = [
        f"verdict    {audit['verdict']} (from {_BASIS[audit['basis']]})",
        f"weights    {audit['changed']:,} of {audit['elements']:,} changed ({share(audit['changed_fraction'])})",
    ]
    rounded = audit["after_rounding"]
    if rounded:
        parts.append(
            f"rounded    {rounded['changed']:,} ({share(rounded['changed_fraction'])}) differ after rounding both"
            f" to {rounded['dtype']}"
        )
    parts += [fold(line, 11) for line in _next_step(audit, session)]
    parts += ["", _groups(audit["groups"])] if audit["groups"] else []
    parts += [line for cause in audit["causes"] for line in _cause(cause, audit["tensors"])]
    parts += [line for line in _oddities(audit) if line]
    return "\n".join(parts)


def _next_step(audit: dict[str, Any], session: Path | None) -> list[str]:
    """What to do now: mend the worst cause, or go on."""
    if audit["verdict"] == "incomparable":
        return ["remedy     name as BASE the checkpoint that training began from"]
    remedies = [cause["remedy"] for cause in audit["causes"] if cause["remedy"]]
    if remedies:
        return [f"remedy     {_safe(str(remedies[0]))}"]
    return [] if session is None else [pasteable(f"next: unsloth_fft_tool.py eval {word(session)}")]


def share(fraction: float) -> str:
    """A share in percent that never rounds something to nothing or nearly all to all."""
    if 0 < fraction < 0.0001 or 0.9999 < fraction < 1:
        return "<0.01%" if fraction < 0.5 else ">99.99%"
    return f"{fraction:.2%}"


_BASIS = {"data": "the files alone", "session": "the files and the session's settings"}


def _groups(groups: dict[str, Any]) -> str:
    rows = [("group", "weights", "changed", "share", "largest change", "relative change")]
    for name, group in groups.items():
        rows.append(
            (
                name,
                f"{group['elements']:,}",
                f"{group['changed']:,}",
                share(group["changed_fraction"]),
                _number(group["largest_change"]),
                _number(group["relative_change"]),
            )
        )
    return aligned(rows, figures=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cause(cause: dict[str, Any], tensors: Sequence[dict[str, Any]]) -> list[str]:
    known = {tensor["name"]: tensor for tensor in tensors}
    head = "explained  " if cause["explained"] else "not moved  "
    lines = ["", fold(f"{head}{cause['elements']:,} weights: {cause['cause']}: {_safe(cause['explanation'])}", 11)]
    for name in cause["tensors"][:SHOWN]:
        tensor = known[name]
        lines.append(f"  {share(tensor['moved_fraction']):>8}  {_shown(name)}")
    if len(cause["tensors"]) > SHOWN:
        lines.append(f"  and {len(cause['tensors']) - SHOWN} more tensors")
    return lines


def _shown(name: str) -> str:
    """A tensor's name, which is whatever a file says, as a terminal may safely have it."""
    safe = _safe(name)
    return safe if len(safe) <= 150 else f"{safe[:147]}..."


def _safe(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _oddities(audit: dict[str, Any]) -> list[str]:
    lines = [
        f"not finite {item['side']} {_shown(item['name'])}: {item['nan']:,} NaN, {item['infinite']:,} infinite,"
        f" the first at index {item['first_index']}"
        for item in audit["not_finite"]
    ]
    lines += [f"missing    {_shown(name)} (only in the base)" for name in audit["missing_tensors"]]
    lines += [f"extra      {_shown(name)} (only in the trained checkpoint)" for name in audit["extra_tensors"]]
    lines += [f"mismatch   {_shown(item['name'])}: {item['reason']}" for item in audit["mismatched_tensors"]]
    lines += [
        f"resized    {_shown(item['name'])}: {item['base_rows']:,} rows against {item['trained_rows']:,};"
        " common rows compared"
        for item in audit["extra_rows"]
    ]
    lines += [f"remark     {_safe(text)}" for text in audit["remarks"]]
    return ["", *(fold(line, 11) for line in lines)] if lines else []
