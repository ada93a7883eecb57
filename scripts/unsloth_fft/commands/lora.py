"""lora: an Unsloth script that trains an adapter instead, for when full fine-tuning is not the answer.

It learns what `train` would learn of the same rows: of conversations the answers alone."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from ..core import files, outputs, schema, terminal
from ..core.arguments import number, whole
from ..core.errors import BadInput, FFTError
from ..core.shell_words import word
from ..data import scanning, sources
from ..data.formats import FORMATS
from ..data.json_objects import Fault
from ..data.sources import Source
from ..models import catalogue
from ..rendering import carried, lora_script
from ..settings import parameters
from ..settings.parameters import Data
from . import columns_flag

# A frozen weight as the script loads it: bfloat16, or float16 on cards without it.
LOADED_BYTES, GIB = 2, 2**30

EPILOG = """examples:
  unsloth_fft_tool.py lora --model meta-llama/Llama-3.1-8B-Instruct --dataset rows.jsonl --output lora.py
  unsloth_fft_tool.py lora --model Qwen/Qwen3-8B --dataset owner/data --format messages --output lora.py"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "lora",
        help="a script that trains an adapter instead",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("--model", required=True, metavar="NAME|DIR", help="Hub name or folder")
    command.add_argument("--dataset", required=True, metavar="PATH|NAME", help="file or Hub name")
    command.add_argument("--format", choices=FORMATS, help="format of the rows (default: that of the file's first row)")
    columns_flag.add_to(command)
    command.add_argument("--chat-template", metavar="NAME", help="one of Unsloth's templates in place of the model's")
    command.add_argument(
        "--seq-length", type=whole(1, 2**21), default=2048, metavar="N", help="tokens a row (default 2048)"
    )
    command.add_argument(
        "--epochs", type=number(0, 10**6), default=1.0, metavar="X", help="passes over the data (default 1)"
    )
    command.add_argument("--allow-cut-ends", action="store_true",
                         help="train although more than 1%% of rows lose the end of their last answer")  # fmt: skip
    command.add_argument("--load-in-4bit", action="store_true", help="QLoRA: the frozen model in 4 bits")
    command.add_argument("--output", type=Path, metavar="FILE", help="written atomically (default: stdout)")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `lora` command."""
    outputs.refuse_overwriting({"--output": args.output}, models=[args.model], data=[args.dataset])
    name = "lora.py" if args.output is None else str(args.output)
    if not name.isprintable():
        raise BadInput(f"--output {name!r} cannot be named in a command", hint="choose a name without line breaks")
    text = lora_script.text(
        model=args.model,
        data=_data(args),
        length=args.seq_length,
        epochs=args.epochs,
        four_bit=args.load_in_4bit,
        file=shlex.quote(name),
    )
    if args.output is None:
        terminal.emit_text(text)
        return 0
    files.write_text(args.output, text)
    terminal.say(f"wrote {args.output}: r 16 on all linear layers, rate 2e-4, one adapter in lora-adapter")
    for note in [*carried.reading_note(text, word(name)), *_weights_note(args.model, args.load_in_4bit)]:
        terminal.say(note)
    terminal.say(f"run it with: uv run {shlex.quote(name)}")
    return 0


def _weights_note(model: str, four_bit: bool) -> list[str]:
    """What the frozen weights alone take of the card, where the model's shape is known here."""
    if four_bit:
        return []
    try:
        size = f"{catalogue.load_shape(model).parameters * LOADED_BYTES / GIB:.1f} GiB of the card"
    except FFTError:  # a shape the planner does not know may be one that Unsloth knows
        size = "two bytes each"
    return [f"note: it loads 16-bit weights, which alone take {size}: add --load-in-4bit where that is too much"]


def _data(args: argparse.Namespace) -> Data:
    """What is learned of which rows. Raises BadInput where the format is neither told nor seen in the first row."""
    chosen = {
        "dataset": args.dataset,
        "format": args.format or "auto",
        "chat_template": args.chat_template,
        "allow_cut_ends": args.allow_cut_ends,
        "eval_fraction": 0.0,  # the script evaluates nothing, and learns every row
        **columns_flag.given(args),
    }
    data = Data(**parameters.with_defaults(chosen, schema.load("parameters")["properties"]["data"]))
    return data if args.format else dataclasses.replace(data, format=_recognised(data, args.dataset))


def _recognised(data: Data, dataset: str) -> str:
    """The format of the first row of a local file. Raises BadInput where there is none to read here."""
    found = sources.files_of(dataset) if files.is_there(dataset) else None
    if found is None:
        raise BadInput(f"{dataset} is not a file here, so its format is not known", hint="say it: --format messages")
    row = next(iter(scanning.scan(found.train)), None)
    if row is None or isinstance(row.value, Fault):
        raise BadInput(
            f"{dataset}: its first row cannot be read",
            hint=f"see what is wrong: unsloth_fft_tool.py data {word(dataset)}",
        )
    reader = Source(dataset).reader(data)
    scanning.content_of(row, reader)
    return reader.form
