"""Every figure and quotation on a page says where it comes from, and is really there; tools/claims.py has the rule."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
from pathlib import Path

import pytest

import pages
from conftest import ROOT, SCRIPTS
from tools.measurements import predicted_first, row_errors, rows, whole_runs
from tools.pages import benchmarks_page, claims, evidence_page, gpu_choice_page

REFERENCES = pages.REFERENCES

# Pages held to the rule block by block.
HELD = ("SKILL.md", "README.md", "agent-recipes.md", "glossary.md", "several-gpus.md", "troubleshooting.md")
# Generated pages, with the test that holds them to what they are generated from.
GENERATED = {
    "benchmarks.md": ("tests/tools/test_claims.py", "rendered from the measured rows"),
    **dict.fromkeys(evidence_page.PAGES, ("tests/tools/test_evidence.py", "rendered from the ledger")),
    "gpu-choice-and-cost.md": ("tests/tools/test_claims.py", "rendered from the planner's answers"),
    "model-catalogue.md": ("tests/models/test_catalogue.py", "counts held equal to transformers' own"),
}
# Pages about one source that stands at their head, or about their own measurements. Their tables are held by tests of
# their own; here each section that states figures must at least say where they come from.
BY_SECTION = {
    "data.md": ("tests/data_doctor/test_data_doctor.py", "limits and rules of the code it describes"),
    "exactness.md": ("tests/training/test_exactness_cpu.py", "a derivation, and its own measured rows"),
    "hardware.md": ("tests/hardware/test_hardware.py", "a table with a source for each card"),
    "handoff.md": ("tests/rendering/test_render.py", "what each target does, and what checked it"),
    "hyperparameters.md": ("tests/planning/test_defaults.py", "recipes, each with its file and commit"),
    "memory-model.md": ("tests/estimates/test_memory_model.py", "the model's own terms"),
    "predicted-and-measured.md": ("tests/estimates/test_memory_model.py", "its errors on measured rows and whole runs"),
    "upstream-notes.md": ("tests/tools/test_evidence.py", "quotations that a test finds in the installed files"),
}


# Sections with figures that have no source in them, and why that is right.
EXCUSED = {
    ("data.md", "Limits"): "limits of the reader, held by tests/data/test_malformed_data.py",
    ("hardware.md", "The table"): "every row's source is a key of gpus.json, listed under Sources",
    ("hardware.md", "Host link"): "computed from the bus's rate and coding, shown in the sentence",
    ("hardware.md", "Reading the machine"): "the code's own constant, explained under Usable memory",
    ("hardware.md", "Left out"): "differences of two cards' published figures",
    (
        "hyperparameters.md",
        "Defaults",
    ): "the planner's own defaults, held equal to the code by test_defaults.py",
    ("hyperparameters.md", "Why these values"): "repeats figures of the tables above it",
}


def path_of(name: str) -> Path:
    return ROOT / name if name == "SKILL.md" else REFERENCES / name


def test_every_page_is_held_to_one_rule_and_its_own_test_exists():
    named = [*HELD, *GENERATED, *BY_SECTION]
    assert len(named) == len(set(named))
    assert {page.name for page in REFERENCES.glob("*.md")} | {"SKILL.md"} <= set(named)
    for test, _ in [*GENERATED.values(), *BY_SECTION.values()]:
        assert (ROOT / test).is_file(), test


@pytest.mark.parametrize("name", HELD)
def test_figures_and_quotations_are_vouched_for(name):
    assert claims.problems(path_of(name)) == []


@pytest.mark.parametrize("name", BY_SECTION)
def test_sections_with_figures_name_their_source(name):
    if not path_of(name).exists():
        pytest.skip(f"{name} does not exist yet")
    unexcused = [
        found
        for found in claims.unsourced_sections(path_of(name))
        if (name, found.removeprefix(f"{name}, ").rsplit(": ", 1)[0]) not in EXCUSED
    ]
    assert unexcused == []


def test_no_section_is_excused_in_vain():
    """An excuse that nothing needs any more would hide the next figure without a source."""
    found = {
        (name, line.removeprefix(f"{name}, ").rsplit(": ", 1)[0])
        for name in BY_SECTION
        if path_of(name).exists()
        for line in claims.unsourced_sections(path_of(name))
    }
    assert set(EXCUSED) <= found


def test_the_page_of_benchmarks_says_what_the_rows_say_now():
    assert benchmarks_page.main(["--check"]) == 0, "run: python -m tools.pages.benchmarks_page"


def test_the_figures_that_were_predicted_first_are_the_rows():
    assert predicted_first.figures() in path_of("predicted-and-measured.md").read_text(encoding="utf-8")


def test_the_table_of_whole_runs_is_what_the_model_says():
    assert whole_runs.table(whole_runs.read_runs()) in path_of("predicted-and-measured.md").read_text(encoding="utf-8")


def test_the_errors_on_measured_rows_are_what_the_model_says():
    page, measured = path_of("predicted-and-measured.md").read_text(encoding="utf-8"), rows.read_rows()
    for part in (row_errors.summary(measured), row_errors.by_kind(measured), row_errors.furthest(measured)):
        assert part in page


def test_the_rule_is_not_idle():
    """The pages do state figures: a rule that found none would hold anything."""
    skill = [claims.figures(block.text) for block in claims.blocks(path_of("SKILL.md").read_text(encoding="utf-8"))]
    assert sum(map(len, skill)) >= 5


BROKEN = {
    "a figure without a source": "It was 31% faster.",
    "a figure the ledger does not have": "It left [84% unmoved](evidence-exactness.md#exact-by-default).",
    "a claim the ledger does not have": "It left [85.0% unmoved](evidence-exactness.md#no-such-claim).",
    "a figure that is not in the row": "It ran at 11,500 tokens/s (row 28).",
    "a figure the other page lacks": "It has [47.9 GiB](hardware.md#the-table).",
    "a formula that gives something else": "That is 61 GiB (derived: `8 * 8.03e9 / 2**30`).",
    "a figure in a column with a unit": "| setting | tokens/s |\n|---|---|\n| plain | 12,000 |",
    "money": "It costs $3 an hour.",
    "an invented quotation": 'They say "our kernels make everything ten times faster than before".',
    "a source in another paragraph": "See [it](evidence-exactness.md#exact-by-default).\n\nIt left 85.0% unmoved.",
    "a marker in code": "It was 31% faster `row 28`.",
}
SOUND = {
    "the ledger": "It left [85.0% unmoved](evidence-exactness.md#exact-by-default).",
    "a row": "It ran at 11,493 tokens/s (row 28).",
    "another page": "It has [44.39 GiB](hardware.md#the-table).",
    "a formula": "That is 59.8 GiB (derived: `8 * 8.03e9 / 2**30`).",
    "a lead paragraph": "As [measured](evidence-exactness.md#exact-by-default):\n\n- it left 85.0% unmoved",
    "code and names": "Use `--vram-gib 48 GiB` on an A100 80GB with 8B parameters, 4 x 4.",
    "a known quotation": 'They say "FFT in Unsloth is strictly 100% exact".',
    "a file of rows": "At 1e-5, 15.51% (`measurements/survival-cpu-2026-11-23.jsonl`).",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_the_rule_can_fail(text):
    assert problems_of(text)


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_the_rule_lets_sound_statements_pass(text):
    assert problems_of(text) == []


def test_a_section_without_a_source_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# P\n\n## One\n\nIt was 31% faster.\n\n## Two\n\n31% (`a/b.py`).\n", encoding="utf-8")
    assert claims.unsourced_sections(page) == ["page.md, One: 31"]


def problems_of(text: str) -> list[str]:
    """What the rule says of a page with this text, as if it stood among the references."""
    page = REFERENCES / "a-page-that-is-not-there.md"
    return [problem for block in claims.blocks(text) for problem in claims.block_problems(block, page)]


def test_the_page_of_cards_and_costs_says_what_the_planner_says_now():
    assert gpu_choice_page.PAGE.read_text(encoding="utf-8") == gpu_choice_page.render()


def test_a_stale_page_of_cards_is_refused(tmp_path, monkeypatch, capsys):
    stale = tmp_path / "page.md"
    stale.write_text("old", encoding="utf-8")
    monkeypatch.setattr(gpu_choice_page, "PAGE", stale)
    monkeypatch.setattr(gpu_choice_page, "render", lambda: "what the planner says")
    assert gpu_choice_page.main(["--check"]) == 2
    assert stale.read_text(encoding="utf-8") == "old"
    assert "is stale" in capsys.readouterr().err


def test_figures_of_the_answer_stand_in_the_tables():
    page = gpu_choice_page.PAGE.read_text(encoding="utf-8")
    answer = page.split("## Answer")[1].split("\n## ")[0]
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    stated = re.findall(r"(?<![\w.,])\d+(?:,\d{3})*(?![\w]|,\d)", answer)
    assert len(stated) > 15
    assert [number for number in stated if number not in tables] == []


# Troubleshooting quotes messages: every one must be in the code that prints it.


def symptoms() -> list[tuple[str, str]]:
    """(message, who prints it) of each table row that starts with a message and names its printer."""
    text = (REFERENCES / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^|]+)` \| ([^|]+) \|", text, re.MULTILINE)
    return [(message, printer.strip()) for message, printer in rows if " " in message and "`, `" not in message]


@functools.cache
def own_messages() -> str:
    """Every string of this bundle's code, the parts of an f-string joined by a mark that stands for its values."""
    found = []
    for path in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def package_text(name: str) -> str | None:
    top = name.split("/")[0]
    try:
        file = importlib.metadata.distribution(top).locate_file(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(file))
    if not path.is_file():
        return None
    if path.suffix == ".so":
        return path.read_bytes().decode("latin-1")
    # Adjacent literals of one message run over several lines.
    return re.sub(r'"\s*\n\s*[rf]{0,2}"', "", path.read_text(encoding="utf-8"))


def test_the_page_quotes_many_messages():
    assert len(symptoms()) >= 50


@pytest.mark.parametrize(("message", "printer"), symptoms(), ids=[message[:40] for message, _ in symptoms()])
def test_quoted_messages_exist(message, printer):
    in_package = re.fullmatch(r"`([\w./-]+)`", printer)
    text = package_text(in_package[1]) if in_package else own_messages()
    if text is None:
        pytest.skip(f"{printer} is not installed here")
    missing = [part for part in message.split("...") if part.strip() and part.strip() not in text]
    assert not missing


def test_train_starts_torchrun_as_the_pages_say():
    """several-gpus.md names the flags and the words; the launcher and the command have them."""
    page = (REFERENCES / "several-gpus.md").read_text(encoding="utf-8")
    launcher = (SCRIPTS / "unsloth_fft" / "training" / "launcher.py").read_text(encoding="utf-8")
    command = (SCRIPTS / "unsloth_fft" / "commands" / "train.py").read_text(encoding="utf-8")
    assert "torch.distributed.run" in launcher and "one process a GPU through torchrun" in page
    for flag in ("--rendezvous", "--follow", "--resume"):
        assert f'"{flag}"' in command and flag in page
    for name in ("several-gpus.md", "handoff.md", "troubleshooting.md"):
        assert "train runs one process" not in (REFERENCES / name).read_text(encoding="utf-8")
