"""Exactly the assistant's words (and the token that ends them) are learned, for every format and template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import conversation_rows, write_jsonl
from unsloth_fft.core.errors import BadInput
from unsloth_fft.settings.parameters import Data

pytest.importorskip("transformers")

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 plus one?"},
    {"role": "assistant", "content": "1 plus one is 2."},
    {"role": "user", "content": "And 2 plus one?"},
    {"role": "assistant", "content": "2 plus one is 3."},
]
ANSWERS = ["1 plus one is 2.", "2 plus one is 3."]
ROWS = {
    "messages": {"messages": MESSAGES},
    "sharegpt": {
        "conversations": [
            {"from": {"user": "human", "assistant": "gpt"}.get(turn["role"], turn["role"]), "value": turn["content"]}
            for turn in MESSAGES
        ]
    },
    "alpaca": {"instruction": "What is 1 plus one?", "input": "Think.", "output": ANSWERS[0]},
    "prompt-completion": {"prompt": "What is 1 plus one? ", "completion": ANSWERS[0]},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add_numbers",
            "description": "Adds two numbers.",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
        },
    }
]
TOOL_ROWS = {
    "messages": {
        "messages": [
            {"role": "user", "content": "What is 1 plus one?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "function": {"name": "add_numbers", "arguments": '{"a": 1, "b": 1}'}}
                ],
            },
            {"role": "tool", "content": "two"},
            {"role": "assistant", "content": ANSWERS[0]},
        ],
        "tools": TOOLS,
    },
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "What is 1 plus one?"},
            {"from": "function_call", "value": '{"name": "add_numbers", "arguments": {"a": 1, "b": 1}}'},
            {"from": "observation", "value": "two"},
            {"from": "gpt", "value": ANSWERS[0]},
        ],
        "tools": json.dumps(TOOLS),
    },
}
# Families of Unsloth's templates: the special tokens their published tokenizers have, the begin token, and the text
# that ends an assistant turn in the mask that Unsloth's train_on_responses_only gives.
FAMILIES = {
    "llama-3": (["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
    "llama-3.1": (["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
    "gemma-3": (["<bos>", "<start_of_turn>", "<end_of_turn>"], "<end_of_turn>\n"),
    "qwen-2.5": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>\n"),
    "phi-4": (["<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"], "<|im_end|>"),
}


@pytest.fixture
def tokenizer(tiny_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def family_tokenizer(tokenizer, name: str):
    """The tiny tokenizer with the special tokens and the chat template of a published family."""
    from unsloth_fft.data import templates

    special, _ = FAMILIES[name]
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.bos_token = special[0]
    return templates.named(tokenizer, name)


def learned_spans(tokenizer, example) -> list[str]:
    """The text of each run of learned tokens."""
    spans: list[list[int]] = [[]]
    for label in example["labels"]:
        if label != -100:
            spans[-1].append(label)
        elif spans[-1]:
            spans.append([])
    return [tokenizer.decode(span) for span in spans if span]


def settings(**changes) -> Data:
    values = {
        "dataset": None,
        "format": "auto",
        "objective": "sft",
        "loss_on": "responses",
        "packing": False,
        "eval_fraction": 0.25,
        "rows": None,
        "tokens_per_row": None,
        "chat_template": None,
        "seed": 1,
        **changes,
    }
    return Data(**values)


def prepared(tmp_path: Path, tokenizer, row: dict, *, max_length: int = 2048, **changes):
    from unsloth_fft.data import preparing

    source = write_jsonl(tmp_path / "rows.jsonl", [row] * 4)
    space = tmp_path / "space"
    space.mkdir(exist_ok=True)
    return preparing.prepare(settings(dataset=str(source), **changes), tokenizer, max_length, space)


@pytest.mark.parametrize("template", ["marked", "plain"])
@pytest.mark.parametrize("form", list(ROWS))
def test_the_learned_tokens_are_the_assistants_words(tmp_path, tokenizer, form, template):
    if template == "plain":
        tokenizer.chat_template = PLAIN_TEMPLATE
    result = prepared(tmp_path, tokenizer, ROWS[form])
    expected = ANSWERS if form in ("messages", "sharegpt") else ANSWERS[:1]
    assert result.format == form
    assert [span.strip("\n") for span in learned_spans(tokenizer, result.train[0])] == [f"{a}<|end|>" for a in expected]
    assert len(result.train) == 3 and len(result.held_out) == 1


@pytest.mark.parametrize("form", ["messages", "sharegpt", "alpaca"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_under_published_templates_every_assistant_turn_is_learned_with_its_end(tmp_path, tokenizer, family, form):
    tokenizer = family_tokenizer(tokenizer, family)
    result = prepared(tmp_path, tokenizer, ROWS[form])
    expected = ANSWERS if form in ("messages", "sharegpt") else ANSWERS[:1]
    end = FAMILIES[family][1]
    assert learned_spans(tokenizer, result.train[0]) == [answer + end for answer in expected]
    whole = tokenizer.decode(result.train[0]["input_ids"])
    assert ("Be brief." in whole) == (form in ("messages", "sharegpt"))
    begin = FAMILIES[family][0][0]
    assert whole.count(begin) <= 1, "the begin token must not be doubled"


@pytest.mark.parametrize("form", list(TOOL_ROWS))
@pytest.mark.parametrize("family", ["llama-3.1", "qwen-2.5"])
def test_tool_calls_are_learned_and_tool_results_are_not(tmp_path, tokenizer, family, form):
    tokenizer = family_tokenizer(tokenizer, family)
    example = prepared(tmp_path, tokenizer, TOOL_ROWS[form]).train[0]
    call, answer = learned_spans(tokenizer, example)
    name = "arguments" if family == "qwen-2.5" else "parameters"
    wrap = ("<tool_call>\n", "\n</tool_call>") if family == "qwen-2.5" else ("", "")
    end = FAMILIES[family][1]
    assert call == f'{wrap[0]}{{"name": "add_numbers", "{name}": {{"a": 1, "b": 1}}}}{wrap[1]}{end}'
    assert answer == ANSWERS[0] + end
    assert "Adds two numbers." in tokenizer.decode(example["input_ids"])


def test_a_template_that_drops_tool_calls_or_system_turns_is_refused(tmp_path, tokenizer):
    with pytest.raises(BadInput, match="a tool.*leaves out"):
        prepared(tmp_path, tokenizer, TOOL_ROWS["messages"])
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("for message in messages", "for message in messages[1:]")
    with pytest.raises(BadInput, match=r"line \d has a system turn that the chat template leaves out"):
        prepared(tmp_path, tokenizer, ROWS["messages"])


@pytest.mark.parametrize("limit", [16, 24, 40, 48])
def test_cutting_removes_from_the_end_and_changes_no_label(tmp_path, tokenizer, limit):
    whole = prepared(tmp_path, tokenizer, ROWS["messages"]).train[0]
    try:
        result = prepared(tmp_path, tokenizer, ROWS["messages"], max_length=limit)
    except BadInput:
        assert all(label == -100 for label in whole["labels"][1:limit])
        return
    assert result.train[0]["input_ids"] == whole["input_ids"][:limit]
    assert result.train[0]["labels"] == whole["labels"][:limit]
    assert result.truncated == (3 if limit < len(whole["input_ids"]) else 0)


def test_loss_on_all_learns_every_token(tmp_path, tokenizer):
    example = prepared(tmp_path, tokenizer, ROWS["messages"], loss_on="all").train[0]
    assert example["labels"] == example["input_ids"]


def test_a_conversational_prompt_completion_row_learns_the_completion(tmp_path, tokenizer):
    row = {"prompt": MESSAGES[:2], "completion": MESSAGES[2:3]}
    result = prepared(tmp_path, tokenizer, row)
    assert learned_spans(tokenizer, result.train[0]) == [f"{ANSWERS[0]}<|end|>"]


def text_settings(tmp_path: Path, text: str) -> Data:
    source = write_jsonl(tmp_path / "text.jsonl", [{"text": text}])
    return settings(dataset=str(source), objective="pretrain", loss_on="all", eval_fraction=0.0)


def test_raw_text_is_cut_into_windows_and_nothing_is_lost(tmp_path, tokenizer):
    from unsloth_fft.data import preparing

    text = "one plus one is two. " * 60
    result = preparing.prepare(text_settings(tmp_path, text), tokenizer, 64, tmp_path)
    tokens = [token for example in result.train for token in example["input_ids"]]
    assert tokenizer.decode(tokens) == text + "<|end|>"
    assert max(len(example["input_ids"]) for example in result.train) <= 64
    assert result.held_out is None


def test_text_with_its_own_begin_token_is_not_begun_twice(tmp_path, tokenizer):
    from tokenizers.processors import TemplateProcessing

    from unsloth_fft.data import preparing

    tokenizer.add_tokens(["<s>"], special_tokens=True)
    tokenizer.bos_token = "<s>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    for text in ("one plus one", "<s>one plus one"):
        example = preparing.prepare(text_settings(tmp_path, text), tokenizer, 64, tmp_path).train[0]
        assert tokenizer.decode(example["input_ids"]) == "<s>one plus one<|end|>"


def test_packing_by_trl_keeps_labels_and_boundaries(tmp_path, tokenizer):
    """TRL's own packing of our examples: no token lost, no label moved, and each row's start known."""
    from trl import pack_dataset

    from unsloth_fft.data import preparing

    source = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(30))
    result = preparing.prepare(settings(dataset=str(source), eval_fraction=0.0), tokenizer, 128, tmp_path)
    packed = pack_dataset(result.train, 128, "bfd")
    assert len(packed) < len(result.train)
    pieces = []
    for row in packed:
        start = 0
        for length in row["seq_lengths"]:
            pieces.append((row["input_ids"][start : start + length], row["labels"][start : start + length]))
            start += length
        assert start == len(row["input_ids"]) <= 128
    assert sorted(pieces) == sorted((row["input_ids"], row["labels"]) for row in result.train)


@pytest.mark.usefixtures("unsloth")
def test_on_a_cpu_unsloth_turns_packing_off_and_says_so(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: Unsloth packs there")
    from unsloth import UnslothTrainingArguments

    arguments = UnslothTrainingArguments(output_dir=str(tmp_path), packing=True, max_length=128)
    assert arguments.packing is False
    assert "packing needs FlashAttention" in capsys.readouterr().out


def test_the_split_follows_the_seed_and_is_that_of_datasets(tmp_path, tokenizer):
    from datasets import Dataset

    from unsloth_fft.data import preparing

    source = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(30))

    def held_out(seed: int):
        data = settings(dataset=str(source), eval_fraction=0.2, seed=seed)
        return preparing.prepare(data, tokenizer, 128, tmp_path).held_out["input_ids"][:]

    assert held_out(1) == held_out(1) != held_out(2)
    theirs = Dataset.from_dict({"row": list(range(30))}).train_test_split(test_size=6, seed=1)["test"]["row"]
    from unsloth_fft.data import splitting

    assert sorted(theirs) == splitting.held_out_rows(30, 0.2, 1).tolist()


def test_sources_are_mixed_by_weight_and_no_held_out_row_is_learned(tmp_path, tokenizer):
    from unsloth_fft.data import preparing

    rows = conversation_rows(40)
    first = write_jsonl(tmp_path / "first.jsonl", rows[:20])
    second = write_jsonl(tmp_path / "second.jsonl", [{"text": f"one plus {n}"} for n in range(20)])
    mix = [{"dataset": str(first), "weight": 2.5}, {"dataset": str(second), "weight": 0.5}]
    result = preparing.prepare(settings(sources=mix, eval_fraction=0.2), tokenizer, 128, tmp_path)
    assert [(part.format, part.rows, part.used) for part in result.parts] == [("messages", 20, 40), ("text", 20, 8)]
    assert result.format == "messages + text" and len(result.train) == 48 and len(result.held_out) == 8
    learned = {tuple(ids) for ids in result.train["input_ids"]}
    assert not learned & {tuple(ids) for ids in result.held_out["input_ids"]}


def test_a_row_without_an_answer_is_named(tmp_path, tokenizer):
    with pytest.raises(BadInput, match=r"rows\.jsonl: line \d .*the assistant never speaks"):
        prepared(tmp_path, tokenizer, {"messages": MESSAGES[:2]})


def test_empty_rows_are_left_out_and_counted(tmp_path, tokenizer):
    from unsloth_fft.data import preparing

    rows = [*conversation_rows(6), {"messages": [MESSAGES[1], {"role": "assistant", "content": " "}]}]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    result = preparing.prepare(settings(dataset=str(source), eval_fraction=0.0), tokenizer, 128, tmp_path)
    assert (result.rows, len(result.train), result.dropped) == (7, 6, 1)


def test_rows_cut_before_the_answer_are_refused_with_the_length_to_raise(tmp_path, tokenizer):
    row = json.loads(json.dumps(ROWS["messages"]))
    row["messages"][1]["content"] = "why " * 400
    with pytest.raises(BadInput, match="no row keeps a token") as caught:
        prepared(tmp_path, tokenizer, row, max_length=128)
    assert "max_seq_length" in caught.value.hint


def test_a_tokenizer_without_template_is_refused_with_the_choices(tmp_path, tokenizer):
    tokenizer.chat_template = None
    for loss_on in ("responses", "all"):
        with pytest.raises(BadInput, match="no chat template") as caught:
            prepared(tmp_path, tokenizer, ROWS["messages"], loss_on=loss_on)
        assert "chatml" in caught.value.hint


def test_an_unknown_template_is_refused_with_the_choices(tokenizer):
    from unsloth_fft.data import templates

    with pytest.raises(BadInput, match="'no-such' is not known") as caught:
        templates.named(tokenizer, "no-such")
    assert "llama-3.1" in caught.value.hint and "chatml" in caught.value.hint


def test_a_named_template_leaves_no_placeholder_in_what_is_learned_from(tmp_path, tokenizer):
    from unsloth_fft.data import templates

    tokenizer = templates.named(tokenizer, "llama-3.1")
    example = prepared(tmp_path, tokenizer, ROWS["alpaca"]).train[0]
    assert "{system_message}" not in tokenizer.decode(example["input_ids"])


def test_prepared_data_leaves_nothing_behind(tmp_path, tokenizer):
    from unsloth_fft.data import preparing

    source = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(8))
    root = tmp_path / "session"
    root.mkdir()
    with preparing.scratch(root) as space:
        preparing.prepare(settings(dataset=str(source)), tokenizer, 128, space)
        assert any(space.iterdir())
    assert not any(root.iterdir())
    (root / ".data-killed").mkdir()
    preparing.remove_leftovers(root)
    assert not any(root.iterdir())
