"""Renders the evidence ledger, references/evidence.json: an index, references/evidence.md, and a page a topic.

`python -m tools.pages.evidence_page` writes the pages; with `--check` it only fails when one is stale.
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tools.pages import evidence
from tools.pages.evidence import Claim, Number, Source
from unsloth_fft.core.errors import EXIT_DONE, BadInput, FFTError
from unsloth_fft.core.files import BUNDLE_ROOT, write_text

FOLDER = BUNDLE_ROOT / "references"
INDEX = "evidence.md"


@dataclass(frozen=True)
class Topic:
    """A page of the ledger: what it is called, and what a reader comes to it with."""

    page: str
    title: str
    question: str


TOPICS = {
    "exactness": Topic(
        "evidence-exactness.md", "Exactness", "which settings keep every update, and what the others lose"
    ),
    "memory": Topic("evidence-memory.md", "Memory", "what fits, and what saves how much"),
    "speed": Topic("evidence-speed.md", "Speed", "what is faster, and by how much"),
    "recipe": Topic("evidence-recipe.md", "Recipes", "which rates, batches and flags of published recipes hold"),
    "data": Topic("evidence-data.md", "Data", "what packing and lengths do"),
    "gpus": Topic("evidence-several-gpus.md", "Several GPUs", "what more cards give, and how"),
    "api": Topic("evidence-arguments.md", "Arguments, versions, backends", "which names and versions work today"),
    "reports": Topic("evidence-reports.md", "What users report", "which reports hold, and what became of them"),
}
PAGES = (INDEX, *(topic.page for topic in TOPICS.values()))
VERDICTS = ("confirmed", "refuted", "depends", "unverified")
_USUAL_ROWS = "h200-2026-11-22-"  # the first day's rows are named by their number alone
# What most commands begin and end with, and what the pages write for it (the index says so).
_SHORT = {
    " --dataset rows.jsonl --output params.json && python scripts/unsloth_fft_tool.py train --params params.json"
    " --session run": " and train",
    " && python scripts/unsloth_fft_tool.py audit --session run": ", audit",
    " --output plan.json && python scripts/unsloth_fft_tool.py benchmark plan.json": " and benchmark",
    " --output rows.jsonl": "",
    " --model Qwen/Qwen2.5-0.5B --gpu h200 --seq-length 2048 --max-steps 100 --learning-rate 1e-5": " 0.5B",
    " --effective-batch 1 --micro-batch 1 --grad-accumulation 1": "",
    " --model meta-llama/Llama-3.1-8B --gpu h200 --seq-length 2048 --max-steps 4 --learning-rate 1e-5": " 8B",
    "python scripts/generate_fft_params.py": "plan",
    "python scripts/unsloth_fft_tool.py ": "",
}

HOW_TO_READ = """\
- **confirmed** holds as stated; **refuted** is false as stated; **depends**: on circumstance, or measured on too few
  shapes to generalize; **unverified** could not be checked here.
- *Measured* rests on rows of `measurements/` (row 06 is `h200-2026-11-22-06`), *derived* on the formula or file named,
  *cited* on the words quoted. Each figure is of one run, peaks are what torch reserved. Unless an entry says otherwise:
  random weights on one H200; 0.5B (Qwen2.5-0.5B) for 100 steps at a constant 1e-5, 8B (Llama-3.1-8B) for four steps of
  32,768 tokens, 2,048 a row. Pretrained weights have other magnitudes; other cards and shapes were not measured.
- *Again* repeats it: `plan 0.5B FLAGS and train` plans such a run for rows.jsonl (`generate_fft_params.py`; one row a
  step where no batch is given), then trains and audits (`unsloth_fft_tool.py`).
  Whole commands are in `evidence.json`."""


def render(claims: Sequence[Claim]) -> dict[str, str]:
    """Every page as Markdown, by its name in references/; each ends in a newline."""
    pages = {
        topic.page: _page(topic, [claim for claim in claims if claim.topic == key]) for key, topic in TOPICS.items()
    }
    return {INDEX: _index(claims), **pages}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evidence_page", description="Render references/evidence*.md from the ledger."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is stale")
    options = parser.parse_args(arguments)
    try:
        for name, text in render(evidence.load()).items():
            if options.check:
                _refuse_stale(name, text)
            else:
                write_text(FOLDER / name, text)
    except FFTError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return EXIT_DONE


def _refuse_stale(name: str, text: str) -> None:
    page = FOLDER / name
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        raise BadInput(
            f"{name} is stale: it differs from what evidence.json renders to",
            hint="python -m tools.pages.evidence_page",
        )


def _index(claims: Sequence[Claim]) -> str:
    head = "| page | answers | claims | " + " | ".join(VERDICTS) + " |\n|---|---|---|" + "---|" * len(VERDICTS)
    counts = [
        _counts(f"[{topic.title}]({topic.page}) | {topic.question}", [claim for claim in claims if claim.topic == key])
        for key, topic in TOPICS.items()
    ]
    ids = [
        f"- {topic.title}: "
        + " ".join(f"[{claim.id}]({topic.page}#{claim.id})" for claim in claims if claim.topic == key)
        for key, topic in TOPICS.items()
    ]
    return "\n".join(
        [
            "# Evidence\n",
            "What holds of the claims made about full fine-tuning with Unsloth, this project's own among them.",
            "Rendered from `evidence.json`; do not edit these pages by hand.\n",
            head, *counts, _counts("all | ", claims),
            "\n## How to read them\n",
            HOW_TO_READ,
            "- *Said* names who says it: the words of web pages are in `evidence.json`, those of files here, read on",
            f"  {_usual_day(claims)} unless dated, in:",
            f"  {_packages(claims)}.",
            "\n## By id\n",
            *ids,
        ]
    ) + "\n"  # fmt: skip


def _packages(claims: Sequence[Claim]) -> str:
    return ", ".join(sorted({f"{s.package} {s.version}" for claim in claims for s in claim.said_by if s.package}))


def _usual_day(claims: Sequence[Claim]) -> str:
    return collections.Counter(source.read for claim in claims for source in claim.said_by).most_common(1)[0][0]


def _counts(label: str, claims: Sequence[Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    return f"| {label} | {len(claims)} | " + " | ".join(str(verdicts.count(v)) for v in VERDICTS) + " |"


def _page(topic: Topic, claims: Sequence[Claim]) -> str:
    entries = "\n".join(_entry(claim) for claim in claims)
    return (
        f"# Evidence: {topic.title}\n\nAnswers {topic.question}. Rendered from `evidence.json`;"
        f" [how to read it]({INDEX}#how-to-read-them).\n\n{entries}\n"
    )


def _entry(claim: Claim) -> str:
    """One claim: what is said and the verdict, what it rests on, what to do, where it stops holding, who says it."""
    claimed = claim.claim.rstrip(".")
    lines = [f'- <a id="{claim.id}"></a>**{claimed}.** {claim.verdict.capitalize()}, {_basis(claim)}']
    lines.append(f"  *Do:* {claim.advice}" + (f" *But:* {claim.limits}" if claim.limits else ""))
    if claim.said_by:
        lines.append("  *Said:* " + "; ".join(_source(source) for source in claim.said_by))
    if claim.basis.command:
        lines.append(f"  *Again:* `{_short(claim.basis.command)}`")
    return "\\\n".join(lines)  # a backslash at a line's end is a line break in Markdown


def _basis(claim: Claim) -> str:
    basis = claim.basis
    rows = "rows " + ", ".join(row.removeprefix(_USUAL_ROWS) for row in basis.rows) if basis.rows else ""
    formula = f"`{basis.formula}`" if basis.formula else ""
    behind = "; ".join(part for part in (rows, formula) if part)
    numbers = "; ".join(_number(number) for number in claim.numbers)
    return basis.kind + (f" ({behind})" if behind else "") + (f": {numbers}." if numbers else ".")


def _number(number: Number) -> str:
    return number.text + ("" if number.unit.startswith("%") else " ") + number.unit


def _source(source: Source) -> str:
    """A page is named, as the claim repeats what it says; of a package's file the words are quoted."""
    dated = "" if source.read == _usual_day(tuple(evidence.claims_by_id().values())) else f", {source.read}"
    if source.url:
        return f"[{source.source}]({source.url})" + (f" ({dated.removeprefix(', ')})" if dated else "")
    return f'"{_escaped(source.quote)}" (`{source.file}`{dated})'


def _short(command: str) -> str:
    for long, short in _SHORT.items():
        command = command.replace(long, short)
    # What only the repository can run is named without its flags.
    return re.sub(r"(-m tools\.\S+) .*", r"\1", command)


def _escaped(text: str) -> str:
    """Keep a quote's own marks from becoming Markdown."""
    return "".join(f"\\{mark}" if mark in "*_`|<>[]" else mark for mark in text)


if __name__ == "__main__":
    sys.exit(main())
