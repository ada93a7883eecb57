"""The script for an adapter: whatever a name holds is a value in it and no code, and what cannot be one is refused."""

from __future__ import annotations

import ast

import pytest

from conftest import conversation_rows, write_jsonl
from unsloth_fft.commands import tool
from unsloth_fft.rendering import lora_script

NAMES = (
    *("\U0001f600", 'a"b', "a'b", "a\\", "a\nimport os", "a\x00b", "a\x85import os", "a\u2028b", "a\udcffb", "{name}"),
    *("'''", "{{x}}", "\ufeffa", "a\x0cb"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_again_by_python(name: str) -> None:
    text = lora_script.text(
        model=f"/m/{name}", dataset=f"/d/{name}.jsonl", form="messages", length=64, epochs=1.0, four_bit=False, file="f"
    )
    read = ast.parse(text.encode("utf-8"))
    values = {node.value for node in ast.walk(read) if isinstance(node, ast.Constant)}
    assert {f"/m/{name}", f"/d/{name}.jsonl"} <= values
    assert [node.names[0].name for node in ast.walk(read) if isinstance(node, ast.Import)] == []


@pytest.mark.parametrize("flag", ["--seq-length", "--epochs"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e400", "9" * 400, "\u00b2"])
def test_numbers_that_nobody_means_are_refused(tmp_path, monkeypatch, capsys, flag: str, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(2))
    assert tool.main(["lora", "--model", "m", "--dataset", "rows.jsonl", flag, value]) == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["~nobody-of-this-name/x", "a\x00b", "n" * 5000, "/dev/zero", "."])
def test_a_data_set_that_is_none_is_two_lines(tmp_path, monkeypatch, capsys, dataset: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert tool.main(["lora", "--model", "m", "--dataset", dataset]) == 2
    assert [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "hint"]
