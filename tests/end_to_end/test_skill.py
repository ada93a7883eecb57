"""SKILL.md keeps to the format's limits, and every page it leads to is short, linked and whole."""

from __future__ import annotations

import re

import pytest

import pages
from conftest import ROOT
from tools import build_zip

SKILL = (ROOT / "SKILL.md").read_text(encoding="utf-8")
BODY = SKILL.split("---\n", 2)[2]
MAX_LINES, MAX_TOKENS, LONG_PAGE = 300, 4000, 100


def at_most_tokens(text: str) -> int:
    """More tokens than real tokenizers make of this text.

    On 2026-11-23 the body was 3,709 tokens for Claude's published tokenizer (as litellm 1.109.1 carries it), 3,440 for
    cl100k_base and 3,463 for o200k_base; this count gave 3,885.
    """
    return len(re.findall(r"[A-Za-z]{1,7}|\d{1,3}|[^\sA-Za-z\d]", text))


def test_frontmatter_keeps_the_rules_of_the_format():
    assert build_zip.frontmatter_problems(SKILL) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("name: unsloth-fft", "name: other"), "name is 'other'"),
        (("license:", "licence:"), "key 'licence' is not allowed"),
        (("description: Plan", "description: <b>Plan"), "angle bracket"),
        (("description: Plan", "description: Plan" + " x" * 600), "characters"),
    ],
)
def test_the_frontmatter_check_can_fail(change, problem):
    assert any(problem in found for found in build_zip.frontmatter_problems(SKILL.replace(*change, 1)))


def test_the_frontmatter_is_read_as_the_format_s_own_parser_reads_it():
    parser = pytest.importorskip("skills_ref.parser")
    assert parser.parse_frontmatter(SKILL)[0] == build_zip.frontmatter(SKILL)


def test_the_body_is_short():
    assert len(BODY.splitlines()) < MAX_LINES
    assert at_most_tokens(BODY) < MAX_TOKENS


def test_the_description_says_when_and_when_not():
    frontmatter = build_zip.frontmatter(SKILL)
    assert frontmatter is not None
    use, _, avoid = frontmatter["description"].partition("Not for")
    for word in (
        "fft", "full fine-tuning", "full_finetuning", "exact fine-tuning", "weight updates", "continued pretraining",
        "fit on my GPU", "OOM", "my weights did not change", "Works without GPU and network",
    ):  # fmt: skip
        assert word in use, word
    for word in ("LoRA", "QLoRA", "reinforcement learning", "inference"):
        assert word in avoid, word


def test_the_skill_covers_what_it_promises():
    """The ten commonest questions, each with a command or a remedy, and how to present its answer."""
    sections = re.split(r"^## ", BODY, flags=re.MULTILINE)[1:]
    titles = [section.splitlines()[0] for section in sections]
    assert [title.split(".")[0] for title in titles[:10]] == [str(number) for number in range(1, 11)]
    assert titles[10:] == ["Variants", "Gotchas", "Read when needed"]
    for section in sections[:10]:
        assert "```bash" in section or "hint" in section, section.splitlines()[0]
    words = (
        "--rows",
        "--gpu any",
        "render",
        "audit",
        "predict",
        "--resume",
        "lora",
        "--objective pretrain",
        "--gpus 8",
    )
    assert all(word in BODY for word in words)


def test_every_page_is_linked_from_the_skill_and_from_the_index():
    index = (pages.REFERENCES / "README.md").read_text(encoding="utf-8")
    for page in sorted(pages.REFERENCES.glob("*.md")):
        if page.name != "README.md":
            assert f"references/{page.name}" in SKILL, page.name
            assert f"]({page.name})" in index, page.name


def test_references_are_one_level_deep():
    assert not list(pages.REFERENCES.glob("*/**/*.md"))


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_pages_are_short_and_long_ones_have_contents(page):
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) < MAX_LINES
    if len(lines) > LONG_PAGE and page.name != "SKILL.md":
        sections = [pages.heading_anchor(title) for title in re.findall(r"^## (.+)$", pages.FENCE.sub("", text), re.M)]
        missing = [anchor for anchor in sections if f"](#{anchor})" not in text]
        assert not missing, f"{page.name} has over {LONG_PAGE} lines and its contents lack {missing}"


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_links_and_anchors_resolve(page):
    assert pages.broken_links(page) == []


def test_the_link_check_can_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](missing.md) [b](#two) [c](#one) [d](https://example.org/x)\n", encoding="utf-8")
    assert pages.broken_links(page) == ["missing.md", "#two"]


def test_no_placeholder_text_is_left():
    for page in pages.PAGES:
        left = re.findall(r"\bTODO\b|\bFIXME\b|\bTBD\b|^[A-Z]+_[A-Z]+$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert not left, (page.name, left)
