"""Columns of other names go from the planner's flag through the parameters file to the doctor, init and training."""

from __future__ import annotations

import json

import pytest

from conftest import write_jsonl
from data_helpers import data_settings, prepared_rows, tokenizer_folder
from unsloth_fft.commands import plan, tool
from unsloth_fft.data import sources

ROWS = [{"question": f"What is {n}?", "answer": f"One and {n}.", "label": True} for n in range(12)]
COLUMNS = ["--columns", "instruction=question", "output=answer", "--ignore-columns", "label"]


def test_columns_are_said_once_and_travel(tmp_path, capsys):
    file = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    model = tokenizer_folder(tmp_path / "model")
    asked = ["--model", "meta-llama/Llama-3.2-1B", "--gpu", "H100", "--host-ram-gib", "64", "--dataset", str(file)]
    assert plan.main([*asked, "--epochs", "1"]) == 2
    assert "--columns prompt=question completion=answer" in capsys.readouterr().err
    params = tmp_path / "params.json"
    assert plan.main([*asked, "--epochs", "1", *COLUMNS, "--output", str(params)]) == 0
    capsys.readouterr()
    planned = json.loads(params.read_text())["data"]
    assert planned["columns"] == {"instruction": "question", "output": "answer"} and planned["rows"] == 12
    assert planned["ignored_columns"] == ["label"]
    assert tool.main(["data", "--params", str(params), "--model", str(model), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["format"] == "alpaca" and report["unused_keys"] == [{"key": "label", "rows": 12}]
    assert tool.main(["data", "--columns", "prompt=question", "completion=answer", str(file)]) == 2
    assert "'label' True beside an answer" in capsys.readouterr().err


def test_each_source_may_have_columns_of_its_own(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", [{"q": "a", "a": "b"}])
    second = write_jsonl(tmp_path / "b.jsonl", [{"prompt": "c", "completion": "d"}])
    mix = [{"dataset": str(first), "columns": {"prompt": "q", "completion": "a"}}, {"dataset": str(second)}]
    data = data_settings(sources=mix)
    readers = [source.reader(data) for source in sources.sources_of(data)]
    rows = ({"q": "a", "a": "b"}, {"prompt": "c", "completion": "d"})
    assert [reader.read(row).prompt for reader, row in zip(readers, rows, strict=True)] == ["a", "c"]


@pytest.mark.usefixtures("unsloth")
def test_training_reads_the_same_columns(tmp_path):
    file = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    named = {"columns": {"prompt": "question", "completion": "answer"}, "ignored_columns": ["label"]}
    prepared, tokenizer = prepared_rows(file, tokenizer_folder(tmp_path / "model"), tmp_path / "space", **named)
    assert tokenizer.decode(prepared.train[0]["input_ids"]).startswith("What is ")
    assert prepared.format == "prompt-completion" and len(prepared.train) + len(prepared.held_out) == 12
