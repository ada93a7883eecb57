"""The same rows mean the same thing whatever file they come in; folders, mixes and text are read as stated."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import TOOL, assert_clear_error, conversation_rows, minimal_parameters, run_script, write_jsonl
from data_helpers import data_settings
from unsloth_fft.core.errors import BadInput
from unsloth_fft.data import row_format, scanning, sources
from unsloth_fft.data.scanning import Counts
from unsloth_fft.data.sources import Source
from unsloth_fft.settings import parameters

NESTED = conversation_rows(5)
PAIRS = [{"prompt": f"What is {n}?", "completion": f'It is "{n}",\nno less.'} for n in range(5)]


def as_csv(path: Path, rows: list[dict], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(
            {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()} for row in rows
        )


def as_parquet(path: Path, rows: list[dict]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {
    "rows.jsonl": write_jsonl,
    "rows.json": lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
    "rows.csv": as_csv,
    "rows.tsv": lambda path, rows: as_csv(path, rows, "\t"),
    "rows.parquet": as_parquet,
}


def contents(source: Path, form: str = "auto", sample_by: str = "line") -> list:
    files = sources.files_of(str(source))
    assert files is not None
    reader = row_format.Reader(form)
    return [scanning.content_of(row, reader) for row in scanning.scan(files.train, sample_by)]


@pytest.mark.parametrize("name", list(WRITERS))
@pytest.mark.parametrize("rows", [NESTED, PAIRS], ids=["messages", "pairs"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, rows):
    WRITERS[name](tmp_path / name, rows)
    expected = [row_format.read(row, row_format.recognise(row)) for row in rows]
    assert contents(tmp_path / name) == expected
    found = scanning.check(Source(str(tmp_path / name)), data_settings())
    assert found == Counts(5, 0, row_format.recognise(rows[0]))


def test_columns_that_parquet_fills_with_null_are_as_if_absent(tmp_path):
    plain = NESTED[0]["messages"]
    rows = [{"messages": plain, "tools": None}, {"messages": [{**plain[0], "name": "Ann"}, plain[1]], "tools": None}]
    as_parquet(tmp_path / "rows.parquet", rows)
    assert [content.messages for content in contents(tmp_path / "rows.parquet")] == [row["messages"] for row in rows]


def test_a_folder_is_read_in_order_of_names_and_sets_validation_apart(tmp_path):
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    write_jsonl(folder / "train-00001.jsonl", NESTED[2:4])
    write_jsonl(folder / "train-00000.jsonl", NESTED[:2])
    as_csv(folder / "more" / "train.csv", PAIRS)
    write_jsonl(folder / "validation.jsonl", NESTED[4:])
    write_jsonl(folder / ".cache.jsonl", NESTED)
    (folder / "README.md").write_text("About the data.")
    files = sources.files_of(str(folder))
    assert [path.name for path in files.train] == ["train.csv", "train-00000.jsonl", "train-00001.jsonl"]
    assert [path.name for path in files.held_out] == ["validation.jsonl"]


def test_words_that_only_contain_test_are_not_held_out(tmp_path):
    for name in ("contest.jsonl", "latest.jsonl", "developer.jsonl", "evaluate-later.jsonl"):
        write_jsonl(tmp_path / name, NESTED)
    assert sources.files_of(str(tmp_path)).held_out == ()


@pytest.mark.parametrize(
    ("sample_by", "expected"),
    [
        ("line", ["one", "two", "three", "four"]),
        ("paragraph", ["one\ntwo", "three\nfour"]),
        ("document", ["one\ntwo\n\n\nthree\nfour\n"]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_file_is_read_by_line_paragraph_or_document(tmp_path, sample_by, expected, end):
    file = tmp_path / "rows.txt"
    file.write_bytes("one\ntwo\n\n\nthree\nfour\n".replace("\n", end).encode())
    assert [content.text for content in contents(file, "text", sample_by)] == expected


def test_a_large_array_is_read_in_pieces_with_the_right_lines(tmp_path):
    rows = [{"text": f"{n} " + "x" * 700} for n in range(4000)]
    file = tmp_path / "rows.json"
    file.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]", encoding="utf-8")
    found = list(scanning.scan((file,)))
    assert [row.value for row in found] == rows
    assert [row.line for row in found] == list(range(2, 4002))


@pytest.mark.slow
@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.recursive(st.text(max_size=9) | st.integers(), st.lists), max_size=4),
        max_size=6,
    ),
    st.sampled_from([None, 0, 2]),
)
def test_an_array_in_pieces_is_what_json_reads(tmp_path_factory, rows, indent):
    from unsloth_fft.data import json_array

    file = tmp_path_factory.mktemp("array") / "rows.json"
    file.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_PIECE", 7)
        assert [row for _, row in json_array.scan_array(file)] == rows


TOOL_CALL = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_tool_calls_keep_everything_and_their_arguments_become_objects():
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [TOOL_CALL]}]}
    answer = row_format.messages_of(row, "messages")[1]
    assert answer["content"] == ""
    expected = {"type": "function", "id": "1", "function": {"name": "add", "arguments": {"a": 1}}}
    assert answer["tool_calls"] == [expected]


def test_system_words_and_tools_beside_a_sharegpt_conversation_are_kept():
    row = {
        "system": "Be brief.",
        "tools": '[{"name": "add"}]',
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
    }
    content = row_format.read(row, row_format.recognise(row))
    assert [turn["role"] for turn in content.messages] == ["system", "user", "assistant"]
    assert content.tools == [{"name": "add"}]


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": []}, "messages"),
        ({"conversations": [{"role": "user", "content": "a"}]}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"instruction": "a", "output": "b", "text": "c"}, "alpaca"),
        ({"instruction": "a", "context": "c", "response": "b"}, "alpaca"),
        ({"prompt": "a", "completion": "b"}, "prompt-completion"),
        ({"text": "a", "meta": {}}, "text"),
    ],
)
def test_formats_are_recognised_by_content(row, form):
    assert row_format.recognise(row) == form


def test_one_source_is_a_file_and_its_fingerprint_is_the_files():
    import hashlib

    here = Path(__file__)
    copy = here.with_suffix(".py")
    with pytest.raises(BadInput, match="unknown kind"):
        sources.fingerprint([Source(str(copy))])
    assert sources.fingerprint([Source("owner/name")]) is None
    data = Path(scanning.__file__).parents[1] / "demo" / "questions_a.jsonl"
    assert sources.fingerprint([Source(str(data))]) == hashlib.sha256(data.read_bytes()).hexdigest()


@pytest.mark.parametrize("weight", [0.25, 1.0, 1.5, 3.0])
def test_a_weight_is_how_often_rows_are_used(weight):
    pytest.importorskip("numpy")
    from unsloth_fft.data import splitting

    used = splitting.used_rows(40, weight, 3).tolist()
    assert len(used) == 40 * weight
    counts = [used.count(row) for row in range(40)]
    assert max(counts) - min(counts) <= 1
    assert used == splitting.used_rows(40, weight, 3).tolist()


def test_dataset_and_sources_together_contradict(tmp_path):
    value = minimal_parameters("model", "rows.jsonl")
    value["data"]["sources"] = [{"dataset": "more.jsonl"}]
    with pytest.raises(BadInput, match="either dataset or sources"):
        parameters.from_json(value, "the test")


def test_init_takes_a_mix_and_train_refuses_when_any_part_of_it_changed(tmp_path, tiny_model):
    first = write_jsonl(tmp_path / "first.jsonl", NESTED)
    second = tmp_path / "texts"
    second.mkdir()
    (second / "a.txt").write_text("one\ntwo\n")
    value = minimal_parameters(tiny_model, None)
    value["data"] = {"sources": [{"dataset": str(first), "weight": 2.0}, {"dataset": str(second)}]}
    params = tmp_path / "p.json"
    params.write_text(json.dumps(value))
    finished = run_script(TOOL, "init", "--params", params, "--session", tmp_path / "s", "--json")
    assert finished.returncode == 0, finished.stderr
    data = json.loads(finished.stdout)["data"]
    assert data["rows"] == 7 and data["format"] == "messages + text"
    (second / "a.txt").write_text("one\nthree\n")
    assert_clear_error(run_script(TOOL, "train", tmp_path / "s"), 2, "changed after init")


def test_a_fault_in_the_second_source_is_named(tmp_path, tiny_model):
    first = write_jsonl(tmp_path / "first.jsonl", NESTED)
    second = tmp_path / "second.csv"
    second.write_text("text\nfine\na,b\n")
    value = minimal_parameters(tiny_model, None)
    value["data"] = {"sources": [{"dataset": str(first)}, {"dataset": str(second)}]}
    params = tmp_path / "p.json"
    params.write_text(json.dumps(value))
    finished = run_script(TOOL, "init", "--params", params, "--session", tmp_path / "s")
    assert_clear_error(finished, 2, "second.csv: line 3")
    assert not (tmp_path / "s").exists()


def test_a_source_has_the_keys_of_the_schema():
    from unsloth_fft.core import schema

    properties = schema.load("parameters")["properties"]["data"]["properties"]["sources"]["items"]["properties"]
    fields = {field.name: field.default for field in dataclasses.fields(Source)}
    assert set(fields) == set(properties)
    assert all(fields[name] == entry["default"] for name, entry in properties.items() if "default" in entry)
