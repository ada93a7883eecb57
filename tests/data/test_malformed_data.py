"""Data that no training should meet: each is refused with exit code 2, its place and its reason, and an unchanged disk.

Every case goes through three doors: the check that `init` makes, the data doctor, and the doctor without a tokenizer.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_helpers import data_settings
from unsloth_fft.core import terminal
from unsloth_fft.core.errors import BadInput
from unsloth_fft.data import formats, scanning
from unsloth_fft.data.sources import Source

GOOD = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def turns(*pairs: tuple[object, object]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in pairs]})


def call(function: object) -> str:
    turn = {"role": "assistant", "content": None, "tool_calls": function}
    return json.dumps({"messages": [{"role": "user", "content": "a"}, turn]})


# (file name, content, words of the message). Where rows are one a line, the faulty one is the second.
ROWS = {
    "a line cut short": ('{"messages": [', "line 2 is not valid JSON: it ends after column 14"),
    "a line cut in a string": ('{"text": "abc', "it ends after column 13, inside the string that begins at column 10"),
    "a line cut in an escape": ('{"text": "abc\\', "it ends after column 14, inside the string"),
    "a line cut before a value": ('{"text":', "it ends after column 8 (Expecting value)"),
    "a missing comma": ('{"text": "a" "b": 1}', "line 2 is not valid JSON: Expecting ',' delimiter, column 14"),
    "no JSON": ("hello there", "line 2 is not valid JSON"),
    "single quotes": ("{'text': 'a'}", "line 2 is not valid JSON"),
    "a trailing comma": ('{"text": "a",}', "line 2 is not valid JSON"),
    "two objects on a line": (GOOD + GOOD, "line 2 is not valid JSON: Extra data"),
    "a comment": ('{"text": "a"} // note', "line 2 is not valid JSON"),
    "NaN": ('{"text": "a", "score": NaN}', "NaN is no JSON number"),
    "infinity": ('{"text": "a", "score": -Infinity}', "-Infinity is no JSON number"),
    "a number without end": ('{"n": ' + "9" * 6000 + "}", "a number too long"),
    "nested too deeply": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "a raw NUL byte": ('{"text": "a\0b"}', "NUL byte"),
    "a raw tab in a string": ('{"text": "a\tb"}', "Invalid control character"),
    "a key twice": ('{"text": "a", "text": "b"}', "the key 'text' twice"),
    "a key twice, deep down": (GOOD.replace('"role": "user"', '"role": "user", "role": "system"'), "'role' twice"),
    "a lone high surrogate": ('{"text": "a\\ud800b"}', "half of a surrogate pair"),
    "a lone low surrogate": ('{"text": "\\uDC00"}', "half of a surrogate pair"),
    "a lone surrogate in a key": ('{"\\ud8ff": 1, "text": "a"}', "half of a surrogate pair"),
    "an array row": ("[1, 2]", "line 2 is an array, an object was expected"),
    "a string row": ('"text"', "line 2 is a string"),
    "a number row": ("42", "line 2 is a number"),
    "null": ("null", "line 2 is null"),
    "true": ("true", "line 2 is true or false"),
    "no known key": ('{"question": "a", "answer": "b"}', "line 2 has no messages"),
    "an empty object": ("{}", "line 2 has no messages"),
    "an empty conversation": ('{"messages": []}', "line 2 has no messages"),
    "messages that are text": ('{"messages": "hello"}', "line 2 has no messages"),
    "messages that are an object": ('{"messages": {"role": "user"}}', "line 2 has no messages"),
    "a message that is text": ('{"messages": ["hello"]}', "message 1 that is not an object"),
    "a message without role": ('{"messages": [{"content": "a"}]}', "message 1 with the role None"),
    "an unknown role": (turns(("user", "a"), ("wizard", "b")), "message 2 with the role 'wizard'"),
    "a sharegpt row under messages": (
        '{"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}',
        "message 1 with the keys from, value; expected role and content",
    ),
    "a role that is a number": (turns((7, "a")), "message 1 with the role 7"),
    "a role that is a list": (turns((["user"], "a")), "message 1 with the role ['user']"),
    "a role in capitals": (turns(("User", "a"), ("Assistant", "b")), "message 1 with the role 'User'"),
    "content that is a number": (turns(("user", 5), ("assistant", "b")), "message 1 (user) without text content"),
    "content that is null": (turns(("user", "a"), ("assistant", None)), "message 2 (assistant) without text"),
    "content that is an object": (turns(("user", {"a": 1}), ("assistant", "b")), "message 1 (user) without text"),
    "content that is an image": (
        turns(("user", [{"type": "image"}]), ("assistant", "b")),
        "a part of the type 'image'",
    ),
    "content of no parts": (turns(("user", []), ("assistant", "b")), "parts that are not text"),
    "no answer": (turns(("user", "a")), "the assistant never speaks"),
    "only a system turn": (turns(("system", "a")), "the assistant never speaks"),
    "tool calls that are text": (call("add"), "tool_calls that are no list"),
    "a tool call without name": (call([{"function": {"arguments": {}}}]), "names no function"),
    "a tool call that is null": (call([None]), "names no function"),
    "arguments that are no JSON": (call([{"function": {"name": "f", "arguments": "{"}}]), "cannot be read"),
    "arguments that are a list": (call([{"function": {"name": "f", "arguments": [1]}}]), "are no object"),
    "tools that are text": (GOOD[:-1] + ', "tools": "none"}', "JSON in its tools that cannot be read"),
    "tools that are numbers": (GOOD[:-1] + ', "tools": [1]}', "tools that are no list of objects"),
}
FIRST_ROWS = {
    "an alpaca output that is a number": ('{"instruction": "a", "output": 3}', "'output' that is not text but int"),
    "an alpaca instruction that is a list": ('{"instruction": [], "output": "b"}', "'instruction' that is not text"),
    "a prompt that is an object": ('{"prompt": {}, "completion": "b"}', "'prompt' that is not text"),
    "a prompt of turns, a completion of text": (
        '{"prompt": [{"role": "user", "content": "a"}], "completion": "b"}',
        "has turns on one side and text on the other",
    ),
    "text that is a number": ('{"text": 5}', "'text' that is not text but int"),
    "text that is a list": ('{"text": ["a"]}', "'text' that is not text but list"),
    "only empty text": ('{"text": "  "}', "every row is empty"),
    "only empty answers": (turns(("user", "a"), ("assistant", " ")), "every row is empty"),
    "no known keys": ('{"question": "a", "answer": "b"}', "has the keys answer, question"),
    "a sharegpt turn from nobody": ('{"conversations": [{"value": "a"}]}', "message 1 with the role None"),
    "a sharegpt turn from a number": ('{"conversations": [{"from": 3, "value": "a"}]}', "with the role 3"),
    "a sharegpt call that is no JSON": (
        '{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "add"}]}',
        "JSON in a function_call turn that cannot be read",
    ),
    "an empty sharegpt conversation": ('{"conversations": []}', "has no messages"),
}
FILES: dict[str, tuple[str, bytes, str]] = {
    "an empty file": ("rows.jsonl", b"", "is empty: it has no rows"),
    "only blank lines": ("rows.jsonl", b"\n\r\n  \n", "is empty: it has no rows"),
    "only a byte order mark": ("rows.jsonl", b"\xef\xbb\xbf", "is empty: it has no rows"),
    "UTF-16": ("rows.jsonl", GOOD.encode("utf-16"), "UTF-16"),
    "UTF-16 without mark": ("rows.jsonl", GOOD.encode("utf-16-le"), "NUL byte"),
    "Latin-1": ("rows.jsonl", GOOD.replace('"a"', '"caf\xe9"').encode("latin-1"), "line 1 is not UTF-8 text"),
    "an overlong encoding": ("rows.jsonl", b'{"text": "\xc0\xaf"}', "line 1 is not UTF-8 text"),
    "an encoded surrogate": ("rows.jsonl", b'{"text": "\xed\xa0\x80"}', "line 1 is not UTF-8 text"),
    "a picture": ("rows.jsonl", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "line 1 is not UTF-8 text"),
    "a pickle": ("rows.jsonl", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x05posix\x94.", "line 1 is not UTF-8 text"),
    "one object over lines, broken": ("rows.json", b'{\n"text": "a",\n}', "one object that spans lines"),
    "one object around the rows": ("rows.json", b'{\n"data": [{"text": "a"}]\n}', "stand under 'data'"),
    "Parquet columns as JSON": ("rows.json", b'{\n"text": ["a", "b"]\n}', "'text' that is not text but list"),
    "a packed file cut short": ("rows.jsonl.gz", gzip.compress(GOOD.encode() * 99)[:40], "cannot be unpacked"),
    "a packed file that is none": ("rows.jsonl.gz", GOOD.encode(), "cannot be unpacked"),
    "semicolons in a CSV": ("rows.csv", b"prompt;completion\na, b;c\n", "apart by semicolons"),
    "a Python list in a CSV": ("rows.csv", b"messages\n\"[{'role': 'user'}]\"\n", "a Python list as text"),
    "Arrow that is none": ("rows.arrow", b"ARROW1 not really", "is not valid Arrow"),
    "an array cut short": ("rows.json", b'[{"text": "a"},', "is not valid JSON"),
    "an array without comma": ("rows.json", b'[{"text": "a"} {"text": "b"}]', "a comma or ']' was expected"),
    "an array with a last comma": ("rows.json", b'[{"text": "a"},]', "a comma before ']'"),
    "text after the array": ("rows.json", b'[{"text": "a"}] more', "text after the array"),
    "an array of text": ("rows.json", b'["a", "b"]', "line 1 is a string"),
    "an empty array": ("rows.json", b"[]", "is empty: it has no rows"),
    "a deep array": ("rows.json", b"[" * 100_000, "nested too deeply"),
    "a key twice in an array": ("rows.json", b'[{"text": "a", "text": "b"}]', "'text' twice"),
    "a faulty third line of an array": ("rows.json", b'[{"text": "a"},\n{"text": "b"},\n{"text": }]', "line 3"),
    "Latin-1 in an array": ("rows.json", b'[{"text": "\xe9"}]', "not UTF-8"),
    "a CSV row with a field more": ("rows.csv", b"text\na\nb,c\n", "line 3 has 2 fields, 1 were expected"),
    "a CSV row with a field less": ("rows.csv", b"prompt,completion\na\n", "line 2 has 1 fields, 2 were expected"),
    "a CSV quote left open": ("rows.csv", b'text\n"a\nb\n', "line 2 is not valid CSV"),
    "a CSV quote inside a field": ("rows.csv", b'text\n"a"b\n', "line 2 is not valid CSV"),
    "a CSV column twice": ("rows.csv", b"text,text\na,b\n", "line 1 names the column 'text' twice"),
    "a CSV column without name": ("rows.csv", b"text,\na,b\n", "line 1 has a column without a name"),
    "a CSV of unknown columns": ("rows.csv", b"a,b\n1,2\n", "has the keys a, b"),
    "a CSV header alone": ("rows.csv", b"text\n", "is empty: it has no rows"),
    "an empty CSV": ("rows.csv", b"", "is empty: it has no rows"),
    "a NUL in a CSV": ("rows.csv", b"text\na\0b\n", "line 2 holds a NUL byte"),
    "Latin-1 in a CSV": ("rows.csv", b"text\na\ncaf\xe9\n", "line 3 is not UTF-8 text"),
    "a UTF-16 CSV": ("rows.csv", "text\na\n".encode("utf-16"), "UTF-16"),
    "bad JSON in a CSV column": ("rows.csv", b'messages\n"[{"\n', "a 'messages' that is text and not valid JSON"),
    "tabs expected, commas found": ("rows.tsv", b"prompt,completion\na,b\n", "apart by commas"),
    "Parquet that is none": ("rows.parquet", b"PAR1 not really PAR1", "is not valid Parquet"),
    "an empty Parquet": ("rows.parquet", b"", "is not valid Parquet"),
    "a NUL in a text": ("rows.txt", b"fine\nnot\0fine\n", "line 2 holds a NUL byte"),
    "Latin-1 in a text": ("rows.txt", b"fine\ncaf\xe9\n", "line 2 is not UTF-8 text"),
    "an empty text": ("rows.txt", b"", "is empty: it has no rows"),
    "an unknown kind": ("rows.exe", b"MZ", "unknown kind of data file"),
    "a pickle by name": ("rows.pkl", b"\x80\x04.", "unknown kind of data file"),
}
FILES |= {name: ("rows.jsonl", f"{GOOD}\n{row}\n".encode(), words) for name, (row, words) in ROWS.items()}
FILES |= {f"first row: {name}": ("rows.jsonl", f"{row}\n".encode(), words) for name, (row, words) in FIRST_ROWS.items()}


def snapshot(folder: Path) -> dict[str, bytes | None]:
    entries = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in entries}


def refused(capsys, command) -> str:
    """Run `command` as the tools do; assert exit code 2 and no traceback, and return what stderr says."""
    capsys.readouterr()
    assert terminal.run(command, as_json=False) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def check_three_doors(capsys, tmp_path: Path, model: Path, source: str, words: str) -> None:
    from unsloth_fft.commands import tool

    before = snapshot(tmp_path)
    said = refused(capsys, lambda: scanning.check(Source(source), data_settings()) and None)
    assert words in said, said
    assert [line.split(":")[0] for line in said.splitlines()] == ["error", "hint"], said
    capsys.readouterr()
    for tokenizer in (["--model", str(model)], []):
        assert tool.main(["data", source, *tokenizer]) == 2
        said = capsys.readouterr().err
        assert words in said and "Traceback" not in said, said
    assert snapshot(tmp_path) == before


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of bytes and a chat template, made without torch."""
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({letter: n for n, letter in enumerate(sorted(alphabet))}, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(["<|end|>"])
    folder = tmp_path_factory.mktemp("bytes")
    backend.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + (m.tool_calls|tojson if m.tool_calls else '') }}"
        "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": template}))
    return folder


@pytest.mark.parametrize("case", list(FILES))
def test_malformed_data_are_refused_at_three_doors(tmp_path, model, capsys, case):
    name, content, words = FILES[case]
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    file = tmp_path / name
    file.write_bytes(content)
    check_three_doors(capsys, tmp_path, model, str(file), words)


def test_there_are_enough_cases():
    assert len(FILES) >= 100


PATHS = {
    "no such file": ("missing.jsonl", "not found"),
    "a path that climbs": ("../../../../no/such/rows.jsonl", "not found"),
    "a NUL in the path": ("rows\0.jsonl", "not found"),
    "an endless name": ("x" * 5000 + ".jsonl", "cannot be opened"),
    "a name that looks like an option": ("--rows.jsonl", "not found"),
    "a Hub name that climbs": ("owner/../../etc", "not found"),
    "an address": ("https://example.com/rows.jsonl", "not found"),
    "a shell command": ("$(touch here)", "not found"),
    "an empty name": ("", "not found"),
}


@pytest.mark.parametrize("case", list(PATHS))
def test_paths_that_name_no_data_are_refused(tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    name, words = PATHS[case]
    said = refused(capsys, lambda: scanning.check(Source(name), data_settings()) and None)
    assert words in said
    assert snapshot(tmp_path) == {}


def test_a_folder_without_data_is_refused(tmp_path, capsys):
    (tmp_path / ".hidden.jsonl").write_text(GOOD)
    (tmp_path / "picture.png").write_bytes(b"x")
    assert "holds no data" in refused(capsys, lambda: scanning.check(Source(str(tmp_path)), data_settings()) and None)


def test_a_folder_with_held_out_parts_alone_is_refused(tmp_path, capsys):
    (tmp_path / "test.jsonl").write_text(GOOD)
    assert "holds no data" in refused(capsys, lambda: scanning.check(Source(str(tmp_path)), data_settings()) and None)


def test_a_link_out_of_the_folder_is_refused(tmp_path, capsys):
    outside = tmp_path / "secret.json"
    outside.write_text(GOOD)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rows.json").symlink_to(outside)
    said = refused(capsys, lambda: scanning.check(Source(str(folder)), data_settings()) and None)
    assert "leads to a file outside" in said


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path, capsys):
    os.mkfifo(tmp_path / "rows.jsonl")
    said = refused(capsys, lambda: scanning.check(Source(str(tmp_path / "rows.jsonl")), data_settings()) and None)
    assert "neither a file nor a folder" in said


def test_a_line_without_end_is_refused_without_reading_it_all(tmp_path, capsys, monkeypatch):
    from unsloth_fft.data import json_rows

    monkeypatch.setattr(json_rows, "MAX_ROW_BYTES", 2**20)
    monkeypatch.setattr(scanning, "MAX_ROW_BYTES", 2**20)
    for name in ("rows.jsonl", "rows.txt", "rows.csv"):
        file = tmp_path / name
        file.write_bytes(b"x" * (2**20 + 10))
        said = refused(capsys, lambda file=file: scanning.check(Source(str(file)), data_settings()) and None)
        assert "longer than 1 MiB" in said, name


GOOD_FILES: dict[str, tuple[str, bytes]] = {
    "a byte order mark": ("rows.jsonl", b"\xef\xbb\xbf" + GOOD.encode()),
    "CRLF": ("rows.jsonl", (GOOD + "\r\n").encode() * 2),
    "blank lines between": ("rows.jsonl", (GOOD + "\n\n").encode() * 2),
    "no newline at the end": ("rows.jsonl", GOOD.encode()),
    "a whole surrogate pair": ("rows.jsonl", b'{"text": "\\ud83d\\ude00"}'),
    "an escaped NUL": ("rows.jsonl", b'{"text": "a\\u0000b"}'),
    "an array with a byte order mark": ("rows.json", b'\xef\xbb\xbf [{"text": "a"},\r\n {"text": "b"}]\n'),
    "a CSV with quotes and line ends": ("rows.csv", b'prompt,completion\r\n"a, ""b""\nc",d\r\n'),
    "a CSV with messages as JSON": (
        "rows.csv",
        b'messages\n"[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""b""}]"\n',
    ),
    "an upper case ending": ("rows.JSONL", GOOD.encode()),
    "a line separator in a string": ("rows.jsonl", '{"text": "a\u2028b"}'.encode()),
    "an empty row among others": ("rows.jsonl", b'{"text": ""}\n' + b'{"text": "abc"}\n' * 5),
}


@pytest.mark.parametrize("case", list(GOOD_FILES))
def test_unusual_but_sound_data_are_taken(tmp_path, model, capsys, case):
    from unsloth_fft.commands import tool

    name, content = GOOD_FILES[case]
    file = tmp_path / name
    file.write_bytes(content)
    count = scanning.check(Source(str(file)), data_settings()).rows
    assert count is not None and count >= 1
    assert tool.main(["data", str(file), "--model", str(model)]) == 0, capsys.readouterr().err
    assert tool.main(["data", str(file)]) == 0, capsys.readouterr().err


def test_the_column_is_the_same_with_any_line_end_and_with_none(tmp_path, capsys):
    for end in (b"", b"\n", b"\r\n", b"\n" + GOOD.encode()):
        file = tmp_path / "rows.jsonl"
        file.write_bytes(GOOD.encode() + b'\n{"messages": [' + end)
        said = refused(capsys, lambda file=file: scanning.check(Source(str(file)), data_settings()) and None)
        assert "line 2 is not valid JSON: it ends after column 14 (Expecting value)" in said, end


def test_every_fault_of_a_file_is_listed_without_a_tokenizer(tmp_path, capsys):
    from unsloth_fft.commands import tool
    from unsloth_fft.core import schema

    faulty = {4: "{", 7: '{"messages": []}', 900: "null", 1100: '{"a": NaN}'}
    lines = [faulty.get(line, GOOD) for line in range(1, 1201)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines))
    assert tool.main(["data", str(file), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert schema.problems(found, "data-check") == []
    assert found["verdict"] == "refused" and found["rows"] == 1200 and "--model DIR" in found["not_checked"]
    assert [fault["line"] for fault in found["faults"]["shown"]] == sorted(faulty)
    assert tool.main(["data", str(file)]) == 2
    said = capsys.readouterr().err
    assert all(f"line {line} " in said for line in faulty)


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_named_as_lines_is_one_fault(tmp_path, capsys, indent, end):
    from unsloth_fft.commands import tool

    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps([json.loads(GOOD)] * 300, indent=indent) + end)
    said = refused(capsys, lambda: scanning.check(Source(str(file)), data_settings()) and None)
    assert "starts a JSON array, and this file is named as JSON lines" in said and "name it .json" in said
    assert tool.main(["data", str(file)]) == 2
    assert capsys.readouterr().err.count("JSON array") == 1
    file.rename(tmp_path / "rows.json")
    assert tool.main(["data", str(tmp_path / "rows.json")]) == 0


def test_lines_that_are_arrays_are_a_fault_each(tmp_path, capsys):
    from unsloth_fft.commands import tool

    file = tmp_path / "rows.jsonl"
    file.write_text('[{"role": "user", "content": "a"}]\n' * 3)
    assert tool.main(["data", str(file)]) == 2
    assert "JSON array" not in (said := capsys.readouterr().err) and "line 1 is an array" in said


def test_of_very_many_faults_the_first_thousand_have_their_lines(tmp_path, capsys):
    from unsloth_fft.commands import tool

    file = tmp_path / "rows.jsonl"
    file.write_text("{\n" * 1500)
    assert tool.main(["data", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.count("fault: ") == 1000 and "line 1000 " in said and "and 500 more faults" in said


def test_what_needs_a_tokenizer_is_refused_without_one(tmp_path, capsys):
    from unsloth_fft.commands import tool

    file = tmp_path / "rows.jsonl"
    file.write_text(GOOD)
    for flag, value in (("--max-seq-length", "64"), ("--report", str(tmp_path / "r.html")), ("--seed", "1")):
        assert tool.main(["data", str(file), flag, value]) == 2
        assert f"{flag} needs --model DIR" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


MODELS: dict[str, tuple[str, bytes | None, str]] = {
    "no tokenizer.json": ("tokenizer.json", None, "has no tokenizer.json"),
    "an empty tokenizer.json": ("tokenizer.json", b"", "is no tokenizer"),
    "a tokenizer.json that is no JSON": ("tokenizer.json", b"{", "is no tokenizer"),
    "a tokenizer.json of another shape": ("tokenizer.json", b'{"a": 1}', "is no tokenizer"),
    "a broken tokenizer_config.json": ("tokenizer_config.json", b"{", "is not valid JSON"),
    "a tokenizer_config.json that is a list": ("tokenizer_config.json", b"[]", "holds no JSON object"),
    "a broken config.json": ("config.json", b"nope", "is not valid JSON"),
    "a template that cannot be parsed": ("chat_template.jinja", b"{% for %}", "chat template"),
    "a template that refuses": ("chat_template.jinja", b"{{ raise_exception('no') }}", "chat template"),
    "a template that reaches out": (
        "chat_template.jinja",
        b"{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "chat template",
    ),
    "a template that says nothing": ("chat_template.jinja", b"", "chat template"),
    "a template that is not UTF-8": ("chat_template.jinja", b"\xff\xfe\xe9", "not UTF-8"),
}


@pytest.mark.parametrize("case", list(MODELS))
def test_damaged_tokenizers_are_refused(tmp_path, model, capsys, case):
    import shutil

    from unsloth_fft.commands import tool

    name, content, words = MODELS[case]
    folder = shutil.copytree(model, tmp_path / "model")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(GOOD + "\n")
    before = snapshot(tmp_path)
    assert tool.main(["data", str(rows), "--model", str(folder)]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert snapshot(tmp_path) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["messages", "role", "content", "text", "conversations", "from", "value", "tools"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt"]),
)
def test_no_bytes_whatever_raise_anything_but_a_clear_refusal(tmp_path, content, suffix):
    file = tmp_path / f"rows{suffix}"
    file.write_bytes(content)
    for sample_by in ("line", "paragraph", "document"):
        try:
            found = scanning.check(Source(str(file)), data_settings(sample_by=sample_by))
        except BadInput as refusal:
            assert refusal.message and refusal.hint
        else:
            assert found.rows and found.form in formats.FORMATS
