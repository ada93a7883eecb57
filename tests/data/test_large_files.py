"""Rows are read from disk, a piece at a time: what a large file needs of memory is what a small one needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("datasets")

from conftest import minimal_parameters
from unsloth_fft.data import arrow_rows, preparing
from unsloth_fft.settings.parameters import from_json
from unsloth_fft.training import held_out


class Letters:
    """A tokenizer with one token a letter, quick enough for tens of megabytes."""

    bos_token_id, eos_token_id, chat_template = None, 1, None

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [2] * len(text)}


def prepared(tmp_path: Path, line: str, lines: int, **changes: object) -> preparing.Prepared:
    corpus = tmp_path / "corpus.txt"
    with corpus.open("w", encoding="utf-8") as file:
        file.writelines(f"{number} {line}\n" for number in range(lines))
    values = minimal_parameters("model", corpus)["data"] | {"objective": "pretrain", "loss_on": "all", **changes}
    data = from_json(minimal_parameters("model", corpus, data={"eval_fraction": 0.0, **values}), "test").data
    return preparing.prepare(data, Letters(), 128, tmp_path)


def test_no_more_of_a_text_is_held_than_a_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_rows, "WEIGHT_AT_ONCE", 10_000)
    found = prepared(tmp_path, "x" * 40_000, 20)
    pieces = [len(piece.flatten()) for piece in found.train.data.column("input_ids").chunks]
    assert found.rows == 20 and sum(pieces) > 800_000 and max(pieces) < 10_000 + 128


def test_pieces_are_bounded_by_rows_and_by_what_the_rows_hold(tmp_path):
    from datasets import Features, Value

    features = Features({"text": Value("string")})
    heavy = [(arrow_rows.WEIGHT_AT_ONCE, {"text": "a"}), (1, {"text": "b"}), (1, {"text": "c"})]
    many = [(1, {"text": str(number)}) for number in range(2 * arrow_rows.ROWS_AT_ONCE + 1)]
    for name, rows, pieces in (("heavy", heavy, 2), ("many", many, 3)):
        stored = arrow_rows.written(tmp_path / name, features, iter(rows))
        assert stored["text"][:] == [row["text"] for _, row in rows]
        assert stored.data.column("text").num_chunks == pieces


def test_no_rows_are_a_dataset_without_rows(tmp_path):
    from datasets import Features, Value

    stored = arrow_rows.written(tmp_path / "none", Features({"number": Value("int64")}), iter(()))
    assert len(stored) == 0 and len(arrow_rows.column(stored, "number")) == 0


def test_held_out_rows_are_read_when_they_are_asked_for(tmp_path):
    found = prepared(tmp_path, "x" * 50, 20, eval_fraction=0.5)
    rows = held_out.Rows(found.held_out)
    assert len(rows) == 10 and len(list(rows)) == len(list(rows)) == 10
    assert all(len(input_ids) == len(labels) for input_ids, labels in rows)
    assert len(held_out.Rows(None)) == 0 and not list(held_out.Rows(None))


def test_who_waits_for_many_rows_is_told_how_far_it_is(monkeypatch, capsys):
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(arrow_rows, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(arrow_rows.counted(["a", "b", "c", "d"], "tokenizing")) == ["a", "b", "c", "d"]
    assert capsys.readouterr().err == "tokenizing: 2 of 4 rows\ntokenizing: 4 of 4 rows\n"
