"""Evaluation: losses that are the training run's own, an interval that holds, answers, and clear refusals."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import assert_clear_error, write_jsonl
from render_helpers import trained_session
from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.finishing import evaluate, harness, losses
from unsloth_fft.reporting import evaluation_section
from unsloth_fft.training import held_out
from unsloth_fft.training.held_out import RowLoss
from unsloth_fft.training.session import Folder


@pytest.fixture(scope="module")
def trained(workers, tmp_path_factory, tiny_model) -> Path:
    return trained_session(workers, tmp_path_factory.mktemp("trained"), tiny_model)


@pytest.fixture(scope="module")
def evaluated(workers, trained, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "prompts.txt").write_text("What is 3 plus one?\n\nWhat is 8 plus one?\n")
    (folder / "known.txt").write_text("Numbers follow one another, and each is one more than the last. " * 30)
    finished = workers.run(
        "eval", trained, "--prompts", folder / "prompts.txt", "--text", folder / "known.txt", "--json"
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.train
def test_the_held_out_loss_is_that_of_the_training_run(trained, evaluated):
    """Two ways to the same figure: the Trainer's evaluation through Unsloth, and plain transformers here."""
    result = json.loads((trained / "session.json").read_text())["result"]
    assert evaluated["held_out"]["loss_before"] == pytest.approx(result["eval_loss_before"], abs=1e-4)
    assert evaluated["held_out"]["loss_after"] == pytest.approx(result["eval_loss_after"], abs=1e-4)
    assert result["eval_loss_master"] == result["eval_loss_after"], "it trains float32 weights"
    assert result["eval_loss_bfloat16"] == pytest.approx(result["eval_loss_after"], abs=0.05)
    assert evaluated["held_out"]["rows"] == result["eval_rows"]
    assert evaluated["held_out"]["verdict"] == "better"
    assert evaluated["held_out"]["perplexity_after"] == pytest.approx(numpy.exp(evaluated["held_out"]["loss_after"]))


@pytest.mark.train
def test_what_was_found_stands_in_the_report_once_and_spoils_nothing_else(trained, evaluated):
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert page.count("<h2>Evaluation</h2>") == 1 and page.count("What is 8 plus one?") >= 1
    assert f"{evaluated['held_out']['loss_after']:.4f}" in page and "How the loss fell" in page
    assert evaluation_section.put_into(Folder(trained), evaluated)
    assert (trained / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.train
def test_answers_stand_side_by_side_and_the_text_is_measured(evaluated):
    assert [answer["prompt"] for answer in evaluated["answers"]] == ["What is 3 plus one?", "What is 8 plus one?"]
    assert evaluated["forgetting"]["tokens"] > 100 and evaluated["forgetting"]["rows"] > 1
    assert evaluated["lm_eval"] is None


@pytest.mark.train
def test_it_is_kept_in_the_session_and_matches_its_schema(trained, evaluated):
    assert json.loads((trained / "evaluation.json").read_text()) == evaluated
    assert schema.problems(evaluated, "evaluation") == []


@pytest.mark.train
def test_a_model_compared_with_itself_is_not_told_apart(trained, tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    rows = [([5, 6, 7, 8], [-100, 6, 7, 8]), ([9, 10, 11], [9, 10, 11])]
    measured = held_out.row_losses(model, rows)
    assert [row.tokens for row in measured] == [3, 2]
    found = losses.compare(measured, measured)
    assert (found.low, found.high, found.verdict) == (0.0, 0.0, "not told apart")


@pytest.mark.train
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prompts", "missing.txt"), "missing.txt"),
        (("--text", "missing.txt"), "missing.txt"),
    ],
)
def test_missing_files_are_named_before_anything_is_loaded(workers, trained, arguments, words):
    assert_clear_error(workers.run("eval", trained, *arguments), 2, words)


@pytest.mark.train
def test_an_unfinished_session_has_nothing_to_evaluate(workers, trained, tmp_path):
    copy = tmp_path / "session"
    shutil.copytree(trained, copy)
    (copy / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    state = json.loads((copy / "session.json").read_text())
    (copy / "session.json").write_text(json.dumps({**state, "state": "interrupted"}))
    assert_clear_error(workers.run("eval", copy), 2, "interrupted", "--resume")


@pytest.mark.train
def test_a_session_that_failed_before_its_first_checkpoint_is_trained_not_resumed(workers, trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "session")
    state = json.loads((copy / "session.json").read_text())
    (copy / "session.json").write_text(json.dumps({**state, "state": "failed"}))
    shutil.rmtree(copy / "checkpoints")
    for command in (["eval", copy], ["export", copy, "--to", tmp_path / "m"]):
        refused = workers.run(*command)
        assert_clear_error(refused, 2, "is failed", f"train {copy}")
        assert "--resume" not in refused.stderr
    status = json.loads(workers.run("status", "--session", copy).stdout)
    assert status["next"] == f"unsloth_fft_tool.py train {copy}"


def test_prompts_are_lines_or_json_lines(tmp_path):
    plain, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    plain.write_text("one\n\n two \n")
    rows.write_text('{"prompt": "one\\ntwo"}\n{"prompt": "three"}\n')
    assert evaluate.read_prompts(plain) == ["one", "two"]
    assert evaluate.read_prompts(rows) == ["one\ntwo", "three"]
    rows.write_text('{"prompt": "one"}\n{"question": "two"}\n')
    with pytest.raises(BadInput, match="line 2"):
        evaluate.read_prompts(rows)
    plain.write_text(" \n")
    with pytest.raises(BadInput, match="empty"):
        evaluate.read_prompts(plain)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.integers(1, 40)), min_size=2, max_size=30))
def test_the_interval_holds_the_difference_of_constant_rows_and_orders_its_ends(rows):
    before = [RowLoss(first * count, count) for first, _, count in rows]
    after = [RowLoss(second * count, count) for _, second, count in rows]
    found = losses.compare(before, after)
    assert found.low is not None and found.high is not None
    differences = [second - first for first, second, _ in rows]
    assert min(differences) - 1e-6 <= found.low <= found.high <= max(differences) + 1e-6
    assert found.before == pytest.approx(sum(row.nats for row in before) / sum(row.tokens for row in before))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """200 draws of 60 rows whose differences have mean 0.1: a 95% interval should hold 0.1 in about 190 of them."""
    random = numpy.random.default_rng(1)
    held = 0
    for draw in range(200):
        differences = random.normal(0.1, 0.5, size=60)
        before = [RowLoss(30.0, 10)] * 60
        after = [RowLoss(30.0 + 10 * difference, 10) for difference in differences]
        found = losses.compare(before, after, seed=draw)
        held += found.low <= 0.1 <= found.high
    assert 178 <= held <= 198


def test_one_row_says_nothing_about_certainty():
    found = losses.compare([RowLoss(10.0, 5)], [RowLoss(5.0, 5)])
    assert (found.low, found.high, found.verdict) == (None, None, "not told apart")


# --- lm-evaluation-harness ---


def test_without_the_harness_the_error_says_how_to_get_it(monkeypatch):
    from unsloth_fft.core import installing
    from unsloth_fft.core.errors import MissingHere

    monkeypatch.setattr(installing, "can_fetch", lambda: True)
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingHere) as missing:
        harness.require()
    assert "pip install" in missing.value.hint and "lm-eval" in missing.value.hint


@pytest.mark.train
def test_the_real_harness_scores_both_models(trained, tiny_model, tmp_path):
    """A task of our own on a local file, so that nothing is downloaded."""
    pytest.importorskip("lm_eval")
    rows = [{"question": f"What is {number} plus one?", "choices": [str(number + 1), str(number + 5)], "answer": 0}
            for number in range(12)]  # fmt: skip
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    task = tmp_path / "plus_one.yaml"
    task.write_text(
        textwrap.dedent(
            f"""\
            task: plus_one
            dataset_path: json
            dataset_kwargs:
              data_files: {{test: {data}}}
            test_split: test
            output_type: multiple_choice
            doc_to_text: "{{{{question}}}}"
            doc_to_choice: "{{{{choices}}}}"
            doc_to_target: "{{{{answer}}}}"
            metric_list:
              - metric: acc
            """
        )
    )
    found = harness.compare(str(tiny_model), trained / "model", str(task), "cpu")
    assert set(found) == {"plus_one"}
    assert 0 <= found["plus_one"]["acc,none"]["before"] <= 1
    assert 0 <= found["plus_one"]["acc,none"]["after"] <= 1


@pytest.mark.train
def test_a_task_that_the_harness_does_not_know_is_a_clear_error(trained):
    pytest.importorskip("lm_eval")
    with pytest.raises(BadInput, match="harness failed"):
        harness.scores(str(trained / "model"), "no_such_task_at_all", "cpu")
