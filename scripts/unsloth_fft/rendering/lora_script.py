"""Where an adapter is the better answer: an Unsloth script that trains a LoRA of this model on these rows.

It carries the package and prepares the rows by it, so that an adapter learns the tokens that `train` would learn.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..core.control import escaped
from ..settings.parameters import Data
from . import carried, made_for
from .script import CARRIED

TEMPLATE = """{header}# LoRA of {model} with Unsloth.
# Run: uv run {file}     2e-4 is the usual rate of LoRA.
# Learned: {learned}, as `unsloth_fft_tool.py train` does it (the file carries that code, packed, below).
import base64, io, sys, tarfile, tempfile

# What is learned of which rows, and at how many tokens they are cut.
DATA = {data}
LENGTH = {length}


def learned_rows(tokenizer, folder):
    \"\"\"Every row as tokens and labels; of a token that is read and not learned the label is -100.\"\"\"
    from pathlib import Path
    from unsloth_fft.data import cut_ends, preparing
    from unsloth_fft.settings.parameters import Data
    from unsloth_fft.training import shown_rows

    data = Data(**DATA)
    rows = preparing.prepare(data, tokenizer, LENGTH, Path(folder))
    cut_ends.refuse(rows.ends, data)
    shown_rows.say_of(rows, tokenizer)
    return rows.train


def train():
    from unsloth import FastLanguageModel  # first: it patches what the others define
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastLanguageModel.from_pretrained({name}, max_seq_length=LENGTH, load_in_4bit={four_bit})
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a multimodal model Unsloth gives the processor
{template}    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=16, use_gradient_checkpointing="unsloth", random_state=3407,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    args = SFTConfig(
        output_dir="lora-output", max_length=LENGTH, num_train_epochs={epochs}, per_device_train_batch_size=2,
        gradient_accumulation_steps=8, learning_rate=2e-4, warmup_steps=0.03, lr_scheduler_type="cosine",
        logging_steps=1, seed=3407, report_to="none", dataset_kwargs={{"skip_prepare_dataset": True}},
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = learned_rows(tokenizer, folder)
        SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=args).train()
    model.save_pretrained("lora-adapter")
    tokenizer.save_pretrained("lora-adapter")


def main():
    with tempfile.TemporaryDirectory(prefix="unsloth-fft-") as folder:
        packed = io.BytesIO(base64.b85decode("".join(PACKAGE.split())))
        with tarfile.open(fileobj=packed, mode="r:xz") as package:
            package.extractall(folder, filter="data")
        sys.path.insert(0, f"{{folder}}/scripts")
        from unsloth_fft.core import terminal

        return terminal.run(train, as_json=False)

"""
# What TEMPLATE and NAMED_TEMPLATE import.
USED = (
    *("core.terminal", "data.cut_ends", "data.preparing", "data.templates", "settings.parameters"),
    "training.shown_rows",
)
NAMED_TEMPLATE = """    from unsloth_fft.data import templates
    tokenizer = templates.named(tokenizer, {name})
"""


def text(*, model: str, data: Data, length: int, epochs: float, four_bit: bool, file: str) -> str:
    """The script, to be called `file`."""
    readable = TEMPLATE.format(
        header=_header(),
        model=escaped(model),
        file=file,
        learned="all tokens" if data.format == "text" else "the answers and the tokens that end them",
        name=repr(model),
        length=length,
        four_bit=four_bit,
        data=_settings(asdict(data)),
        template="" if data.chat_template is None else NAMED_TEMPLATE.format(name=repr(data.chat_template)),
        epochs=f"{epochs:g}",
    )
    return readable + CARRIED.format(package=carried.text(USED))


def _header() -> str:
    wanted = "".join(f"#   {json.dumps(requirement)},\n" for requirement in made_for.training_requirements())
    settings = "".join(f"# {key} = {json.dumps(value)}\n" for key, value in made_for.uv_settings().items())
    python = f'# requires-python = "{made_for.PYTHON}"'
    return f"# /// script\n{python}\n# dependencies = [\n{wanted}# ]\n#\n# [tool.uv]\n{settings}# ///\n"


def _settings(data: dict[str, Any]) -> str:
    lines = "".join(f"    {key!r}: {value!r},\n" for key, value in data.items())
    return f"{{\n{lines}}}"
