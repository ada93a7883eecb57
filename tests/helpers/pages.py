"""The pages that people and agents read, and the code and links in them. Shared by the tests of the documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

REFERENCES = ROOT / "references"
PAGES = [ROOT / "README.md", ROOT / "SKILL.md", *sorted(REFERENCES.glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A fenced piece of code on a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page.name}:{self.line}"


def fences(*languages: str, pages: list[Path] = PAGES) -> list[Fence]:
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[2] in languages:
                found.append(Fence(page, text.count("\n", 0, match.start()) + 1, match[2], match[3]))
    return found


def anchors(page: Path) -> set[str]:
    """Everything on a page that `#name` can mean: headings as GitHub spells them, and explicit anchors."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {heading_anchor(title) for title in titles} | set(re.findall(r'<a id="([^"]+)">', text))


def heading_anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    """Targets of every link and picture that is not an address on the web."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def broken_links(page: Path) -> list[str]:
    """Links of the page whose file or anchor does not exist."""
    broken = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
    return broken
