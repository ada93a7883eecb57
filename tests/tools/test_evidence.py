"""The evidence ledger holds together: its words are really there, and its numbers are what the rows say."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest

from tools.pages import evidence, evidence_page
from unsloth_fft.core.errors import BadInput
from unsloth_fft.core.files import BUNDLE_ROOT

CLAIMS = evidence.load()
IDS = [claim.id for claim in CLAIMS]
PACKAGE_QUOTES = [
    pytest.param(source, id=f"{claim.id}:{source.file}:{at}")
    for claim in CLAIMS
    for at, source in enumerate(claim.said_by)
    if source.package
]


def test_ids_are_unique_and_offered_to_other_tests():
    assert len(IDS) == len(set(IDS)) == len(evidence.evidence_ids())


def test_the_claims_of_the_sources_are_covered():
    wanted = {
        "exact-by-default", "gc-unsloth-30-percent-less", "gc-unsloth-2x-batch", "unsloth-2x-faster",
        "get-peft-model-in-fft", "adamw-8bit-a-must", "batch-1-recipe", "fft-8b-fits-48gb", "rule-24gb-for-7b",
        "llama-8b-60gb", "vram-table-16bit-column", "learning-rate-table", "flash-attention-2-and-triton",
        "fp16-flags", "load-in-4bit-always", "less-vram-30-60-percent", "checkpointing-costs-20-30-percent",
        "packing-5x-faster", "device-map-auto-multi-gpu", "deepspeed-zero-offload",
    }  # fmt: skip
    assert wanted <= evidence.evidence_ids()


def test_every_claim_has_a_source_a_row_or_a_derivation():
    for claim in CLAIMS:
        assert claim.said_by or claim.basis.rows or claim.basis.formula, claim.id


def test_measured_rows_are_valid_and_every_row_a_claim_names_exists():
    assert evidence.measured_rows()
    for claim in CLAIMS:
        evidence.rows_of(claim)


def test_numbers_equal_the_rows_to_the_place_printed():
    wrong = [
        f"{claim.id}: {number.text} {number.unit}: {evidence.evaluate(number.expression, evidence.rows_of(claim))}"
        for claim in CLAIMS
        for number in claim.numbers
        if number.expression and not evidence.agrees(number, evidence.rows_of(claim))
    ]
    assert not wrong


def test_cited_numbers_stand_in_a_quote():
    for claim in CLAIMS:
        quotes = " ".join(source.quote for source in claim.said_by)
        for number in claim.numbers:
            if number.cited:
                assert re.search(rf"(?<![0-9.]){re.escape(number.text)}(?![0-9])", quotes), (claim.id, number.text)


def test_numbers_refer_only_to_rows_of_their_own_claim():
    for claim in CLAIMS:
        positions = {int(at) for n in claim.numbers for at in re.findall(r"rows\[([0-9]+)\]", n.expression)}
        assert all(at < len(claim.basis.rows) for at in positions), claim.id


def test_quotes_are_short():
    long = [(claim.id, s.quote) for claim in CLAIMS for s in claim.said_by if len(s.quote.split()) >= 25]
    assert not long


@pytest.mark.parametrize("source", PACKAGE_QUOTES)
def test_package_quote_is_in_the_installed_file(source):
    """Fails when a package changes its words: read the place again and correct the claim."""
    try:
        installed = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{source.package} is not installed here")
    text = installed.locate_file(source.file).read_text(encoding="utf-8")
    assert _words(source.quote) in _words(text)


def test_rendered_pages_are_fresh():
    for name, text in evidence_page.render(CLAIMS).items():
        assert (evidence_page.FOLDER / name).read_text(encoding="utf-8") == text, (
            f"{name}: run {evidence_page.__name__}"
        )


def test_check_fails_on_a_stale_page_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evidence_page, "FOLDER", tmp_path)
    assert evidence_page.main([]) == 0
    assert evidence_page.main(["--check"]) == 0
    stale = tmp_path / "evidence-speed.md"
    stale.write_text("old", encoding="utf-8")
    assert evidence_page.main(["--check"]) != 0
    assert stale.read_text(encoding="utf-8") == "old"
    assert "hint:" in capsys.readouterr().err


def test_pages_show_every_claim_once_and_the_index_names_it():
    pages = evidence_page.render(CLAIMS)
    for claim in CLAIMS:
        page = evidence_page.TOPICS[claim.topic].page
        assert pages[page].count(f'<a id="{claim.id}"></a>') == 1
        assert f"]({page}#{claim.id})" in pages["evidence.md"]
        assert claim.basis.kind in pages[page] and claim.verdict.capitalize() in pages[page]
    assert sum(text.count('<a id="') for text in pages.values()) == len(CLAIMS)


def test_ids_that_plans_and_advice_name_exist():
    """`references/evidence.md, ID` in a warning, and `evidence:ID` under a symptom, are looked up in the index."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (BUNDLE_ROOT / "scripts").rglob("*.py"))
    named = set(re.findall(r'references/evidence\.md,(?:"\s+f?" ?| )([a-z0-9-]+)', code))
    named |= set(re.findall(r"evidence:([a-z0-9]+(?:-[a-z0-9]+)+)", code))
    assert len(named) >= 5 and named <= evidence.evidence_ids()


def test_upstream_notes_quote_the_installed_files():
    notes = (BUNDLE_ROOT / "references" / "upstream-notes.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^- `([a-z_]+)/([^`]+)`: \"(.+)\"$", notes, re.MULTILINE)
    assert len(quoted) >= 15
    for top, rest, words in quoted:
        try:
            files = importlib.metadata.distribution(_DISTRIBUTION.get(top, top))
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{top} is not installed here")
        text = files.locate_file(f"{top}/{rest}").read_text(encoding="utf-8")
        assert _words(words) in _words(text), (top, rest, words)


def test_quoted_numbers_by_id():
    assert "15.0" in evidence.quoted_numbers("exact-by-default")
    with pytest.raises(BadInput, match="no claim"):
        evidence.quoted_numbers("no-such-claim")


def test_repeated_ids_are_refused(tmp_path):
    value = json.loads(evidence.LEDGER.read_text(encoding="utf-8"))
    value["claims"] = [value["claims"][0]] * 2
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(BadInput, match="repeats"):
        evidence.load(path)


@pytest.mark.parametrize("change", [{"verdict": "perhaps"}, {"id": "Not Kebab"}, {"said_by": [{"source": "abc"}]}])
def test_a_broken_claim_is_refused(tmp_path, change):
    value = json.loads(evidence.LEDGER.read_text(encoding="utf-8"))
    value["claims"] = [value["claims"][0] | change]
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(BadInput, match=r"evidence\.schema\.json"):
        evidence.load(path)


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "rows[9].tok_s", "rows[0].nothing", "open('x')", "1/0", "rows", "2 +"]
)
def test_expressions_are_arithmetic_and_nothing_else(expression):
    with pytest.raises(BadInput, match="cannot evaluate"):
        evidence.evaluate(expression, [{"tok_s": 1.0}])


def test_rounding_is_judged_at_the_printed_place():
    rows = [{"tok_s": 8110.124}]
    assert evidence.agrees(evidence.Number("8,110", "tokens/s", "rows[0].tok_s"), rows)
    assert not evidence.agrees(evidence.Number("8,111", "tokens/s", "rows[0].tok_s"), rows)
    assert not evidence.agrees(evidence.Number("8110.2", "tokens/s", "rows[0].tok_s"), rows)


_DISTRIBUTION = {"unsloth_cli": "unsloth", "studio": "unsloth"}


def _words(text: str) -> str:
    """Text with comment marks and line breaks taken out, so that a quote may run over several lines."""
    return " ".join(re.sub(r"\n\s*#", " ", text).split())


SIGNATURES = """
import inspect, json, transformers, trl
print(json.dumps({
    "config": list(inspect.signature(trl.SFTConfig).parameters),
    "trainer": list(inspect.signature(trl.SFTTrainer.__init__).parameters),
    "arguments": list(inspect.signature(transformers.TrainingArguments).parameters),
}))
"""


def test_old_argument_names_are_still_refused_by_the_installed_trl():
    """The arg-* claims: fails when TRL or transformers takes a name back, or renames today's.

    In a process of its own: Unsloth, once imported, replaces these classes.
    """
    pytest.importorskip("trl")
    finished = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, check=True)
    names = {kind: set(found) for kind, found in json.loads(finished.stdout.splitlines()[-1]).items()}
    assert {"max_length", "eval_strategy", "warmup_steps", "packing", "dataset_text_field"} <= names["config"]
    assert not {"max_seq_length", "evaluation_strategy", "warmup_ratio", "logging_dir"} & names["config"]
    assert not {"evaluation_strategy", "warmup_ratio", "logging_dir"} & names["arguments"]
    assert "processing_class" in names["trainer"]
    assert not {"tokenizer", "max_seq_length", "packing", "dataset_text_field"} & names["trainer"]
