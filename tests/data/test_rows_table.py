"""The table in references/data.md says what becomes of each kind of row in each kind of file; here it is walked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import ROOT
from data.test_row_meanings import turn, write_as
from data_helpers import doctor_report, tokenizer_folder
from unsloth_fft.core.errors import BadInput

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

TURNS = [turn("user", "QUESTION"), turn("assistant", "ANSWER")]
PAIR = {"prompt": "QUESTION", "completion": "ANSWER"}
ROWS = {
    "messages": {"messages": TURNS},
    "sharegpt": {"conversations": [{"from": "human", "value": "QUESTION"}, {"from": "gpt", "value": "ANSWER"}]},
    "alpaca": {"instruction": "QUESTION", "input": "", "output": "ANSWER"},
    "prompt-completion, text": PAIR,
    "prompt-completion, turns": {"prompt": TURNS[:1], "completion": TURNS[1:]},
    "text": {"text": "QUESTION ANSWER"},
    "a turn with": {"messages": [turn("user", "a"), turn("assistant", "WRONG", weight=0), *TURNS]},
    "`reasoning_content`": {"messages": [TURNS[0], turn("assistant", "ANSWER", reasoning_content="THOUGHT")]},
    "`label`": {**PAIR, "label": False},
    "`chosen`": {"prompt": "QUESTION", "chosen": "ANSWER", "rejected": "b"},
    "`masked`": {"messages": [TURNS[0], turn("assistant", "ANSWER", masked=True)]},
    "`is_correct`": {**PAIR, "is_correct": False},
    "`images`": {**PAIR, "images": ["a.png"]},
    "`system_message`": {"messages": TURNS, "system_message": "BE BRIEF"},
    "`input` or": {**PAIR, "input": "MORE"},
    "`question`": {"question": "QUESTION", "answer": "ANSWER"},
    "any other key": {"messages": TURNS, "source": "web"},
}
KINDS = {
    "JSON, Parquet, Arrow": ["jsonl", "json", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "saved", "saved-dict"],
    "CSV, TSV": ["csv", "tsv"],
    "TXT, MD": ["txt", "md"],
}


def table() -> list[tuple[str, str, str, str]]:
    """(row, objective, kinds of files, what becomes of it) for every cell."""
    text = (ROOT / "references" / "data.md").read_text(encoding="utf-8")
    lines = text.partition("<!-- what becomes of rows -->\n")[2].partition("<!-- end -->")[0].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        (cells[0], cells[1], kinds, cell) for cells in rows for kinds, cell in zip(header[2:], cells[2:], strict=True)
    ]


CELLS = table()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("models") / "chatml")


def test_every_kind_of_row_stands_in_the_table():
    names = {row for row, *_ in CELLS}
    assert all(any(name.startswith(known) for known in ROWS) for name in names)
    assert len(CELLS) == 69 and {kinds for _, _, kinds, _ in CELLS} == set(KINDS)


@pytest.mark.parametrize(("row", "objective", "kinds", "cell"), CELLS, ids=lambda value: str(value)[:24])
def test_a_row_becomes_what_the_table_says(tmp_path, model, row, objective, kinds, cell):
    rows = [ROWS[max((name for name in ROWS if row.startswith(name)), key=len)]] * 3
    for kind in KINDS[kinds]:
        folder = tmp_path / kind
        folder.mkdir()
        file = written(folder, kind, rows)
        try:
            report = doctor_report(file, model, loss_on="all" if objective == "pretrain" else "responses")
        except BadInput as refused:
            said = f"{refused.message} {refused.hint}"
            assert cell.startswith("refused: ") and cell.removeprefix("refused: ") in said, (kind, said)
            continue
        learned = "".join(part.text for part in report.samples[0] if part.learned)
        assert "WRONG" not in learned
        if cell == "learned: all":
            assert "UESTION" in learned and "ANSWER<|im_end|>" in learned, (kind, learned)
        elif cell.startswith("ignored, named: "):
            assert [one.key for one in report.unused_keys] == [cell.removeprefix("ignored, named: ")], kind
        else:
            assert cell in ("learned: the answers", "learned: the completion"), (kind, cell)
            assert learned == "ANSWER<|im_end|>", (kind, learned)


def written(folder: Path, kind: str, rows: list[dict]) -> Path:
    if kind in ("txt", "md"):
        lines = [row["text"] if list(row) == ["text"] else json.dumps(row) for row in rows]
        (folder / f"rows.{kind}").write_text("\n".join(lines))
        return folder / f"rows.{kind}"
    return write_as(folder, kind, rows)
