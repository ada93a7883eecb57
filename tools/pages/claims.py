"""Whether a page says where its figures and quotations come from, and whether they are really there.

A figure is a number with a unit (%, times, GiB, tokens/s, TFLOP/s, $ and the like), or in a column whose head has one.
"80GB" in one word is a card's name. Text in code, in fences and in quotation marks is no statement of the page; a
quotation of six words or more is checked as a quotation.

What can vouch for a figure, in the same paragraph, list item or table row, or in the paragraph that leads it in:

    a link to evidence-*.md#id   the number is one that the ledger lists under that id
    a link to another page       the number stands on that page (which has checks of its own)
    row 18, rows 18 and 19       the number is a value of that measured row, rounded to the printed place
    `measurements/FILE.jsonl`    the same, for any row of the file; shares count as percent too
    derived: `formula`           the formula gives the number
    source: link or `file`       read there
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.pages import evidence
from unsloth_fft.core.errors import BadInput

UNIT = (
    r"%|times\b|percent\b|GiB\b|GB/s\b|(?<=[ -])GB\b|MiB\b|MB\b|kB\b|TB\b|tokens/s\b|TFLOP/s\b|USD\b|hours?\b|bytes\b"
)
FIGURE = re.compile(
    r"(?<![\w.,/*-])(?:(?P<money>\$ ?)(?P<usd>\d[\d,]*(?:\.\d+)?)"
    rf"|(?P<number>\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(?:(?: usable| more)?[ -]?(?:{UNIT})|x(?![\w ]*\d)))"
)
QUOTATION = re.compile('["“]([^"“”\n]+)["”]')
UNIT_IN_HEAD = re.compile(r"%|GiB|GB|tokens/s|TFLOP/s|\$|USD|hours|share|times")
NUMBER = re.compile(r"(?<![\w.,/*-])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w])")
QUOTED_WORDS = 6
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")
ROWS = re.compile(r"\brows? ((?:\d{2}(?:, | and | to )?)+)")
FULL_ROW = re.compile(r"\b(h\d+-\d{4}-\d\d-\d\d(?:-[a-z]+)?-\d{2,})\b")
FILE_OF_ROWS = re.compile(r"measurements/([a-z0-9.-]+\.jsonl)")
DERIVED = re.compile(r"derived: `([^`]+)`", re.IGNORECASE)
SOURCE = re.compile(r"source: .*?(\]\(|https://|`)", re.IGNORECASE | re.DOTALL)
# What names a source loosely: a link to a page or address, a file, a row, a count, a day of reading.
NAMES_A_SOURCE = re.compile(
    r"\]\([^#)][^)]*\)|https://|`[\w./-]+\.(?:py|jsonl?|toml|yaml|md)`|\b[\w/-]+/[\w/-]+\.(?:py|jsonl?)\b|\brows? \d\d"
    r"|derived: `|[Ss]ource: |\*\*\(?(?:measured|inferred)|\bread on\b|\(counted"
)
LEDGER_PAGE = re.compile(r"(^|/)evidence(-[a-z-]+)?\.md$")
USUAL_ROWS = "h200-2026-11-22-"


@dataclass(frozen=True)
class Block:
    """A paragraph, list item or table row; `lead` is the paragraph directly before its list or table."""

    line: int
    text: str
    lead: str = ""
    header: str = ""  # of the table that a row belongs to

    @property
    def vouching(self) -> str:
        return f"{self.lead}\n{self.text}"


def problems(path: Path) -> list[str]:
    """One sentence for each figure or quotation of the page that nothing vouches for; empty when all is well."""
    text = path.read_text(encoding="utf-8")
    return [problem for block in blocks(text) for problem in block_problems(block, path)]


def unsourced_sections(path: Path) -> list[str]:
    """Sections (under ##) that state figures without naming any source at all: "page, title: figures"."""
    found = []
    head, *sections = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for section in [f"its head\n{head}", *sections]:
        title, _, text = section.partition("\n")
        stated = [figure for block in blocks(text) for figure in [*figures(block.text), *column_figures(block)]]
        if stated and not NAMES_A_SOURCE.search(text):
            found.append(f"{path.name}, {title}: {', '.join(stated[:8])}")
    return found


def block_problems(block: Block, path: Path) -> Iterator[str]:
    where = f"{path.name} line {block.line}"
    links = LINK.findall(block.vouching)
    for link in links:
        claim = _claim_of(link)
        if claim is not None and claim not in evidence.evidence_ids():
            yield f"{where}: no claim '{claim}' in the ledger"
    for quoted in quotations(block.text):
        if not _quotation_is_known(quoted, block, path):
            yield f'{where}: nobody is on record as saying "{quoted}"'
    for figure in [*figures(block.text), *column_figures(block)]:
        if not any(vouches(figure) for vouches in _witnesses(block, path)):
            yield f"{where}: nothing vouches for '{figure}' in: {' '.join(block.text.split())[:90]}"


def _witnesses(block: Block, path: Path) -> Iterator[Callable[[str], bool]]:
    text = block.vouching
    for link in LINK.findall(text):
        claim = _claim_of(link)
        if claim is not None and claim in evidence.evidence_ids():
            yield functools.partial(_in_ledger, claim)
        elif claim is None and not link.startswith(("http", "#")):
            yield functools.partial(_on_page, (path.parent / link.split("#")[0]).resolve())
    for row in _rows_named(text):
        yield functools.partial(_in_values, tuple(_numbers_in(row)))
    for name in FILE_OF_ROWS.findall(text):
        yield functools.partial(_in_values, _values_of_file(name))
    for formula in DERIVED.findall(text):
        yield functools.partial(_follows_from, formula)
    if SOURCE.search(text):
        yield lambda figure: True


def figures(text: str) -> list[str]:
    """The numbers with a unit that the text states, as printed and without their unit."""
    spoken = QUOTATION.sub(" ", CODE.sub(" ", re.sub(r"\]\([^)]*\)", "]", text)))
    return [match["usd"] or match["number"] for match in FIGURE.finditer(spoken)]


def column_figures(block: Block) -> list[str]:
    """The bare numbers of a table row in the columns whose heading names a unit."""
    found: list[str] = []
    for head, cell in zip(block.header.split("|"), block.text.split("|"), strict=False):
        if UNIT_IN_HEAD.search(CODE.sub(" ", head)) and not figures(cell):
            found += NUMBER.findall(CODE.sub(" ", re.sub(r"\]\([^)]*\)", "]", cell)))
    return found


def quotations(text: str) -> list[str]:
    spoken = CODE.sub(" ", re.sub(r"\]\([^)]*\)", "]", text))
    return [quoted for quoted in QUOTATION.findall(spoken) if len(quoted.split()) >= QUOTED_WORDS]


def blocks(text: str) -> list[Block]:
    """The page's paragraphs, list items and table rows, without frontmatter, fences, headings and HTML comments."""
    found: list[Block] = []
    lead, header, start, fenced = "", "", 0, False
    current: list[str] = []
    lines = text.splitlines()
    if lines and lines[0] == "---":
        end = lines.index("---", 1)
        lines[: end + 1] = [""] * (end + 1)

    def close() -> None:
        nonlocal lead, header, current
        if not current:
            return
        is_row = current[0].lstrip().startswith("|")
        header = (header or current[0]) if is_row else ""
        block = Block(start, "\n".join(current), lead, header)
        if not (is_row and current[0] == header):
            found.append(block)
        if not _is_item(current[0]):
            lead = block.text
        current = []

    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("```"):
            close()
            fenced = not fenced
            continue
        if fenced or line.startswith("<!--"):
            close()
            continue
        if line.startswith("#"):
            close()
            lead = header = ""
            continue
        if not line.strip():
            close()
            header = ""
            continue
        if _is_item(line):
            close()
        if not current:
            start = number
            if not _is_item(line):
                lead = ""
        current.append(line)
    close()
    return found


def _is_item(line: str) -> bool:
    return bool(re.match(r"\s*(?:[-*] |\d+\. |\|)", line))


def _claim_of(link: str) -> str | None:
    page, _, anchor = link.partition("#")
    return anchor if LEDGER_PAGE.search(page) and anchor else None


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def _in_ledger(claim: str, figure: str) -> bool:
    return figure in evidence.quoted_numbers(claim)


def _on_page(page: Path, figure: str) -> bool:
    if not page.is_file() or page.suffix not in (".md", ".json", ".jsonl"):
        return False
    return re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", page.read_text(encoding="utf-8")) is not None


def _rows_named(text: str) -> Iterator[evidence.Row]:
    known = evidence.measured_rows()
    names = set(FULL_ROW.findall(text))
    for group in ROWS.findall(text):
        names |= {USUAL_ROWS + number for number in re.findall(r"\d{2}", group)}
    for name in sorted(names):
        if name not in known:
            raise BadInput(f"no measured row {name}", hint="see references/measurements/")
        yield known[name]


@functools.cache
def _values_of_file(name: str) -> tuple[float, ...]:
    lines = (evidence.MEASUREMENTS / name).read_text(encoding="utf-8").splitlines()
    values = [number for line in lines for number in _numbers_in(json.loads(line))]
    return (*values, *(100 * value for value in values if value <= 1))


def _numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _numbers_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers_in(inner)


def _in_values(values: tuple[float, ...], figure: str) -> bool:
    wanted, slack = evidence.value_of(figure), evidence.half_unit(figure) * (1 + 1e-9)
    return any(abs(value - wanted) <= slack for value in values)


def _follows_from(formula: str, figure: str) -> bool:
    """The first part of `a = b = c` that is arithmetic gives the figure."""
    for part in formula.split("="):
        try:
            value = evidence.evaluate(part.strip().replace(",", ""), [])
        except BadInput:
            continue
        if _in_values((value,), figure):
            return True
    return False


def _quotation_is_known(quoted: str, block: Block, path: Path) -> bool:
    if SOURCE.search(block.vouching):
        return True
    wanted = _plain(quoted)
    if any(wanted in _plain(source.quote) for claim in evidence.load() for source in claim.said_by):
        return True
    pages = [(path.parent / link.split("#")[0]).resolve() for link in LINK.findall(block.vouching) if "://" not in link]
    return any(page.is_file() and page != path and wanted in _plain(page.read_text("utf-8")) for page in pages)


def _plain(text: str) -> str:
    return " ".join(text.replace("’", "'").replace("\\", "").split()).strip(".,").lower()
