"""The page of a finished session tells of its data, and nothing about the data can spoil a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")
pytest.importorskip("numpy")

from conftest import minimal_parameters, write_jsonl
from data_doctor.test_data_doctor import model, varied_rows  # noqa: F401  (model is a fixture)
from unsloth_fft.core import schema
from unsloth_fft.data_doctor import report as findings
from unsloth_fft.data_doctor.report import Report
from unsloth_fft.reporting import report, session_data
from unsloth_fft.settings import parameters
from unsloth_fft.training import session
from unsloth_fft.training.session import DataRecord, Folder


@pytest.fixture
def finished(tmp_path, model) -> Folder:  # noqa: F811
    """A session folder as training leaves it, as far as its data are concerned."""
    rows = write_jsonl(tmp_path / "rows.jsonl", varied_rows(60))
    given = parameters.from_json(minimal_parameters(model, rows), "the test")
    made, _ = session.create(tmp_path / "s", given, DataRecord(str(rows), session.digest(rows), "messages", 60))
    shutil.copytree(model, made.model)
    return made


def examined(folder: Folder, **data: object) -> Report | str:
    _, state, given = session.load(folder.root)
    return session_data.examine(
        folder, state.changed(data=DataRecord(**{**vars(state.data), **data})) if data else state, given
    )


def section(folder: Folder, found: Report | str) -> str:
    return report._data(folder, found)


def test_the_findings_are_those_of_the_sessions_own_settings(finished):
    found = examined(finished)
    assert isinstance(found, Report)
    assert (found.max_seq_length, found.padding.micro_batch, found.epoch.effective_batch) == (128, 4, 4)
    assert found.rows == 60 and found.format == "messages"
    assert schema.problems(found.to_json(), "data-report") == []
    page = section(finished, found)
    for words in ("<svg", "rows", "tokens a row", "cut at 128", "padding at micro-batch 4", "when packed", "learned"):
        assert words in page
    assert "repeats" in page and "faulty" in page


def test_very_many_rows_are_left_out_with_the_command_that_examines_them(finished):
    found = examined(finished, rows=session_data.MOST_ROWS + 1)
    assert isinstance(found, str) and "50,001 rows" in found
    page = section(finished, found)
    assert f"data --params {finished.parameters} --model {finished.model}" in page and "<svg" not in page


def test_slow_reading_is_given_up(finished, monkeypatch):
    monkeypatch.setattr(session_data, "MOST_SECONDS", 0.0)
    assert "longer than 0 seconds" in str(examined(finished))


def test_data_from_the_hub_are_not_fetched_again(finished, monkeypatch):
    monkeypatch.setattr(session_data.sources, "files_of", lambda *_: None)
    assert "not fetched a second time" in str(examined(finished))


@pytest.mark.parametrize("spoil", ["gone", "changed", "no tokenizer", "a bug"])
def test_whatever_is_wrong_with_the_data_becomes_a_sentence(finished, monkeypatch, spoil):
    rows = finished.root.parent / "rows.jsonl"
    if spoil == "gone":
        rows.unlink()
    if spoil == "changed":
        write_jsonl(rows, varied_rows(61))
    if spoil == "no tokenizer":
        (finished.model / "tokenizer.json").unlink()
    if spoil == "a bug":
        monkeypatch.setattr(session_data.examination, "examine", lambda *_: 1 / 0)
    found = examined(finished)
    assert isinstance(found, str) and found.endswith((".", "tokenizer.json", "rows.jsonl'", "zero")), found
    assert "<p" in section(finished, found)


def test_hostile_words_in_the_reason_stay_words(finished):
    assert "<script" not in section(finished, "<script>alert(1)</script>")


def test_the_report_beside_the_page_reads_back(finished):
    found = examined(finished)
    assert isinstance(found, Report)
    assert findings.from_json(json.loads(json.dumps(found.to_json())), str(Path("data-report.json"))) == found
