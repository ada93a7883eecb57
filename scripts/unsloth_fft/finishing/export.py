"""A finished session as a complete Hugging Face folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput, MissingHere
from ..models import hub_cache
from ..training import environment, master, session, starting
from ..weights import multimodal
from . import gguf, model_card, older_readers, stored

DTYPES = ("bfloat16", "float32", "float16")
SHARD_SIZE = "5GB"
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Exported:
    """What was written; `pushed_to` is the repository's address, or None. `stored` is what the files hold."""

    folder: Path
    dtype: str
    files: tuple[str, ...]
    ggufs: tuple[str, ...]
    pushed_to: str | None
    stored: stored.Stored


def export(
    root: Path, to: Path, *, dtype: str | None, types: Sequence[str] = (), overwrite: bool = False, push_to: str | None
) -> Exported:
    """Write the session's model to `to`. `dtype` None keeps the type it was trained in.

    Raises BadInput (not completed, folder exists), MissingHere (packages, llama.cpp, disk, token); nothing is left
    half-written, and an existing folder is replaced only once the new one is complete.
    """
    folder, state, parameters = session.load(root)
    _restore_replaced(to)
    _check_ready(folder, state)
    _check_free(to, overwrite)
    environment.require_packages()
    tools = gguf.find_tools(types) if types else None
    given = token(push_to)
    chosen = dtype or parameters.precision.weights
    _check_disk(folder.model, to, chosen, types)
    staging = to.parent / f".{to.name}.export.tmp"  # one name, so that the next export clears what a kill left
    try:
        with environment.stdout_to_stderr():
            tokenizer, context = _write_model(folder, staging, chosen)
            base = hub_cache.find(state.base_model, parameters.model.revision)
            with files.explained(staging):
                older_readers.complete(staging, base if base is not None and base.is_dir() else None)
            found = stored.look_at(folder, state, parameters, staging, chosen)
        written = gguf.write(tools, staging, types, to.name) if tools else []
        facts = model_card.Facts(
            name=to.name,
            dtype=chosen,
            parameters=parameters,
            session=state,
            audit=files.read_json(folder.audit, "audit"),
            ggufs=[path.name for path in written],
            has_template=tokenizer.chat_template is not None,
            context=context,
            stored=found,
        )
        _write_records(folder, staging, facts, tokenizer)
        _put_in_place(staging, to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    address = _push(to, push_to, given) if push_to else None
    names = tuple(sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file()))
    return Exported(to, chosen, names, tuple(facts.ggufs), address, found)


def _check_ready(folder: session.Folder, state: session.Session) -> None:
    if state.state != "completed" or not folder.model.is_dir():
        raise BadInput(
            f"{folder.root} is {state.state}, so there is no finished model",
            hint=f"finish it with: {starting.command(folder)}",
        )
    for record in (folder.audit, folder.loss_plot):
        if not record.is_file():
            raise BadInput(
                f"{record} is missing; the model card tells what the audit found",
                hint=f"unsloth_fft_tool.py audit --session {folder.root} --output {folder.audit}",
            )


def _check_free(to: Path, overwrite: bool) -> None:
    if not to.exists():
        with files.explained(to):
            to.parent.mkdir(parents=True, exist_ok=True)
    elif not overwrite:
        raise BadInput(f"{to} already exists; nothing was changed", hint="choose another folder, or give --overwrite")
    elif not to.is_dir() or (any(to.iterdir()) and not (to / "config.json").is_file()):
        raise BadInput(f"{to} is not an exported model; it is not overwritten", hint="choose another folder")


def _check_disk(model: Path, to: Path, dtype: str, types: Sequence[str]) -> None:
    stored = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    # At most as many elements as two bytes each allow; each GGUF type, and one float32 step between, at most 4 bytes.
    elements = stored // 2
    needed = elements * (BYTES[dtype] + 4 * len(types) + (4 if any(kind not in gguf.DIRECT for kind in types) else 0))
    free = shutil.disk_usage(to.parent).free
    if free < needed:
        raise MissingHere(
            f"{free / 2**30:.1f} GiB free in {to.parent}, up to {needed / 2**30:.1f} GiB may be written",
            hint="free space there, or choose another folder",
        )


def token(push_to: str | None) -> str | None:
    """The token to push with, None where nothing is pushed. Raises MissingHere when there is none."""
    if push_to is None:
        return None
    if not os.environ.get("HF_TOKEN"):
        raise MissingHere(
            f"pushing to {push_to} needs a token, and HF_TOKEN is not set",
            hint="export HF_TOKEN with a token that may write (huggingface.co/settings/tokens)",
        )
    return os.environ["HF_TOKEN"]


def _write_model(folder: session.Folder, staging: Path, dtype: str) -> tuple[Any, int]:
    """Weights in `dtype`, sharded, with tokenizer and generation settings; returns (tokenizer, context length)."""
    from transformers import AutoTokenizer

    shutil.rmtree(staging, ignore_errors=True)
    if multimodal.is_multimodal(files.read_json(folder.model / "config.json", "model configuration")):
        return _write_multimodal(folder, staging, dtype)
    with files.explained(staging):
        staging.mkdir()
        model = _model_as(folder, dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder.model)
        if tokenizer.eos_token_id is not None and model.generation_config.eos_token_id is None:
            model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(staging, max_shard_size=SHARD_SIZE)
        tokenizer.save_pretrained(staging)
        model.generation_config.save_pretrained(staging)
        files.give_usual_mode(staging)
    return tokenizer, int(getattr(model.config, "max_position_embeddings", 0) or 4096)


def _write_multimodal(folder: session.Folder, staging: Path, dtype: str) -> tuple[Any, int]:
    """The checkpoint as it lies, names and shards included, with every weight in `dtype`; returns as `_write_model`."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    source, wanted = folder.model, getattr(torch, dtype)
    corrections = _corrections_for(folder, dtype)
    with files.explained(staging):
        shutil.copytree(source, staging, ignore=shutil.ignore_patterns("*.safetensors"))
        for shard in sorted(source.glob("*.safetensors")):
            cast = load_file(shard)
            for name, value in cast.items():
                correction = corrections.get(multimodal.text_name(name) or "")
                if correction is not None:
                    value = master.joined(value, correction)
                if value.is_floating_point():
                    cast[name] = value.to(wanted)
            _refuse_overflow(cast.items(), dtype)
            save_file(cast, staging / shard.name, metadata={"format": "pt"})
        config = files.read_json(staging / "config.json", "model configuration")
        files.write_json(staging / "config.json", multimodal.with_dtype(config, dtype))
        files.give_usual_mode(staging)
    return AutoTokenizer.from_pretrained(source), int(config["text_config"].get("max_position_embeddings") or 4096)


def _model_as(folder: session.Folder, dtype: str) -> Any:
    """The session's model in `dtype`; from its float32 master where there is one and the type can hold more of it."""
    import torch
    from transformers import AutoModelForCausalLM

    wanted, corrections = getattr(torch, dtype), _corrections_for(folder, dtype)
    if corrections:
        model = AutoModelForCausalLM.from_pretrained(folder.model, dtype=torch.float32)
        master.add_to(model, corrections)
        model = model.to(wanted)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder.model, dtype=wanted)
    _refuse_overflow(model.named_parameters(), dtype)
    return model


def _corrections_for(folder: session.Folder, dtype: str) -> dict[str, Any]:
    """What an adamw_flash run keeps beside its bfloat16 weights; nothing where these are what is wanted."""
    return {} if dtype == "bfloat16" or not folder.correction.is_dir() else master.read(folder.correction)


def _refuse_overflow(weights: Iterable[tuple[str, Any]], dtype: str) -> None:
    """Raise BadInput where a weight became infinite: float16 ends at 65,504."""
    import torch

    for name, weight in weights:
        if dtype == "float16" and not bool(torch.isfinite(weight).all()):
            raise BadInput(
                f"'{name}' holds a value beyond {stored.FLOAT16_LARGEST:,.0f}, where float16 ends; nothing was written",
                hint="--dtype float32, or --dtype bfloat16",
            )


def _write_records(folder: session.Folder, staging: Path, facts: model_card.Facts, tokenizer: Any) -> None:
    with files.explained(staging):
        shutil.copyfile(folder.loss_plot, staging / "loss.png")
    files.write_json(staging / "audit.json", _without_paths(facts.stored.audit or facts.audit))
    files.write_text(staging / "README.md", model_card.model_card(facts))
    if facts.ggufs:
        stop = [tokenizer.eos_token] if tokenizer.eos_token else []
        template = model_card.go_template(tokenizer) if facts.has_template else None
        files.write_text(staging / "Modelfile", model_card.modelfile(facts.ggufs[0], facts.context, template, stop))


def _without_paths(audit: dict[str, Any]) -> dict[str, Any]:
    """The audit with names instead of this machine's paths, which are nobody's business on the Hub."""
    return {**audit, "base": Path(str(audit["base"])).name, "trained": Path(str(audit["trained"])).name}


def _put_in_place(staging: Path, to: Path) -> None:
    with files.explained(to):
        if to.exists():
            to.rename(_replaced(to))
        staging.rename(to)
        shutil.rmtree(_replaced(to), ignore_errors=True)


def _replaced(to: Path) -> Path:
    """Where an exported folder waits while its successor takes its place."""
    return to.parent / f".{to.name}.export.old"


def _restore_replaced(to: Path) -> None:
    """After a kill between the two renames the earlier folder comes back; after one behind them its rest goes."""
    old = _replaced(to)
    if old.is_dir() and to.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.is_dir():
        with files.explained(to):
            old.rename(to)


def _push(folder: Path, name: str, token: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingHere(
            f"{folder} is exported, but pushing to {name} failed: {reason}",
            hint=f"check the name and the token, then: hf upload {name} {folder} --private",
        ) from None
    return f"https://huggingface.co/{name}"


def summary(exported: Exported) -> dict[str, Any]:
    """What `export --json` prints."""
    return {
        "folder": str(exported.folder),
        "dtype": exported.dtype,
        "files": list(exported.files),
        "gguf": list(exported.ggufs),
        "pushed_to": exported.pushed_to,
        **exported.stored.to_json(),
    }
