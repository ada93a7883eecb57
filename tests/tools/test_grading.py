"""The evaluation prompts are sound, and their grader is deterministic and can say no."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import ROOT, assert_clear_error, run_script
from tools.grading import checks, command, evals
from unsloth_fft.auditing import audit
from unsloth_fft.commands import plan
from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.planning import data_facts
from unsloth_fft.settings import parameters
from unsloth_fft.weights.checkpoint import locate

EVALS = evals.load()
FILES = ROOT / "evals" / "files"
GRADER = ROOT / "tools" / "grading" / "__main__.py"
SIZING = ["--model", "meta-llama/Llama-3.1-8B", "--gpu", "L40S", "--host-ram-gib", "128", "--max-steps", "500"]
GOOD_ANSWER = (
    """It fits: {peak} GiB of 44.4; host memory holds the optimizer state. About {speed} tokens/s, an estimate."""
)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """An outputs folder with a good answer to the sizing prompt."""
    folder = tmp_path / "outputs" / "sizing-8b-on-l40s"
    folder.mkdir(parents=True)
    assert plan.main([*SIZING, "--output", str(folder / "params.json")]) == 0
    predicted = json.loads((folder / "params.json").read_text(encoding="utf-8"))["plan"]["predicted"]
    answer = GOOD_ANSWER.format(
        peak=f"{predicted['peak_vram_gib']:.1f}", speed=f"{predicted['tokens_per_second']:,.0f}"
    )
    (folder / "answer.md").write_text(answer, encoding="utf-8")
    ran = {"command": "python scripts/generate_fft_params.py " + " ".join(SIZING), "exit": 0}
    (folder / "commands.jsonl").write_text(json.dumps(ran) + "\n", encoding="utf-8")
    return tmp_path / "outputs"


def test_there_are_prompts_for_what_the_skill_is_for() -> None:
    assert len(EVALS) >= 12
    text = " ".join(one.name for one in EVALS)
    for topic in (
        "sizing", "nothing-fits", "broken-params", "did-not-move", "out-of-memory", "resume", "data-fault",
        "several-gpus", "lora", "hand-off", "pretraining", "offline",
    ):  # fmt: skip
        assert topic in text


def test_files_exist_patterns_compile_and_kinds_are_known() -> None:
    for one in EVALS:
        assert all((ROOT / "evals" / name).exists() for name in one.files), one.name
        for expectation in one.expectations:
            assert expectation.check["kind"] in checks.CHECKS
            re.compile(expectation.check.get("pattern", ""))
            if "schema_name" in expectation.check:
                assert schema.load(expectation.check["schema_name"])


def test_the_schema_names_exactly_the_checks_there_are() -> None:
    kinds = [option["properties"]["kind"] for option in schema.load("evals")["$defs"]["check"]["oneOf"]]
    assert {name for kind in kinds for name in kind.get("enum", [kind.get("const")])} == set(checks.CHECKS)


def test_the_files_have_the_faults_that_their_prompts_speak_of() -> None:
    with pytest.raises(BadInput, match="learing_rate"):
        parameters.load(FILES / "params.json")
    with pytest.raises(BadInput, match="line 7"):
        data_facts.read_facts(str(FILES / "faulty.jsonl"))
    found = audit.audit_folders(locate(str(FILES / "base")), locate(str(FILES / "trained")))
    assert found.verdict == "partial"
    assert {cause["cause"] for cause in found.to_json()["causes"]} == {"bf16_rounding"}


def test_the_sound_data_file_is_sound() -> None:
    facts = data_facts.read_facts(str(FILES / "rows.jsonl"))
    assert facts is not None and facts.rows == 40


@pytest.mark.parametrize("one", EVALS, ids=lambda one: one.name)
def test_an_empty_answer_meets_no_prompt(one: evals.Eval, tmp_path: Path) -> None:
    (tmp_path / "answer.md").write_text("I cannot help with that.", encoding="utf-8")
    graded = command.grade(one, tmp_path)
    assert graded["passed"] < graded["total"] / 2


def test_a_good_answer_passes_and_the_grade_is_the_same_every_time(good: Path) -> None:
    first = run_script(GRADER, "--outputs", good, "--json")
    assert first.returncode == 0, first.stdout
    assert first.stdout == run_script(GRADER, "--outputs", good, "--json").stdout
    graded = json.loads(first.stdout)
    assert graded["passed"] == graded["total"] == 9


def test_what_a_prompt_cost_its_reader_is_counted(good: Path) -> None:
    ran = [
        {"command": "cat SKILL.md", "exit": 0, "shown": 8000},
        {"command": "cat scripts/unsloth_fft/planning/plan.py", "exit": 0, "shown": 4000},
    ]
    file = good / "sizing-8b-on-l40s" / "commands.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in ran), encoding="utf-8")
    graded = json.loads(run_script(GRADER, "--outputs", good, "--json").stdout)
    assert (graded["median_calls"], graded["median_tokens_read"]) == (2, 3000)
    assert graded["opened_source"] == ["sizing-8b-on-l40s"]


CHANGES = {
    "an invented speed": (("answer.md", r"About [\d,]+", "About 9,500"), "planned speed"),
    "an invented peak": (("answer.md", r"[\d.]+ GiB", "24 GiB"), "planned peak"),
    "no word on how sure": (("answer.md", ", an estimate", ""), "estimate"),
    "settings that are not exact": (("params.json", '"exact"', '"any"'), "exact"),
    "settings that do not fit": (("params.json", r'"peak_vram_gib": \d+', '"peak_vram_gib": 67'), "fit"),
    "a misspelt key": (("params.json", '"learning_rate"', '"learing_rate"'), "validate"),
    "a failed command": (("commands.jsonl", '"exit": 0', '"exit": 3'), "found a plan"),
}


@pytest.mark.parametrize(("change", "missed"), CHANGES.values(), ids=CHANGES)
def test_each_fault_is_found(good: Path, change: tuple[str, str, str], missed: str) -> None:
    name, old, new = change
    file = good / "sizing-8b-on-l40s" / name
    text = file.read_text(encoding="utf-8")
    changed, times = re.subn(old, new, text)
    assert times
    file.write_text(changed, encoding="utf-8")
    finished = run_script(GRADER, "--outputs", good)
    assert finished.returncode == 5
    assert re.search(f"not met: .*{missed}", finished.stdout), finished.stdout


def test_usage_and_broken_input_end_in_clear_errors(tmp_path: Path) -> None:
    assert_clear_error(run_script(GRADER), 2, "--outputs")
    assert_clear_error(run_script(GRADER, "--outputs", tmp_path), 2, "no folder named like a prompt")
    assert_clear_error(run_script(GRADER, "--outputs", tmp_path, "--eval", "nosuch"), 2, "nosuch")
    folder = tmp_path / "resume-after-kill"
    folder.mkdir()
    assert_clear_error(run_script(GRADER, "--outputs", tmp_path), 2, "answer.md")
    (folder / "answer.md").write_text("x", encoding="utf-8")
    (folder / "commands.jsonl").write_text("not json\n", encoding="utf-8")
    assert_clear_error(run_script(GRADER, "--outputs", tmp_path), 2, "line 1")


def test_the_list_shows_every_prompt() -> None:
    listed = json.loads(run_script(GRADER, "--list", "--json").stdout)["evals"]
    assert [one["name"] for one in listed] == [one.name for one in EVALS]


def test_trigger_prompts_are_enough_and_recorded_with_how_they_were_judged() -> None:
    """Judged by hand from names and descriptions alone; a changed description must be judged again."""
    record = json.loads((ROOT / "evals" / "triggers.json").read_text(encoding="utf-8"))
    assert len(record["neighbours"]) >= 10
    wanted = [prompt for prompt in record["prompts"] if prompt["should_trigger"]]
    avoided = [prompt for prompt in record["prompts"] if not prompt["should_trigger"]]
    assert len(wanted) >= 20 and len(avoided) >= 20
    names = {skill["name"] for skill in record["neighbours"]} | {"unsloth-fft", "none"}
    assert {prompt["judged"] for prompt in record["prompts"]} <= names
    right = sum((prompt["judged"] == "unsloth-fft") == prompt["should_trigger"] for prompt in record["prompts"])
    assert record["result"] == {"right": right, "of": len(record["prompts"])}
    assert right / len(record["prompts"]) >= 0.95
    from tools import build_zip

    frontmatter = build_zip.frontmatter((ROOT / "SKILL.md").read_text(encoding="utf-8"))
    assert frontmatter is not None and frontmatter["description"] == record["description"]
