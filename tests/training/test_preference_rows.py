"""Rows of preferences: every part arrives as it was written, from a file on disk, or the row is named."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from conftest import write_jsonl
from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.data import arrow_rows
from unsloth_fft.settings import parameters
from unsloth_fft.settings.parameters import Data
from unsloth_fft.training import preferences

pytest.importorskip("datasets")


def prepared(folder: Path, rows: list[dict[str, Any]]) -> Any:
    return read(write_jsonl(folder / "pairs.jsonl", rows), folder)


def read(file: Path, folder: Path) -> Any:
    section = schema.load("parameters")["properties"]["data"]
    data = Data(**parameters.with_defaults({"dataset": str(file), "eval_fraction": 0.25}, section))
    return preferences.prepare(data, None, 128, folder)


def pair(number: int, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}", "chosen": "Yes.", "rejected": "No.", **changes}


def test_pairs_are_split_once_and_arrive_as_they_were_written(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(40)]
    found = prepared(tmp_path, rows)
    assert (len(found.train), len(found.held_out), found.rows) == (30, 10, 40)
    assert sorted([*found.train, *found.held_out], key=str) == sorted(rows, key=str)


def test_turns_keep_every_key_that_one_of_them_has(tmp_path: Path) -> None:
    rows = [pair(number, prompt=[{"role": "user", "content": "Well?"}]) for number in range(8)]
    rows[7]["prompt"][0]["name"] = "Ada"
    found = prepared(tmp_path, rows)
    turns = [turn for part in (found.train, found.held_out) for row in part for turn in row["prompt"]]
    assert {turn["content"] for turn in turns} == {"Well?"} and [turn["name"] for turn in turns].count("Ada") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chosen": [{"role": "assistant", "content": "Yes."}]}, "line 6: chosen is turns, and text"),
        ({"chosen": 5}, "line 6: chosen is neither a text nor a list of turns"),
        ({"rejected": [{"role": "assistant", "content": {"text": "No."}}]}, "line 6: rejected is neither"),
        ({"rejected": None}, "line 6 has no rejected"),
    ],
)
def test_a_row_of_another_kind_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    rows = [pair(number) for number in range(8)]
    rows[5] |= changes
    with pytest.raises(BadInput) as refused:
        prepared(tmp_path, rows)
    assert words in refused.value.message, refused.value.message


def test_memory_holds_a_piece_of_the_pairs_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_rows, "ROWS_AT_ONCE", 50)
    file = write_jsonl(tmp_path / "pairs.jsonl", [pair(number, chosen="Yes. " * 400) for number in range(1000)])
    tracemalloc.start()
    found = read(file, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.train) == 750 and peak < file.stat().st_size / 2, f"{peak:,} bytes"
