"""export: a finished run as a complete Hugging Face folder, and as GGUF where llama.cpp's tools are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core import outputs, terminal
from ..core.shell_words import word
from ..finishing import export as exporting
from ..finishing import gguf
from ..finishing.stored import Stored
from ..reporting.audit_table import share
from . import session_folder

EPILOG = """examples:
  unsloth_fft_tool.py export runs/first --to my-model
  unsloth_fft_tool.py export runs/first --to my-model --dtype bfloat16 --gguf Q8_0,Q4_K_M
  HF_TOKEN=... unsloth_fft_tool.py export runs/first --to my-model --push-to-hub me/my-model     (private)"""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        help="the trained model as a folder to share or serve",
        description=__doc__,
        epilog=EPILOG,
    )
    session_folder.add(command, "SESSION", "a completed session")
    command.add_argument(
        "--to", required=True, type=Path, metavar="DIR", help="new folder, written whole or not at all"
    )
    command.add_argument("--dtype", choices=exporting.DTYPES, help="type of the weights (default: as trained)")
    command.add_argument("--gguf", metavar="TYPES", help="for example Q8_0,Q4_K_M; also writes Ollama's Modelfile")
    command.add_argument("--push-to-hub", metavar="NAME", help="upload to this private repository; reads HF_TOKEN")
    command.add_argument("--overwrite", action="store_true", help="replace an exported folder of that name")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `export` command."""
    types = gguf.parse_types(args.gguf) if args.gguf is not None else []
    root = session_folder.of(args)
    done = exporting.export(
        root, args.to, dtype=args.dtype, types=types, overwrite=args.overwrite, push_to=args.push_to_hub
    )
    if args.json:
        terminal.emit(exporting.summary(done))
    else:
        pushed = f", pushed to {done.pushed_to} (private)" if done.pushed_to else ""
        terminal.say(f"exported   {done.folder}: {len(done.files)} files, {done.dtype}{pushed}")
        for line in told(done.stored):
            terminal.say(line)
        terminal.say(f"run it     as {done.folder / 'README.md'} says")
        for line in after(root, done):
            terminal.say(line)
    return 0


def told(found: Stored) -> list[str]:
    """What the exported files hold, beside what was trained, in a line each."""
    lines = []
    if found.audit is not None:
        lines.append(f"audit      {share(found.audit['changed_fraction'])} of the weights in these files moved")
    else:
        lines.append(terminal.fold(f"audit      not of these files: {found.not_audited}", 11))
    if found.held_out is not None:
        one = found.held_out
        of = f" of {found.rows_of:,}" if one.rows < found.rows_of else ""
        lines.append(
            f"held out   loss {one.before:.4f} as trained, {one.after:.4f} in these files; {one.rows:,}{of} rows"
        )
    return lines


def after(root: Path, done: exporting.Exported) -> list[str]:
    """The export that would keep what this one gives up, and why; nothing where it keeps all."""
    better = done.stored.better_type
    if better is None:
        return []
    to = outputs.unused(f"{done.folder}-{better}")
    return [
        f"next: unsloth_fft_tool.py export {word(root)} --to {word(to)} --dtype {better}",
        f"note: {done.stored.advice}",
    ]
