"""Renders the evidence ledger to references/evidence.md.

`python -m tools.pages.evidence_page` writes the page; with `--check` it only fails when it is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tools.pages import evidence
from tools.pages.evidence import Claim, Number, Source
from unsloth_fft.core.errors import EXIT_DONE, BadInput, FFTError
from unsloth_fft.core.files import BUNDLE_ROOT, write_text

PAGE = BUNDLE_ROOT / "references" / "evidence.md"

TOPICS = {
    "exactness": "Exactness",
    "memory": "Memory",
    "speed": "Speed",
    "recipe": "Recipes and hyperparameters",
    "data": "Data",
    "gpus": "Several GPUs",
    "api": "Arguments, versions, backends",
    "reports": "What users report",
}
_USUAL_ROWS = "h200-2026-11-22-"  # the first day's rows are named by their number alone
VERDICTS = ("confirmed", "refuted", "depends", "unverified")

INTRODUCTION = """# Evidence

Every claim this bundle makes or corrects, rendered from `evidence.json`; do not edit this page by hand.
Verdicts: **confirmed** holds as stated; **refuted** is false as stated; **depends** is true or false by
circumstance, or was measured on too few shapes to generalize; **unverified** could not be checked here.
Rows are named as in `measurements/`: row 06 is `h200-2026-11-22-06` unless said. Peaks are what torch reserved.
"""


def render(claims: Sequence[Claim]) -> str:
    """The page as Markdown, ending in a newline."""
    parts = [INTRODUCTION, _contents(claims)]
    for topic, title in TOPICS.items():
        entries = "\n".join(_entry(claim) for claim in claims if claim.topic == topic)
        parts.append(f"## {title}\n\n{entries}\n")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="evidence_page", description="Render references/evidence.md from its ledger.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")
    options = parser.parse_args(arguments)
    try:
        page = render(evidence.load())
        if options.check:
            _refuse_stale(page)
        else:
            write_text(PAGE, page)
    except FFTError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return EXIT_DONE


def _refuse_stale(page: str) -> None:
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        raise BadInput(
            f"{PAGE.name} is stale: it differs from what evidence.json renders to",
            hint="python -m tools.pages.evidence_page",
        )


def _contents(claims: Sequence[Claim]) -> str:
    head = "| topic | claims | " + " | ".join(VERDICTS) + " |\n|---|---|" + "---|" * len(VERDICTS)
    lines = [
        _counts(f"[{title}](#{_anchor(title)})", [claim for claim in claims if claim.topic == topic])
        for topic, title in TOPICS.items()
    ]
    return "\n".join([head, *lines, _counts("all", claims)]) + "\n"


def _counts(label: str, claims: Sequence[Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    return f"| {label} | {len(claims)} | " + " | ".join(str(verdicts.count(v)) for v in VERDICTS) + " |"


def _anchor(title: str) -> str:
    return title.lower().replace(",", "").replace(" ", "-")


def _entry(claim: Claim) -> str:
    """One claim on two lines: what and what to do, then who says so and what it rests on."""
    limits = f" *Limits:* {claim.limits}" if claim.limits else ""
    sources = "; ".join(_source(source) for source in claim.said_by) or "this project alone"
    return (
        f'- <a id="{claim.id}"></a>`{claim.id}` **{claim.verdict}.** {claim.claim} *Do:* {claim.advice}\n'
        f"  *Said by:* {sources}. *Basis:* {_basis(claim)}{limits}"
    )


def _source(source: Source) -> str:
    place = f"[{source.source}]({source.url})" if source.url else f"{source.source}, `{source.file}`"
    return f'"{_escaped(source.quote)}" ({place}, {source.read})'


def _basis(claim: Claim) -> str:
    basis = claim.basis
    parts = [basis.kind]
    if basis.rows:
        parts.append("rows " + ", ".join(row.removeprefix(_USUAL_ROWS) for row in basis.rows))
    if basis.formula:
        parts.append(f"`{basis.formula}`")
    if claim.numbers:
        parts.append(", ".join(_number(number) for number in claim.numbers))
    if basis.command:
        parts.append(f"again by `{basis.command}`")
    return "; ".join(parts) + "."


def _number(number: Number) -> str:
    return f"{number.text} {number.unit}"


def _escaped(text: str) -> str:
    """Keep a quote's own marks from becoming Markdown."""
    return "".join(f"\\{mark}" if mark in "*_`|<>[]" else mark for mark in text)


if __name__ == "__main__":
    sys.exit(main())
