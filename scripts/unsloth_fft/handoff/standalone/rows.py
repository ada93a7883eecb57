"""Rows to tokens, and which of the tokens are learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .stop import IGNORED, Stop

READERS = {
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet",
    ".txt": "text", ".md": "text",
}  # fmt: skip
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "assistant": "assistant", "function_call": "assistant", "tool": "tool", "observation": "tool", "system": "system",
}  # fmt: skip


def read_rows(source: str) -> Any:
    """The rows of a file, a folder or a Hub data set; JSON rows stay text, so that different shapes never clash."""
    from datasets import Dataset, load_dataset

    path = Path(source)
    if READERS.get(path.suffix) == "json" and path.is_file():
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json" and text.lstrip()[:1] == "[":
            return Dataset.from_list([{"json_row": json.dumps(row)} for row in json.loads(text)])
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append({"json_row": json.dumps(json.loads(line))})
                except json.JSONDecodeError as error:
                    raise Stop(2, f"{source}: line {number} is not valid JSON: {error.msg}", "mend it") from None
        if not rows:
            raise Stop(2, f"{source} has no rows", "expected one JSON object a line")
        return Dataset.from_list(rows)
    if path.is_file():
        options = {"delimiter": "\t"} if path.suffix == ".tsv" else {}
        return load_dataset(READERS[path.suffix], data_files=source, split="train", **options)
    return load_dataset(source, split="train")


def row_of(stored: dict[str, Any]) -> dict[str, Any]:
    row = json.loads(stored["json_row"]) if set(stored) == {"json_row"} else stored
    return {key: value for key, value in row.items() if value is not None}


def messages_of(row: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The conversation in a row of messages, ShareGPT or Alpaca form; None when it holds none."""
    turns = row.get("messages") or row.get("conversations")
    if turns and "role" not in turns[0]:
        return [{"role": ROLES.get(turn["from"].lower(), turn["from"]), "content": turn["value"]} for turn in turns]
    if turns:
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
        return [{**turn, "content": turn.get("content") or ""} for turn in turns]
    if "instruction" in row and "output" in row:
        question = row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else "")
        system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        return [*system, {"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]
    return None


def examples_of(row: dict[str, Any], form: str, tokenizer: Any, learn_all: bool, limit: int) -> list[dict[str, Any]]:
    """Training sequences of one row, as input_ids and labels."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if form == "text" or (form == "auto" and "text" in row and messages_of(row) is None and "prompt" not in row):
        tokens = tokenizer(row["text"])["input_ids"] + end
        pieces = [tokens[start : start + limit] for start in range(0, len(tokens), limit)]
        return [{"input_ids": piece, "labels": list(piece)} for piece in pieces if len(piece) > 1]
    messages = None if form == "prompt-completion" else messages_of(row)
    if messages is not None:
        ids, labels = conversation(messages, row.get("tools"), tokenizer, learn_all)
    elif "prompt" in row and "completion" in row:
        start = tokenizer(row["prompt"])["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + end
        ids, labels = start + answer, (start if learn_all else [IGNORED] * len(start)) + answer
    else:
        raise Stop(2, f"a row has the keys {sorted(row)}", "expected messages, instruction, prompt or text")
    return [{"input_ids": ids[:limit], "labels": labels[:limit]}]


def conversation(messages: list[Any], tools: Any, tokenizer: Any, learn_all: bool) -> tuple[list[int], list[int]]:
    """Tokens of a conversation, and labels on the assistant's words: from the template's marks, else by Unsloth."""
    if tokenizer.chat_template is None:
        raise Stop(2, "the tokenizer has no chat template, and the data are conversations", "set data.chat_template")
    marked = "{%generation" in tokenizer.chat_template.replace("-", "").replace(" ", "")
    rendered = tokenizer.apply_chat_template(
        messages, tools=tools or None, tokenize=True, return_dict=True, return_assistant_tokens_mask=marked
    )
    ids = rendered["input_ids"]
    if learn_all:
        return ids, list(ids)
    if marked:
        mask = rendered["assistant_masks"]
        return ids, [token if learned else IGNORED for token, learned in zip(ids, mask, strict=True)]
    from unsloth import train_on_responses_only

    mark = train_on_responses_only(None, tokenizer=tokenizer, return_function=True)
    return ids, mark({"input_ids": [ids]})["labels"][0]


def prepare(data: dict[str, Any], tokenizer: Any, limit: int) -> tuple[Any, Any]:
    """(rows to train on, rows held out or None), tokenized; rows without a token to learn are left out."""
    from datasets import Dataset

    rows, held_out = read_rows(data["dataset"]), None
    if data["eval_fraction"] > 0 and len(rows) > 1:
        parts = rows.train_test_split(test_size=max(1, round(len(rows) * data["eval_fraction"])), seed=data["seed"])
        rows, held_out = parts["train"], parts["test"]

    def tokenized(part: Any) -> Any:
        learn_all = data["loss_on"] == "all"
        found = [
            example
            for stored in part
            for example in examples_of(row_of(stored), data["format"], tokenizer, learn_all, limit)
        ]
        return Dataset.from_list([one for one in found if any(label != IGNORED for label in one["labels"][1:])])

    train = tokenized(rows)
    if len(train) == 0:
        raise Stop(2, f"no row keeps a token to learn after cutting to {limit} tokens", "raise max_seq_length")
    return train, None if held_out is None else tokenized(held_out)
