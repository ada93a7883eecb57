"""Rows that say more than other trainers read are not handed over to them in silence."""

from __future__ import annotations

import dataclasses

import pytest

from conftest import minimal_parameters, write_jsonl
from unsloth_fft.core.errors import BadInput
from unsloth_fft.rendering import rows_elsewhere
from unsloth_fft.settings import parameters

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def given(dataset, **data):
    found = parameters.from_json(minimal_parameters("owner/model", dataset), "the test")
    return dataclasses.replace(found, data=dataclasses.replace(found.data, **data))


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"messages": [TURNS[0], {**TURNS[1], "weight": 0}]}, "weight"),
        ({"messages": TURNS, "system": "Be brief."}, "system"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "history"),
        ({"messages": TURNS, "functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_a_key_that_another_trainer_does_not_read_is_named(tmp_path, row, key):
    file = write_jsonl(tmp_path / "rows.jsonl", [{"messages": TURNS}, row])
    with pytest.raises(BadInput, match=f"line 2 has '{key}', which axolotl does not read"):
        rows_elsewhere.refuse(given(file), "axolotl")


def test_columns_of_other_names_are_refused_and_plain_rows_are_not(tmp_path):
    file = write_jsonl(tmp_path / "rows.jsonl", [{"messages": TURNS, "history": [], "source": "web"}])
    rows_elsewhere.refuse(given(file), "trl")
    rows_elsewhere.refuse(given("owner/rows"), "trl")
    with pytest.raises(BadInput, match="data/columns cannot be kept by trl"):
        rows_elsewhere.refuse(given(file, columns={"prompt": "question"}), "trl")
