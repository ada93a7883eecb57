"""The statements that tests/training/test_every_type_*.py make of each model type, and how the types are dealt out."""

from __future__ import annotations

from typing import Any

from tiny_configs import MULTIMODAL
from unsloth_fft.models.families import FAMILIES

TYPES = [*sorted(FAMILIES), *MULTIMODAL]
# Two files, so that two workers share the time.
FIRST, SECOND = TYPES[::2], TYPES[1::2]


def assert_went_the_whole_way(seen: dict[str, Any]) -> None:
    """Planned with the right count, trained, audited as full, exported, and loaded again name by name."""
    assert "raised" not in seen, seen
    codes = {name: seen.get(name) for name in ("plan", "init", "train", "audit", "export")}
    assert codes == dict.fromkeys(codes, 0), (codes, seen["said"])
    assert seen["counted"] == seen["parameters"]
    assert seen["verdict"] == "full", seen["causes"]
    assert seen["unmatched"] == {}
    assert seen["switched"] == seen["changed_files"] == seen["moved_towers"] == []
