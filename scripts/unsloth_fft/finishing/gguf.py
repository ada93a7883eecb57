"""GGUF files from an exported folder through llama.cpp's own tools, run as programs of their own.

Unsloth's exporter drives the same tools. It is not used here: it must load the model first, and for a model without an
adapter that was not trained in the same process it converts the folder the model was loaded from (unsloth 2026.10.9,
save.py, _gguf_reuses_loaded_checkpoint), while these tools convert exactly the folder they are given.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput, MissingHere, TrainingFailed

# What convert_hf_to_gguf.py writes by itself (--outtype, llama.cpp as vendored in llama-cpp-python 0.3.36); every
# other type goes through llama-quantize.
DIRECT = ("F32", "F16", "BF16", "Q8_0")
TYPE_NAME = re.compile(r"[A-Z0-9_]{2,12}")
GET_TOOLS = (
    "git clone --depth 1 https://github.com/ggml-org/llama.cpp && export LLAMA_CPP_DIR=$PWD/llama.cpp"
    "   (types other than F32, F16, BF16 and Q8_0 also need: cmake -B $LLAMA_CPP_DIR/build -S $LLAMA_CPP_DIR &&"
    " cmake --build $LLAMA_CPP_DIR/build --target llama-quantize)"
)
# llama.cpp knows a tokenizer's way of splitting text by a checksum over a list of published models. One trained here
# is on no such list; where it splits by GPT-2's pattern and nothing else, that is its name for it.
DRIVER = """
import importlib.util, runpy, sys
from pathlib import Path

converter, fallback, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
sys.path[:0] = [str(converter.parent / "gguf-py"), str(converter.parent)]
if fallback and importlib.util.find_spec("conversion") is not None:
    from conversion.base import TextModel

    known = TextModel.get_vocab_base_pre

    def named(self, tokenizer):
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            return fallback

    TextModel.get_vocab_base_pre = named
sys.argv = [str(converter), *arguments]
runpy.run_path(str(converter), run_name="__main__")
"""


@dataclass(frozen=True)
class Tools:
    """llama.cpp's programs; `quantize` is None where it is not built."""

    converter: Path
    quantize: Path | None


def parse_types(text: str) -> list[str]:
    """["Q8_0", "Q4_K_M"] from "q8_0,Q4_K_M". Raises BadInput for what cannot be a type's name."""
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    for name in names:
        if not TYPE_NAME.fullmatch(name):
            raise BadInput(f"--gguf: '{name}' is no GGUF type", hint="for example: --gguf Q8_0,Q4_K_M")
    if not names:
        raise BadInput("--gguf names no type", hint="for example: --gguf Q8_0")
    return list(dict.fromkeys(names))


def find_tools(types: Sequence[str]) -> Tools:
    """llama.cpp's tools from LLAMA_CPP_DIR, the PATH, or where Unsloth keeps them. Raises MissingHere without."""
    folders = [
        Path(folder) for folder in (os.environ.get("LLAMA_CPP_DIR"), files.expanded("~/.unsloth/llama.cpp")) if folder
    ]
    converters = [folder / "convert_hf_to_gguf.py" for folder in folders] + _on_path("convert_hf_to_gguf.py")
    converter = next((path for path in converters if path.is_file()), None)
    if converter is None:
        raise MissingHere("llama.cpp's convert_hf_to_gguf.py is not here; it writes GGUF", hint=GET_TOOLS)
    built = [folder / place / "llama-quantize" for folder in folders for place in ("build/bin", "bin", "")]
    quantize = next((path for path in [*built, *_on_path("llama-quantize")] if path.is_file()), None)
    needed = [name for name in types if name not in DIRECT]
    if needed and quantize is None:
        raise MissingHere(f"llama.cpp's llama-quantize is not here; {', '.join(needed)} need it", hint=GET_TOOLS)
    return Tools(converter, quantize)


def write(tools: Tools, model: Path, types: Sequence[str], name: str) -> list[Path]:
    """Write MODEL/NAME-TYPE.gguf for each type and return them. Raises TrainingFailed with the tool's last words."""
    written = []
    for kind in types:
        target = model / f"{name}-{kind}.gguf"
        if kind in DIRECT:
            convert(tools, model, target, kind)
        else:
            whole = model / f".{name}-F32.gguf"
            if not whole.exists():
                convert(tools, model, whole, "F32")
            _run([str(tools.quantize), str(whole), str(target), kind], "llama-quantize")
        written.append(target)
    for whole in model.glob(".*-F32.gguf"):
        whole.unlink()
    return written


def convert(tools: Tools, model: Path, target: Path, kind: str) -> None:
    """One call of convert_hf_to_gguf.py."""
    arguments = [str(model), "--outfile", str(target), "--outtype", kind.lower()]
    _run([sys.executable, "-c", DRIVER, str(tools.converter), fallback_splitting(model), *arguments], "the converter")


def fallback_splitting(model: Path) -> str:
    """ "gpt-2" when tokenizer.json splits text by GPT-2's pattern and nothing else, "" otherwise."""
    path = model / "tokenizer.json"
    if not path.is_file():
        return ""
    value: Any = files.read_json(path, "tokenizer")
    splitting = value.get("pre_tokenizer") or {}
    plain = splitting.get("type") == "ByteLevel" and splitting.get("use_regex", True)
    return "gpt-2" if plain and not splitting.get("add_prefix_space") and value.get("normalizer") is None else ""


def _on_path(program: str) -> list[Path]:
    found = shutil.which(program)
    return [] if found is None else [Path(found)]


def _run(command: list[str], what: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if finished.returncode != 0:
        words = (finished.stderr.strip() or finished.stdout.strip() or "no output").splitlines()[-1]
        raise TrainingFailed(f"{what} failed: {words[:300]}", hint="is the model's architecture known to llama.cpp?")
