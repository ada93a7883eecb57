"""What the README.md of a Hub data set says of its files: subsets (`configs`), their splits and patterns.

Read line by line, without a YAML package: the Hub writes few shapes. What is written otherwise is refused, because a
folder whose README is passed over would be learned whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import BadInput

_HEAD = re.compile(r"---\s*\n(.*?)\n---", re.DOTALL)
_BLOCK = re.compile(r"^configs:[ \t]*\n((?:[ \t-].*\n?|\s*\n)*)", re.MULTILINE)
_INLINE = re.compile(r"^configs:[ \t]*(?!\[[ \t]*\]|null|~)\S", re.MULTILINE)
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)


@dataclass
class Subset:
    """Patterns of files by split, below `folder`; without any, names of files there say which split they are."""

    patterns: dict[str, list[str]] = field(default_factory=dict)
    folder: str = ""
    is_default: bool = False


def subsets(readme: Path) -> dict[str, Subset]:
    """{name: what it holds} as `readme` declares it; empty where it declares nothing. Raises BadInput."""
    if not readme.is_file():
        return {}
    head = _HEAD.match(readme.read_text(encoding="utf-8-sig", errors="replace"))
    text = _COMMENT.sub("", head.group(1)) + "\n" if head else ""
    block = _BLOCK.search(text)
    if _INLINE.search(text) or (block and re.search(r"[{}]", block.group(1))):
        raise BadInput(
            f"{readme} declares its files (configs) in one line of braces, which is not read here",
            hint="name the files themselves, or write one entry a line as the Hub does",
        )
    return _parsed(block.group(1)) if block else {}


def _parsed(block: str) -> dict[str, Subset]:
    found: dict[str, Subset] = {}
    name, split, subset = "default", "train", Subset()
    for line in block.splitlines():
        text = line.strip()
        if re.match(r"\s*- (config_name|data_files|data_dir|default):", line):  # a new entry of the list
            _keep(found, name, subset)
            name, split, subset = "default", "train", Subset()
        key, _, value = text.removeprefix("- ").partition(":")
        values = [part.strip(" \"'") for part in value.strip(" []").split(",") if part.strip(" \"'")]
        if key == "config_name":
            name = values[0] if values else name
        elif key == "split":
            split = values[0] if values else split
        elif key in ("path", "data_files"):
            subset.patterns.setdefault(split, []).extend(values)
        elif key == "data_dir" and values:
            subset.folder = values[0].rstrip("/")
        elif key == "default":
            subset.is_default = values == ["true"]
        elif text.startswith("- ") and not value:
            subset.patterns.setdefault(split, []).append(key.strip(" \"'"))
    _keep(found, name, subset)
    return found


def _keep(found: dict[str, Subset], name: str, subset: Subset) -> None:
    subset.patterns = {split: patterns for split, patterns in subset.patterns.items() if patterns}
    if subset.patterns or subset.folder:
        found[name] = subset
