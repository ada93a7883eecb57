"""Where an adapter is the better answer: a short Unsloth script that trains a LoRA of this model on these rows."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.control import escaped
from ..core.errors import BadInput
from . import made_for
from .target import is_local_data

BUILDERS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
CHAT = "tokenizer.apply_chat_template({turns}, tokenize=False)"
# Each row as one text, by its format; Alpaca's and pairs' as a conversation of two turns.
TEXTS = {
    "messages": CHAT.format(turns='row["messages"]'),
    "sharegpt": CHAT.format(
        turns='[{"role": ROLES.get(t["from"], t["from"]), "content": t["value"]} for t in row["conversations"]]'
    ),
    "alpaca": CHAT.format(turns="turns(row)"),
    "prompt-completion": 'row["prompt"] + row["completion"] + tokenizer.eos_token',
    "text": 'row["text"] + tokenizer.eos_token',
}
HELPERS = {
    "sharegpt": 'ROLES = {"human": "user", "gpt": "assistant"}\n',
    "alpaca": (
        "turns = lambda row: [\n"
        '    {"role": "user", "content": "\\n".join(filter(None, [row["instruction"], row.get("input")]))},\n'
        '    {"role": "assistant", "content": row["output"]},\n]\n'
    ),
}
TEMPLATE = """{header}# LoRA of {model} with Unsloth.
# Run: uv run {file}     2e-4 is the usual rate of LoRA; every token of a row is learned.
from unsloth import FastLanguageModel  # first: it patches what the others define
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastLanguageModel.from_pretrained({name}, max_seq_length={length}, load_in_4bit={four_bit})
model = FastLanguageModel.get_peft_model(
    model, r=16, lora_alpha=16, use_gradient_checkpointing="unsloth", random_state=3407,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
)
{helpers}rows = load_dataset({data}, split="train")
rows = rows.map(lambda row: {{"text": {text}}}, remove_columns=rows.column_names)
args = SFTConfig(
    output_dir="lora-output", dataset_text_field="text", max_length={length}, num_train_epochs={epochs},
    per_device_train_batch_size=2, gradient_accumulation_steps=8, learning_rate=2e-4, warmup_steps=0.03,
    lr_scheduler_type="cosine", logging_steps=1, seed=3407, report_to="none",
)
SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=args).train()
model.save_pretrained("lora-adapter")
tokenizer.save_pretrained("lora-adapter")
"""


def text(*, model: str, dataset: str, form: str, length: int, epochs: float, four_bit: bool, file: str) -> str:
    """The script. Raises BadInput for a format it has no line for, or a data file that `datasets` cannot read."""
    if form not in TEXTS:
        raise BadInput(f"lora: rows of format '{form}' have no line here", hint=f"give --format {' or '.join(TEXTS)}")
    return TEMPLATE.format(
        header=_header(),
        model=escaped(model),
        file=file,
        name=repr(model),
        length=length,
        four_bit=four_bit,
        helpers=HELPERS.get(form, ""),
        data=_data(dataset),
        text=TEXTS[form],
        epochs=f"{epochs:g}",
    )


def _header() -> str:
    wanted = "".join(f"#   {json.dumps(requirement)},\n" for requirement in made_for.training_requirements())
    settings = "".join(f"# {key} = {json.dumps(value)}\n" for key, value in made_for.uv_settings().items())
    python = f'# requires-python = "{made_for.PYTHON}"'
    return f"# /// script\n{python}\n# dependencies = [\n{wanted}# ]\n#\n# [tool.uv]\n{settings}# ///\n"


def _data(dataset: str) -> str:
    if not is_local_data(dataset):
        return repr(dataset)
    suffix = Path(dataset).suffix.lower()
    if suffix not in BUILDERS:
        raise BadInput(f"{dataset}: not a file that `datasets` reads by its name", hint=f"use {', '.join(BUILDERS)}")
    return f'"{BUILDERS[suffix]}", data_files={dataset!r}'
