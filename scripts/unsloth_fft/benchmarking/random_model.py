"""A model of a published shape with random weights, and real text for it: all that memory and speed depend on.

Nothing is downloaded: the shape comes from the catalogue, the text is the source of Python's own standard library.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..core import files, staging_folders
from ..core.errors import TrainingFailed
from ..models import catalogue
from ..training import environment

VOCABULARY = 8192
TRAINING_FILES = 150
CORPUS_TOKENS = 2_000_000
SEED = 0


def make(name: str, folder: Path) -> None:
    """Write a bfloat16 model of the catalogue's shape `name` and its tokenizer into `folder`, whole or not at all."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = _text_config(name)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    # Ids that the small tokenizer has; the published ones may lie outside it.
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 1, 2
    torch.manual_seed(SEED)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with files.folders_above(folder), staging_folders.beside(folder, "model") as staging:
        model.save_pretrained(staging)
        tokenizer().save_pretrained(staging)
        if not folder.exists():  # else another process has made the same one meanwhile
            staging.rename(folder)


def make_apart(name: str, folder: Path) -> None:
    """`make` in a process of its own, so that none of its memory stays. Raises TrainingFailed where that ends badly."""
    script = (
        "from pathlib import Path; from unsloth_fft.benchmarking import random_model;"
        f" random_model.make({name!r}, Path({str(folder)!r}))"
    )
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, errors="replace", env=environment.for_children()
    )
    if made.returncode:
        raise TrainingFailed(
            f"the random model of {name} could not be made: {made.stderr.strip().splitlines()[-1][:300]}",
            hint="see whether the disk and the memory are large enough",
        )


def tokenizer() -> Any:
    """A byte-level BPE of 8,192 entries, learned from standard library source."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(islice(library_source(), TRAINING_FILES), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=special[0], eos_token=special[1], pad_token=special[2]
    )


def token_ids(tokenizer_file: Path, count: int) -> list[int]:
    """The first `count` tokens of standard library source, or all there are."""
    from tokenizers import Tokenizer

    bpe = Tokenizer.from_file(str(tokenizer_file))
    ids: list[int] = []
    for text in library_source():
        ids += bpe.encode(text, add_special_tokens=False).ids
        if len(ids) >= count:
            break
    return ids[:count]


def rows(folder: Path, count: int, length: int) -> Any:
    """`count` rows of exactly `length` tokens as a `datasets.Dataset` with columns input_ids and labels."""
    from datasets import Dataset

    ids = token_ids(folder / "tokenizer.json", min(count * length, CORPUS_TOKENS) + length + 1)
    starts = [(number * length) % (len(ids) - length) for number in range(count)]
    cut = [ids[start : start + length] for start in starts]
    return Dataset.from_dict({"input_ids": cut, "labels": cut})


def _text_config(name: str) -> dict[str, Any]:
    """The catalogue's configuration of the language model, as keyword arguments of AutoConfig.for_model."""
    config = dict(catalogue.find_entry(name).config)
    text = dict(config.pop("text_config", config))
    if "tie_word_embeddings" in config:
        text.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    text.pop("dtype", None)
    return text


def library_source() -> Iterator[str]:
    """The files of Python's standard library, its tests left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        yield path.read_text(encoding="utf-8", errors="ignore")
