"""Without a tokenizer, tokens are estimated, with the range of the true number, in memory that does not grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TOOL, run_script, write_jsonl
from unsloth_fft.core import schema
from unsloth_fft.data.row_format import Conversation, Text
from unsloth_fft.data_doctor import token_estimate

# Counted on 2026-12-01 with Llama 3's vocabulary of 128,000 (llama3-tokenizer-js 1.2.0), without markers.
COUNTED = {
    "The quick brown fox jumps over the lazy dog. It was not amused, and said so at length.": 21,
    'def add(a: int, b: int) -> int:\n    """The sum."""\n    return a + b\n\nprint(add(2, 40))\n': 32,
    "Die Vereinigten Staaten haben gestern ein neues Abkommen unterzeichnet, das im nächsten Jahr in Kraft tritt.": 27,
    "今天天气很好，我们一起去公园散步吧。然后我们可以在湖边吃午饭。": 24,
    "Сегодня хорошая погода, и мы пойдём гулять в парк вместе с друзьями.": 24,
    "오늘은 날씨가 좋아서 친구들과 함께 공원에 산책을 갑니다.": 20,
    '{"name": "Anna", "age": 31, "tags": ["a", "b"], "score": 0.875}': 29,
}


def estimate(*texts: str) -> token_estimate.Estimate:
    found = token_estimate.Estimator()
    for text in texts:
        found.add(Text(text))
    result = found.result()
    assert result is not None
    return result


def test_the_counted_number_lies_in_the_range_that_is_stated() -> None:
    """Of rows together: a single short one may be further off."""
    found = estimate(*COUNTED)
    assert found.least <= sum(COUNTED.values()) <= found.most, found


def test_rows_that_are_only_measured_count_as_those_that_were_looked_at() -> None:
    rows = [f"Row {number} of many, with words of several lengths: abcdefghijk." for number in range(6000)]
    apart = sum(sum(token_estimate.tokens_of(row)) for row in rows)
    assert estimate(*rows).tokens == pytest.approx(apart, rel=0.03)


def test_a_chat_template_puts_something_around_every_turn() -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}]
    found = token_estimate.Estimator()
    found.add(Conversation(turns, []))
    result = found.result()
    assert result is not None and result.tokens == 2 * (1 + token_estimate.ROLE_TOKENS)


def test_data_says_it_without_any_package(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "One line of plain text to learn from."}] * 100)
    finished = run_script(TOOL, "data", rows, "--json")
    found = json.loads(finished.stdout)
    assert schema.problems(found, "data-check") == []
    assert found["tokens"]["least"] <= 900 <= found["tokens"]["most"]  # 9 each with Llama 3's vocabulary
    assert "within 15%" in found["tokens"]["basis"]
    assert "about" in run_script(TOOL, "data", rows).stderr


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 80 MB within an address space of 64 MiB, of which Python itself takes half; so would one of 1 GB be."""
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"text": "A line of plain text to learn from, again and again. " * 40}) + "\n"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(40):
            file.write(line * 1000)
    command = f"ulimit -v 65536; exec {sys.executable} -S {TOOL} data {path} --json"
    finished = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert finished.returncode == 0, finished.stderr[-400:]
    assert json.loads(finished.stdout)["rows"] == 40_000


def test_where_packages_to_count_with_are_missing_the_estimate_is_given_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unsloth_fft.commands import tool

    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "One line."}])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    command = ["data", str(rows), "--model", "MODEL_DIR", "--max-seq-length", "2048"]
    assert tool.main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("jinja2") == 2 and printed.err.startswith("warning: not installed: jinja2; so tokens are")
    found = json.loads(printed.out)
    assert found["tokens"]["estimate"] > 0 and "not installed: jinja2" in found["not_checked"]
    assert tool.main([*command, "--report", str(tmp_path / "page.html")]) == 4
