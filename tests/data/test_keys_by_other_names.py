"""Marks, judgements and turns under names that no format has: refused by name with what to do, never passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unsloth_fft.data.row_format import Conversation, Reader
from unsloth_fft.data.row_problems import RowProblem


def asked(*answers: dict, **beside: object) -> dict:
    """A row of questions, each followed by one of `answers`."""
    return {"messages": [part for answer in answers for part in (user("a"), answer)], **beside}


def user(content: object, **more: object) -> dict:
    return {"role": "user", "content": content, **more}


def said(content: object, **more: object) -> dict:
    return {"role": "assistant", "content": content, **more}


def problem_of(*rows: dict) -> RowProblem:
    reader = Reader()
    for row in rows[:-1]:
        reader.read(row)
    with pytest.raises(RowProblem) as caught:
        reader.read(rows[-1])
    assert caught.value.hint, caught.value
    return caught.value


MARKS: list[dict[str, Any]] = [
    *({"masked": True}, {"mask": 0}, {"is_masked": True}, {"learn": False}, {"trainable_turn_mask": None, "skip": 1}),
    *({"do_train": False}, {"is_trained": "false"}, {"compute_loss": False}, {"no_loss": True}, {"ignore": True}),
    *({"supervised": 0}, {"Mask": 1}, {"label": False}, {"ignore_loss": True}),
]


@pytest.mark.parametrize("mark", MARKS, ids=str)
def test_a_mark_of_an_answer_by_another_name_is_refused_and_may_be_said_to_mean_nothing(mark):
    row = asked(said("WRONG", **mark), said("RIGHT"))
    problem = problem_of(row)
    key = list(mark)[-1]
    assert f"message 2 with '{key}'" in str(problem)
    assert "weight 0 or 1" in str(problem.hint) and f"--ignore-columns 'messages[].{key}'" in str(problem.hint)
    reader = Reader(ignored=[f"messages[].{key}"])
    assert isinstance(reader.read(row), Conversation)


@pytest.mark.parametrize(
    "beside",
    [{"mask": [0, 1]}, {"masked": True}, {"weights": [0, 0.5]}, {"turn_weights": [1]}, {"ignore": True}],
    ids=str,
)
def test_a_mark_beside_the_turns_is_refused(beside):
    problem = problem_of(asked(said("b"), **beside))
    assert f"'{next(iter(beside))}'" in str(problem) and f"--ignore-columns {next(iter(beside))}" in str(problem.hint)


@pytest.mark.parametrize("beside", [{"train_id": 3}, {"mask": "a word"}, {"weight_kg": 2}, {"loss_reason": 1}], ids=str)
def test_keys_that_only_resemble_a_mark_are_counted(beside):
    reader = Reader()
    reader.read(asked(said("b"), **beside))
    assert list(reader.unused) == list(beside)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"prompt": "a", "completion": "b", "is_correct": False}, "is_correct"),
        (asked(said("b"), accepted=False), "accepted"),
        ({"instruction": "a", "output": "b", "ranking": 2}, "ranking"),
        ({"prompt": "a", "completion": "b", "preference": "c"}, "preference"),
        ({"instruction": "a", "output": ["b", "c"]}, "output"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1, 2]}, "responses"),
        ({"prompt": "a", "completions": ["b", "c"], "labels": [True, False]}, "completions"),
    ],
)
def test_judged_and_compared_answers_are_preference_data(row, key):
    problem = problem_of(row)
    assert f"'{key}'" in str(problem) and "preference data" in str(problem)
    assert "learns every answer as right" in str(problem.hint)


@pytest.mark.parametrize("beside", [{"is_correct": True}, {"score": 0.1}, {"rating": 5}, {"reward": -1.0}], ids=str)
def test_a_good_answer_and_a_score_are_learned_and_named(beside):
    reader = Reader()
    reader.read({"prompt": "a", "completion": "b", **beside})
    assert list(reader.unused) == list(beside)


@pytest.mark.parametrize(("used", "other"), [("output", "response"), ("input", "context")])
def test_two_names_for_one_part_are_refused_where_they_differ(used, other):
    row = {"instruction": "a", "output": "b", used: "ONE", other: "OTHER"}
    assert f"both '{used}' and '{other}'" in str(problem_of(row))
    for left, kept in ((other, "ONE"), (used, "OTHER")):
        content = Reader(ignored=[left]).read(row)
        assert isinstance(content, Conversation) and kept in str(content.messages)
    assert isinstance(Reader().read({**row, other: "ONE"}), Conversation)


@pytest.mark.parametrize(
    ("role", "meant"),
    [("human", "user"), ("User", "user"), ("gpt", "assistant"), ("model", "assistant"), ("bot", "assistant")],
)
def test_a_role_of_another_name_is_refused_with_the_one_that_is_meant(role, meant):
    other = said("b") if meant == "user" else user("a")
    problem = problem_of({"messages": [{"role": role, "content": "c"}, other]})
    assert f"the role '{role}'" in str(problem) and f"'{meant}'" in str(problem.hint)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"text": "a"}, "it is dict"),
        (3, "it is int"),
        (None, "without text content"),
        ([{"text": "a"}], "parts that are not text"),
        (["a"], "parts that are not text"),
        ([], "parts that are not text"),
    ],
)
def test_content_that_is_no_text_is_refused_with_what_to_write(content, words):
    for turns in ([user(content), said("b")], [user("a"), said(content), user("c"), said("d")]):
        problem = problem_of({"messages": turns})
        assert words in str(problem) and "text" in str(problem.hint)


@pytest.mark.parametrize(
    ("row", "words", "hint"),
    [
        ({"messages": {"role": ["user"], "content": ["a"]}}, "columns, not turns", "one list"),
        ({"instruction": {"0": "a"}, "output": {"0": "b"}}, "not text but dict", "orient='records'"),
        ({"prompt": "a", "completion": 2}, "not text but int", '"2"'),
        ({"messages": [None, said("b")]}, "not an object", ""),
    ],
)
def test_a_row_of_another_shape_is_refused_with_what_to_write(row, words, hint):
    with pytest.raises(RowProblem, match=words) as caught:
        Reader().read(row)
    assert hint in (caught.value.hint or "")


def test_turns_of_bare_strings_are_not_proposed_as_messages():
    with pytest.raises(RowProblem) as caught:
        Reader().read({"dialog": ["a", "b"]})
    assert "messages=" not in (caught.value.hint or "")


def test_a_row_of_another_format_than_those_before_it_is_named_so():
    problem = problem_of(asked(said("b")), {"instruction": "a", "output": "b"})
    assert str(problem) == "is alpaca, and rows before it are messages" and "data.sources" in str(problem.hint)


def test_tools_may_be_a_column_of_texts():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    content = Reader().read(asked(said("b"), tools=[json.dumps(tool)] * 2))
    assert isinstance(content, Conversation) and content.tools == [tool, tool]


PAIR = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("beside", "part"),
    [
        ({"system_message": "s"}, "system"),
        ({"systemPrompt": "s"}, "system"),
        ({"system_instruction": {"parts": [{"text": "s"}]}}, "system"),
        ({"chat_history": [["a", "c"]]}, "history"),
        ({"previous_turns": [{"role": "user", "content": "x"}]}, "history"),
        ({"available_tools": [{"name": "f"}]}, "tools"),
        ({"tool_definitions": '[{"name": "f"}]'}, "tools"),
    ],
    ids=str,
)
@pytest.mark.parametrize("row", [asked(said("b")), {"instruction": "a", "output": "b"}, PAIR], ids=str)
def test_a_part_of_the_row_under_another_name_is_refused_with_the_flag_that_names_it(row, beside, part):
    key = next(iter(beside))
    problem = problem_of({**row, **beside})
    assert f"'{key}'" in str(problem) and f"--columns {part}={key}" in str(problem.hint)
    reader = Reader(ignored=[key])
    reader.read({**row, **beside})
    assert reader.unused[key] == 1


@pytest.mark.parametrize("key", ["input", "context", "instruction", "Question"])
def test_more_of_the_question_beside_a_prompt_is_refused_unless_the_prompt_holds_it(key):
    assert "left out" in str(problem_of({**PAIR, key: "MORE"}))
    reader = Reader()
    reader.read({"prompt": "a: MORE", "completion": "b", key: "MORE"})
    assert list(reader.unused) == [key]


def test_a_copy_of_system_words_that_the_turns_hold_is_counted():
    reader = Reader()
    reader.read({"messages": [{"role": "system", "content": "s"}, user("a"), said("b")], "system_message": "s"})
    assert list(reader.unused) == ["system_message"]


@pytest.mark.parametrize("beside", [{"function": "sort"}, {"api": "v2"}, {"imagery": "x"}, {"photos": 3}], ids=str)
def test_keys_that_only_resemble_a_part_are_counted(beside):
    reader = Reader()
    reader.read(asked(said("b"), **beside))
    assert list(reader.unused) == list(beside)


@pytest.mark.parametrize(
    "beside", [{"image_paths": ["x"]}, {"img": "x"}, {"wav_file": "x"}, {"files": ["a.png", "b.MP4"]}], ids=str
)
def test_media_under_any_name_are_refused(beside):
    key = next(iter(beside))
    assert f"'{key}': it belongs to a picture" in str(problem_of(asked(said("b"), **beside)))
    assert f"message 1 with '{key}'" in str(problem_of({"messages": [user("a", **beside), said("b")]}))


def test_what_belongs_beside_the_turns_or_is_no_answer_is_refused_in_a_turn():
    row = {"messages": [{"role": "system", "content": "s", "tools": [{"name": "f"}]}, user("a"), said("b")]}
    assert "message 1 with 'tools'" in str(problem_of(row))
    assert "'channel' 'analysis'" in str(problem_of(asked(said("thought", channel="analysis"))))
    Reader().read(asked(said("b", channel="final")))


@pytest.mark.parametrize("answer", ["nan", "None", " null"])
def test_answers_that_are_only_a_missing_value_are_counted(answer):
    from unsloth_fft.data_doctor import oddities

    rows = oddities.OddRows()
    for words in (answer, "None of these", "nans"):
        rows.add(Reader().read({"prompt": "a", "completion": words}))
    found = rows.result()
    assert found.placeholders == 1 and "nan or null" in oddities.sentences(found)[0]
