"""Every key of a row that changes what is learned is used, or refused by its name; nothing else is learned.

The cases are small copies of what people brought to other trainers, where they came out as something else; each names
the public report it follows.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from conftest import write_jsonl
from data_helpers import CHATML, STRICT, THINKING, doctor_report, learned_by_doctor, tokenizer_folder
from unsloth_fft.data import row_format
from unsloth_fft.data.row_format import Conversation, Pair, Reader
from unsloth_fft.data.row_problems import EmptyRow, RowProblem

END = "<|im_end|>"
TOOL = {"name": "get_tide", "description": "Tide of a port.", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    return tokenizer_folder(tmp_path_factory.mktemp("models") / "chatml", CHATML)


@pytest.fixture(scope="module")
def thinking_model(model, tmp_path_factory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("models") / "thinking", THINKING)


@pytest.fixture(scope="module")
def strict_model(model, tmp_path_factory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("models") / "strict", STRICT)


def turn(role: str, content: object, **more: object) -> dict:
    return {"role": role, "content": content, **more}


def asked(*answers: dict, **beside: object) -> dict:
    """A row of questions, each followed by one of `answers`."""
    turns = [part for answer in answers for part in (turn("user", "When does the boat leave?"), answer)]
    return {"messages": turns, **beside}


def learned(tmp_path: Path, model: Path, row: dict, **changes) -> list[str]:
    return learned_by_doctor(write_jsonl(tmp_path / "rows.jsonl", [row]), model, **changes)


def read(row: dict, **columns: str):
    return Reader(columns=columns).read(row)


def problem_of(row: dict, form: str | None = None) -> RowProblem:
    with pytest.raises(RowProblem) as caught:
        Reader(form or "auto").read(row)
    assert not isinstance(caught.value, EmptyRow)
    return caught.value


# --- turns that are not learned (axolotl#1702; OpenAI, mistral-finetune, ms-swift, LLaMA-Factory) ---


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"train": False}, {"loss": False}, {"loss_weight": 0.0}, {"step_loss_mask": 0}]
)
@pytest.mark.parametrize("loss_on", ["responses", "all"])
def test_a_turn_with_weight_zero_is_not_learned(tmp_path, model, mark, loss_on):
    row = asked(turn("assistant", "WRONG", **mark), turn("assistant", "RIGHT"))
    found = learned(tmp_path, model, row, loss_on=loss_on)
    assert not any("WRONG" in part for part in found) and "RIGHT" in found[-1]
    if loss_on == "responses":
        assert found == [f"RIGHT{END}"]


def test_a_sharegpt_turn_keeps_its_mark(tmp_path, model):
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "WRONG", "weight": 0}]
    row = {"conversations": [*turns, {"from": "human", "value": "b"}, {"from": "gpt", "value": "RIGHT"}]}
    assert learned(tmp_path, model, row) == [f"RIGHT{END}"]


def test_a_row_without_an_answer_to_learn_is_left_out():
    with pytest.raises(EmptyRow, match="to be learned"):
        read(asked(turn("assistant", "a", weight=0)))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (asked(turn("assistant", "a", weight=0.5)), "message 2 with 'weight' 0.5"),
        (asked(turn("assistant", "a", loss_scale=2.0)), "message 2 with 'loss_scale' 2.0"),
        (asked(turn("assistant", "a", weight=0, train=True)), "marks contradict"),
        ({"messages": [turn("user", "a", train=True), turn("assistant", "b")]}, "message 1 \\(user\\) that is to be"),
        (asked(turn("assistant", "a", train_detail=[])), "train_detail"),
        (asked(turn("assistant", [{"type": "text", "text": "a", "train": False}])), "beside a part of it"),
        (asked(turn("assistant", "a"), weight=0), "'weight' 0 beside the whole row"),
        ({"prompt": "a", "completion": "b", "loss_mask": [0, 1]}, "'loss_mask'"),
        ({"prompt": "a", "completion": "b", "completion_mask": [0, 1]}, "'completion_mask'"),
        (asked(turn("assistant", "a"), chat_template_kwargs={"enable_thinking": False}), "chat_template_kwargs"),
    ],
)
def test_a_mark_that_is_not_done_here_is_refused_by_name(row, words):
    problem = problem_of(row)
    assert re.search(words, str(problem)) and problem.hint


def test_a_template_that_joins_answers_cannot_leave_one_out(tmp_path):
    marked = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    answers = [turn("assistant", "WRONG", weight=0), turn("assistant", "RIGHT")]
    rows = [asked(answers[1]), {"messages": [turn("user", "a"), *answers]}]
    report = doctor_report(write_jsonl(tmp_path / "rows.jsonl", rows), tokenizer_folder(tmp_path / "joined", marked))
    assert [fault.line for fault in report.faults.shown] == [2]
    assert "does not set each apart" in report.faults.shown[0].message


# --- what stands beside the turns (axolotl#2397, NeMo-Automodel#3143, SkyRL#1675) ---

SYSTEM = "Answer in one word."


@pytest.mark.parametrize("key", ["system", "system_prompt"])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [turn("user", "Sky?"), turn("assistant", "Blue.")]},
        {"conversations": [turn("user", "Sky?"), turn("assistant", "Blue.")]},
        {"conversations": [{"from": "human", "value": "Sky?"}, {"from": "gpt", "value": "Blue."}]},
        {"instruction": "Sky?", "output": "Blue."},
        {"prompt": "Sky?", "completion": "Blue."},
        {"prompt": [turn("user", "Sky?")], "completion": [turn("assistant", "Blue.")]},
    ],
    ids=lambda row: "-".join(row),
)
def test_a_rows_own_system_words_come_first_whatever_the_format(tmp_path, model, key, row):
    source = write_jsonl(tmp_path / "rows.jsonl", [{key: SYSTEM, **row}])
    report = doctor_report(source, model)
    whole = "".join(part.text for part in report.samples[0])
    assert whole.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>") and "You are a helper." not in whole
    assert [part.text for part in report.samples[0] if part.learned] == [f"Blue.{END}"]


def test_system_words_twice_are_one_and_two_kinds_are_refused():
    row = {"messages": [turn("system", SYSTEM), turn("user", "a"), turn("assistant", "b")]}
    assert read({**row, "system": SYSTEM}).messages == row["messages"]
    assert "other system words" in str(problem_of({**row, "system": "Be long."}))
    assert "raw text has no turns" in str(problem_of({"text": "a", "system": SYSTEM}))


def test_an_alpaca_history_is_earlier_turns_and_learned(tmp_path, model):
    """As LLaMA-Factory's data/README.md says of it."""
    row = {"instruction": "And now?", "input": "", "output": "NOW.", "history": [["Before?", "BEFORE."]]}
    assert learned(tmp_path, model, row) == [f"BEFORE.{END}", f"NOW.{END}"]
    assert "no list of [question, answer]" in str(problem_of({**row, "history": [["a"]]}))


def test_of_a_prompt_of_turns_the_completion_alone_is_learned(tmp_path, model):
    prompt = [turn("user", "a"), turn("assistant", "SHOT"), turn("user", "b")]
    assert learned(tmp_path, model, {"prompt": prompt, "completion": [turn("assistant", "ANSWER")]}) == [f"ANSWER{END}"]


def test_rows_of_one_source_go_all_through_the_template_or_none(tmp_path):
    reader = Reader()
    assert isinstance(reader.read({"prompt": "a", "completion": "b"}), Pair)
    with pytest.raises(RowProblem, match="rows before it are plain text"):
        reader.read({"prompt": "a", "completion": "b", "system": "c"})


# --- calls and reasoning (OpenAI's legacy keys; slime#330, fw-ai/cookbook#386) ---


def test_the_earlier_function_calls_of_openai_are_tool_calls():
    call = {"name": "get_tide", "arguments": '{"port": "P1"}'}
    row = {
        "messages": [
            turn("user", "Tide?"),
            turn("assistant", None, function_call=call),
            turn("function", "high", name="get_tide"),
            turn("assistant", "High."),
        ],
        "functions": [TOOL],
    }
    content = read(row)
    assert content.tools == [{"type": "function", "function": TOOL}]
    assert content.messages[1]["tool_calls"] == [
        {"type": "function", "function": {"name": "get_tide", "arguments": {"port": "P1"}}}
    ]
    assert content.messages[2] == {"role": "tool", "content": "high", "name": "get_tide"}


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_learned_where_the_template_writes_it_and_refused_where_not(tmp_path, model, thinking_model, key):
    row = asked(turn("assistant", "It is 2.", **{key: "THOUGHT"}))
    assert learned(tmp_path, thinking_model, row) == [f"<think>\nTHOUGHT\n</think>\nIt is 2.{END}"]
    report = doctor_report(write_jsonl(tmp_path / "rows.jsonl", [asked(turn("assistant", "a")), row]), model)
    assert [fault.line for fault in report.faults.shown] == [2]
    assert f"'{key}' that the chat template leaves out" in report.faults.shown[0].message


def test_reasoning_of_an_earlier_answer_that_the_template_drops_is_refused_unless_it_is_not_learned(
    tmp_path, thinking_model
):
    def two(**mark):
        answers = (turn("assistant", f"{n}.", reasoning_content=f"THOUGHT {n}") for n in ("one", "two"))
        first, second = answers
        return asked({**first, **mark}, second)

    rows = write_jsonl(tmp_path / "rows.jsonl", [asked(turn("assistant", "a")), two()])
    fault = doctor_report(rows, thinking_model).faults.shown[0]
    assert "leaves out ('THOUGHT one')" in fault.message and "one row for each answer" in fault.hint
    assert learned(tmp_path, thinking_model, two(weight=0)) == [f"<think>\nTHOUGHT two\n</think>\ntwo.{END}"]


def test_parts_of_llama_factory_are_words_reasoning_and_calls():
    parts = [
        {"type": "reasoning", "value": "THOUGHT"},
        {"type": "text", "value": "Let me see."},
        {"type": "tool_call", "value": '{"name": "get_tide", "arguments": {}}'},
    ]
    answer = read(asked(turn("assistant", parts, loss_weight=1.0))).messages[1]
    assert (answer["content"], answer["reasoning_content"]) == ("Let me see.", "THOUGHT")
    assert answer["tool_calls"][0]["function"]["name"] == "get_tide"


@pytest.mark.parametrize("arguments", [None, "null", "", {}, "{}"])
def test_a_call_without_arguments_has_none_however_it_is_written(arguments):
    """vllm#43861: some servers write null."""
    row = asked(turn("assistant", None, tool_calls=[{"function": {"name": "now", "arguments": arguments}}]))
    assert read(row).messages[1]["tool_calls"][0]["function"]["arguments"] == {}


def test_thoughts_in_the_words_of_an_earlier_answer_that_the_template_drops_are_refused(tmp_path):
    """ms-swift#4939 and #4810: Qwen3's template keeps the last answer's thoughts alone; the others learned none."""
    dropping = CHATML.replace(
        "message['content'] }}",
        "(message['content'] if loop.last or message['role'] != 'assistant' else"
        " message['content'].split('</think>')[-1].lstrip()) }}",
    )
    folder = tokenizer_folder(tmp_path / "dropping", dropping)
    answers = [turn("assistant", f"<think>\nTHOUGHT {n}\n</think>\n\nANSWER {n}") for n in ("one", "two")]
    rows = write_jsonl(tmp_path / "rows.jsonl", [asked(answers[0]), asked(*answers)])
    faults = doctor_report(rows, folder).faults.shown
    assert [fault.line for fault in faults] == [2]
    assert "an answer that the chat template leaves out" in faults[0].message and "one row for each" in faults[0].hint
    marked = asked({**answers[0], "weight": 0}, answers[1])
    assert learned(tmp_path, folder, marked) == [f"<think>\nTHOUGHT two\n</think>\n\nANSWER two{END}"]


def test_tools_may_be_json_text_and_nothing_else():
    """NeMo-Automodel#2324: tools as text became none, and calls to tools never shown were learned."""
    content = read({**asked(turn("assistant", "a")), "tools": json.dumps([TOOL])})
    assert content.tools == [TOOL]
    assert "no list of objects" in str(problem_of({**asked(turn("assistant", "a")), "tools": TOOL}))


# --- other trainings: preference, labels, media (trl#1116 and #2248, ms-swift#4535, LLaMA-Factory's demos) ---

ANSWERED = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({**ANSWERED, "label": False}, "label"),
        ({**ANSWERED, "label": 1}, "label"),
        ({**ANSWERED, "label": "true"}, "label"),
        ({**asked(turn("assistant", "b")), "label": True}, "label"),
        ({**asked(turn("assistant", "b")), "rejected_response": "c"}, "rejected_response"),
        ({"instruction": "a", "output": "b", "kto_tag": True}, "kto_tag"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chosen"),
        ({"conversations": [{"from": "human", "value": "a"}], "chosen": {}, "rejected": {"value": "b"}}, "chosen"),
        ({"chosen_messages": [], "rejected_messages": [turn("user", "a")]}, "rejected_messages"),
        ({**asked(turn("assistant", "b")), "images": ["a.png"]}, "images"),
        ({"messages": [turn("user", "a"), turn("assistant", "b")], "videos": ["a.mp4"], "audios": []}, "videos"),
        ({"text": "a caption", "image": {"bytes": "", "path": "a.png"}}, "image"),
        ({"messages": [turn("user", "a", images=["a.png"]), turn("assistant", "b")]}, "images"),
    ],
)
def test_rows_of_another_training_are_refused_by_the_key_that_says_so(row, key):
    problem = problem_of(row)
    assert f"'{key}'" in str(problem) and problem.hint


@pytest.mark.parametrize(
    "question",
    ["<image>What is it?", "What is it?\n<image>", "<video><audio>Say.", "a\n<image>\nb", "<img>http://a/b.png</img>Say",
     "Look: <|vision_start|><|image_pad|><|vision_end|>", f"![a](data:image/png;base64,{'iVBOR' * 50}==) What is it?"],
)  # fmt: skip
def test_a_place_for_a_picture_is_refused(question):
    assert "a place for a picture" in str(problem_of(asked(turn("assistant", "a")) | {
        "messages": [turn("user", question), turn("assistant", "a")]}))  # fmt: skip


@pytest.mark.parametrize(
    "question",
    [
        "What does <image> mean in SVG?",
        "<audio>\n<source></audio> plays",
        "Use <video controls>",
        f"Why is this blurred? a {{ background: url(data:image/png;base64,{'iVBOR' * 50}) }}",
        f'<img src="data:image/png;base64,{"iVBOR" * 50}">',
        "What does data:image/png;base64,iVBORw0KGgo= say?",
    ],
)
def test_markup_is_words(question):
    assert read({"messages": [turn("user", question), turn("assistant", "a")]}).messages[0]["content"] == question


def test_a_row_of_another_split_is_not_learned():
    problem = problem_of({**ANSWERED, "split": "Test"})
    assert "'split' 'Test'" in str(problem) and "--ignore-columns split" in problem.hint
    assert isinstance(read({**ANSWERED, "split": "train"}), Pair)


def test_a_class_beside_raw_text_and_empty_media_are_no_other_training():
    assert read({"text": "a film", "label": 0}).text == "a film"
    assert isinstance(read({**asked(turn("assistant", "b")), "images": [], "rejected": None or ""}), Conversation)


def test_a_column_may_be_said_to_mean_nothing():
    reader = Reader(ignored=["label"])
    assert isinstance(reader.read({**ANSWERED, "label": True}), Pair)
    assert reader.unused == {"label": 1}


def test_keys_that_were_not_looked_at_are_counted_with_those_of_turns():
    reader = Reader()
    reader.read({**asked(turn("assistant", "a", id=3)), "source": "web", "prompt": "x"})
    reader.read(asked(turn("assistant", "a")))
    assert reader.unused == {"source": 1, "prompt": 1, "messages[].id": 1}


# --- columns of other names (ms-swift's test data, LLaMA-Factory's columns) ---


def test_columns_say_what_is_what():
    assert read({"question": "a", "answer": "b"}, prompt="question", completion="answer") == Pair("a", "b")
    row = {"query": "now?", "response": "NOW", "history": [["a", "b"]], "sys": SYSTEM}
    found = read(row, instruction="query", output="response", system="sys")
    assert [part["content"] for part in found.messages] == [SYSTEM, "a", "b", "now?", "NOW"]
    pairs = {"conversation": [{"human": "a", "assistant": "b"}], "system": SYSTEM}
    assert [part["role"] for part in read(pairs, messages="conversation").messages] == ["system", "user", "assistant"]
    with pytest.raises(RowProblem, match="no column 'question'"):
        read({"q": "a", "a": "b"}, prompt="question")


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"question": "a", "answer": "b"}, "--columns prompt=question completion=answer"),
        ({"query": "a", "response": "b"}, "--columns prompt=query completion=response"),
        ({"input": "a", "output": "b"}, "--columns prompt=input completion=output"),
        ({"Question": "a", "Answer": "b"}, "--columns prompt=Question completion=Answer"),
        ({"query": "a", "response": "b", "history": []}, "--columns instruction=query output=response"),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, "--columns messages=conversation"),
    ],
)
def test_a_usual_pair_is_proposed_as_the_line_to_paste_and_never_taken_unasked(row, line):
    hint = problem_of(row).hint
    assert hint is not None and line in hint


def test_rows_that_are_tokenized_already_are_said_to_be():
    assert "tokenized already" in str(problem_of({"input_ids": [1, 2], "labels": [1, 2]}))


# --- templates (transformers#28366, guidellm#67; unsloth#823 and #2095) ---


def test_a_template_without_system_turns_says_what_to_do(tmp_path, strict_model):
    good = asked(turn("assistant", "Ahoy."))
    rows = [good, {"messages": [turn("system", SYSTEM), *good["messages"]]}, {"messages": good["messages"][1:]}]
    faults = doctor_report(write_jsonl(tmp_path / "rows.jsonl", rows), strict_model).faults.shown
    assert "before the first question" in faults[0].hint and "--chat-template" in faults[0].hint
    assert "must alternate" in faults[1].message and "beginning with a question" in faults[1].hint


def test_an_answer_that_holds_the_end_token_is_refused(tmp_path, model):
    """A tokenizer whose end is </s> takes the HTML of a struck word for it, and the answer stops there."""
    rows = [asked(turn("assistant", "Fine.")), asked(turn("assistant", "Write <|im_end|> and go on."))]
    fault = doctor_report(write_jsonl(tmp_path / "rows.jsonl", rows), model).faults.shown[0]
    assert fault.line == 2 and "message 2 (assistant) that holds '<|im_end|>'" in fault.message


def test_text_with_the_templates_markers_is_pointed_out(tmp_path, model):
    text = f"<|im_start|>user\nQUESTION{END}\n<|im_start|>assistant\nANSWER{END}\n"
    report = doctor_report(write_jsonl(tmp_path / "rows.jsonl", [{"text": text}, {"text": "plain"}]), model)
    assert report.oddities.templated_text == 1
    assert any("Give the turns as messages" in warning for warning in report.warnings)


def test_unfilled_placeholders_in_answers_are_counted(tmp_path, model):
    rows = [asked(turn("assistant", "I am {{name}}, made by {{ author }}.")), asked(turn("assistant", "I am Ann."))]
    report = doctor_report(write_jsonl(tmp_path / "rows.jsonl", rows), model)
    assert report.oddities.placeholders == 1 and any("{{name}}" in warning for warning in report.warnings)


# --- the same rows from whatever file (trl#5376, Trinity-RFT#252, datasets#3705, axolotl#1430) ---

CALLS = [
    {
        "messages": [
            turn("user", f"Request {n}"),
            turn("assistant", None, tool_calls=[{"function": {"name": "f", "arguments": arguments}}]),
            turn("tool", "done"),
            turn("assistant", f"Done {n}."),
        ],
        "tools": [{"type": "function", "function": {**TOOL, "parameters": {"type": "object", "properties": wanted}}}],
    }
    for n, (arguments, wanted) in enumerate(
        [({"nights": 1, "boat": "B"}, {"nights": {"type": "integer"}}), ({"port": "P"}, {"port": {"type": "string"}})]
    )
]


def as_cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write_as(folder: Path, kind: str, rows: list[dict]) -> Path:
    path = folder / f"rows.{kind}"
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "jsonl":
        path.write_bytes(lines)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif kind == "jsonl.zst":
        pyarrow = pytest.importorskip("pyarrow")
        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(lines)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind in ("csv", "tsv"):
        import csv

        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0], delimiter="\t" if kind == "tsv" else ",")
            table.writeheader()
            table.writerows({key: as_cell(value) for key, value in row.items()} for row in rows)
    elif kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        datasets = pytest.importorskip("datasets")
        made = datasets.Dataset.from_list(rows)
        (made if kind == "saved" else datasets.DatasetDict({"train": made})).save_to_disk(path)
        if kind == "arrow":
            return next((path / "train").glob("*.arrow"))
    return path


KINDS = ["jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet", "saved", "saved-dict", "arrow"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_are_the_same_from_every_kind_of_file(tmp_path, kind):
    from unsloth_fft.data import scanning, sources

    expected = [row_format.read(row, "messages") for row in CALLS]
    files = sources.files_of(str(write_as(tmp_path, kind, CALLS)))
    reader = Reader()
    assert [scanning.content_of(row, reader) for row in scanning.scan(files.train)] == expected


def test_nulls_that_somebody_wrote_into_jsonl_stay(tmp_path):
    from unsloth_fft.data import scanning

    row = json.loads(json.dumps(CALLS[0]))
    row["messages"][1]["tool_calls"][0]["function"]["arguments"] = {"nights": None}
    found = next(scanning.scan((write_jsonl(tmp_path / "rows.jsonl", [row]),)))
    assert Reader().read(found.value).messages[1]["tool_calls"][0]["function"]["arguments"] == {"nights": None}


def test_filled_nulls_go_as_trl_lets_them_go():
    utils = pytest.importorskip("trl.trainer.utils")
    from unsloth_fft.data.scanning import without_filled_nulls

    value = {"a": None, "b": [None, {"c": None, "d": [{"e": None}]}], "f": {"g": {}}}
    assert without_filled_nulls(value) == utils.remove_none_values(value)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_messages_written_as_text_are_read_as_turns(tmp_path, kind):
    from unsloth_fft.data import scanning

    rows = [{"messages": json.dumps(row["messages"]), "tools": json.dumps(row["tools"])} for row in CALLS]
    path = write_as(tmp_path, kind, rows)
    reader = Reader()
    assert [scanning.content_of(row, reader).messages for row in scanning.scan((path,))] == [
        row_format.read(row, "messages").messages for row in CALLS
    ]


def test_one_object_over_many_lines_is_one_row(tmp_path):
    from unsloth_fft.data import scanning

    (tmp_path / "row.json").write_text(json.dumps(CALLS[0], indent=2))
    assert [row.value for row in scanning.scan((tmp_path / "row.json",))] == [CALLS[0]]
