"""A finished session as a complete Hugging Face folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files, hub, outputs, quiet, schema, staging_folders
from ..core.errors import BadInput, FFTError, MissingHere
from ..core.shell_words import word
from ..core.terminal import say
from ..data import stopping_tokens
from ..models import hub_cache
from ..settings.parameters import Parameters
from ..training import environment, master, session, starting
from ..weights import loading, model_folder, multimodal
from . import gguf, model_card, older_readers, ownership, stored

DTYPES = ("bfloat16", "float32", "float16")
SHARD_SIZE = "5GB"
STAGING = "export"  # what folders beside an exported one are called while it is written
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
    audit = _check_ready(folder, state)
    with files.explained(to):
        staging_folders.tidy(to, STAGING)
    _check_place(to, overwrite, folder, parameters)
    environment.require_packages()
    tools = gguf.find_tools(types) if types else None
    given = token(push_to)
    chosen = dtype or parameters.precision.weights
    _check_disk(folder.model, to, chosen, types)
    _say_where_master_is_missing(folder, parameters, chosen)
    with files.folders_above(to), staging_folders.beside(to, STAGING) as staging:
        with quiet.stdout_to_stderr():
            tokenizer, context = _write_model(folder, staging, chosen)
            base = hub_cache.find(state.base_model, parameters.model.revision)
            with files.explained(staging):
                older_readers.complete(staging, base if base is not None and base.is_dir() else None)
                stopping_tokens.complete(staging, tokenizer)
            found = stored.look_at(folder, state, parameters, staging, chosen)
        written = gguf.write(tools, staging, types, to.name) if tools else []
        facts = model_card.Facts(
            name=to.name,
            dtype=chosen,
            parameters=parameters,
            session=state,
            audit=audit,
            ggufs=[path.name for path in written],
            has_template=tokenizer.chat_template is not None,
            context=context,
            stored=found,
        )
        _write_records(folder, staging, facts, tokenizer)
        ownership.write(staging)
        _put_in_place(staging, to, overwrite)
    address = push(to, push_to, given) if push_to else None
    names = tuple(sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file()))
    return Exported(to, chosen, names, tuple(facts.ggufs), address, found)


def _check_ready(folder: session.Folder, state: session.Session) -> dict[str, Any]:
    """The audit of a session that has all that an export takes from it."""
    if state.state != "completed" or not folder.model.is_dir():
        raise BadInput(
            f"{folder.root} is {state.state}, so there is no finished model",
            hint=f"finish it with: {starting.command(folder)}",
        )
    for record in (folder.audit, folder.loss_plot):
        if not record.is_file():
            raise BadInput(
                f"{record} is missing; the model card tells what the audit found",
                hint=f"unsloth_fft_tool.py audit --session {word(folder.root)} --output {word(folder.audit)}",
            )

    audit: dict[str, Any] = files.read_json(folder.audit, "audit")
    schema.check(audit, "audit", f"audit {folder.audit}")
    return audit


def _check_place(to: Path, overwrite: bool, folder: session.Folder, parameters: Parameters) -> None:
    """Refuse a folder whose loss would be one: what the export comes from, and whatever no export wrote."""
    with files.explained(to):
        is_there = to.exists() or to.is_symlink()
        empty = to.is_dir() and not any(to.iterdir())
    own: list[str | Path] = [folder.root, folder.model, folder.checkpoints, parameters.model.name]
    for source in (*own, *parameters.data.named):
        if os.path.exists(source) and outputs.is_within(Path(source), to):
            raise BadInput(f"--to {to} holds {source}, which this export comes from", hint="choose another folder")
    for source in (folder.model, folder.checkpoints, parameters.model.name):
        if os.path.isdir(source) and outputs.is_within(to, Path(source)):
            raise BadInput(f"--to {to} lies inside of {source}, which is read", hint="choose another folder")
    if not is_there or empty:
        return
    if not overwrite:
        raise BadInput(f"{to} already exists; nothing was changed", hint="choose another folder, or give --overwrite")
    if to.is_symlink() or not to.is_dir():
        raise BadInput(f"{to} is not an exported model; it is not overwritten", hint="choose another folder")
    ownership.require(to)


def _check_disk(model: Path, to: Path, dtype: str, types: Sequence[str]) -> None:
    stored = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    # At most as many elements as two bytes each allow; each GGUF type, and one float32 step between, at most 4 bytes.
    elements = stored // 2
    needed = elements * (BYTES[dtype] + 4 * len(types) + (4 if any(kind not in gguf.DIRECT for kind in types) else 0))
    place = next(parent for parent in to.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise MissingHere(
            f"{free / 2**30:.1f} GiB free in {place}, up to {needed / 2**30:.1f} GiB may be written",
            hint="free space there, or choose another folder",
        )


def token(push_to: str | None) -> str | None:
    """The token to push with, None where nothing is pushed. Raises MissingHere when there is none."""
    if push_to is None:
        return None
    token = hub.token()
    if token is None:
        raise MissingHere(
            f"pushing to {push_to} needs a token, and HF_TOKEN is not set",
            hint="export HF_TOKEN with a token that may write (huggingface.co/settings/tokens)",
        )
    return token


def _write_model(folder: session.Folder, staging: Path, dtype: str) -> tuple[Any, int]:
    """Weights in `dtype`, sharded, with tokenizer and generation settings; returns (tokenizer, context length)."""
    if multimodal.is_multimodal(files.read_json(folder.model / "config.json", "model configuration")):
        return _write_multimodal(folder, staging, dtype)
    tokenizer, model = loading.tokenizer(folder.model), _model_as(folder, dtype)
    with files.explained(staging):
        model.save_pretrained(staging, max_shard_size=SHARD_SIZE)
        tokenizer.save_pretrained(staging)
        model.generation_config.save_pretrained(staging)
        files.give_usual_mode(staging)
    return tokenizer, int(getattr(model.config, "max_position_embeddings", 0) or 4096)


def _write_multimodal(folder: session.Folder, staging: Path, dtype: str) -> tuple[Any, int]:
    """The checkpoint as it lies, names and shards included, with every weight in `dtype`; returns as `_write_model`."""
    import torch
    from safetensors.torch import load_file, save_file

    source, wanted = folder.model, getattr(torch, dtype)
    corrections = _corrections_for(folder, dtype)
    model_folder.check_local(str(source))
    with files.explained(staging):
        shutil.copytree(source, staging, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
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
    return loading.tokenizer(source), int(config["text_config"].get("max_position_embeddings") or 4096)


def _model_as(folder: session.Folder, dtype: str) -> Any:
    """The session's model in `dtype`; from its float32 master where there is one and the type can hold more of it."""
    import torch

    wanted, corrections = getattr(torch, dtype), _corrections_for(folder, dtype)
    if corrections:
        model = loading.model(folder.model, dtype=torch.float32)
        master.add_to(model, corrections)
        model = model.to(wanted)
    else:
        model = loading.model(folder.model, dtype=wanted)
    _refuse_overflow(model.named_parameters(), dtype)
    return model


def _corrections_for(folder: session.Folder, dtype: str) -> dict[str, Any]:
    """What an adamw_flash run keeps beside its bfloat16 weights; nothing where these are what is wanted."""
    return {} if dtype == "bfloat16" or not folder.correction.is_dir() else master.read(folder.correction)


def _say_where_master_is_missing(folder: session.Folder, parameters: Parameters, dtype: str) -> None:
    """A wider type holds no more than bfloat16 weights where a run's corrections were not kept."""
    if dtype != "bfloat16" and master.has_corrections(parameters) and not folder.correction.is_dir():
        say(
            f"warning: {folder.root} has no correction/, what adamw_flash keeps beside its bfloat16 weights;"
            f" {dtype} files hold no more than these weights"
        )


def _refuse_overflow(weights: Iterable[tuple[str, Any]], dtype: str) -> None:
    """Raise BadInput where a weight is not finite: as trained, or because float16 ends at 65,504."""
    for name, weight in weights:
        if weight.is_floating_point() and not loading.is_finite(weight):
            if dtype != "float16":
                raise BadInput(f"'{name}' is not finite; nothing was written", hint="train again from the base")
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
        template = model_card.go_template(tokenizer) if facts.has_template else None
        files.write_text(
            staging / "Modelfile",
            model_card.modelfile(facts.ggufs[0], facts.context, template, stopping_tokens.of(tokenizer)),
        )


def _without_paths(audit: dict[str, Any]) -> dict[str, Any]:
    """The audit with names instead of this machine's paths, which are nobody's business on the Hub."""
    return {**audit, "base": Path(str(audit["base"])).name, "trained": Path(str(audit["trained"])).name}


def _put_in_place(staging: Path, to: Path, overwrite: bool) -> None:
    """Move the finished folder to its place; what another export has put there meanwhile is looked at as at first."""
    if to.exists() and any(to.iterdir()):
        if not overwrite:
            raise BadInput(f"{to} came to be meanwhile; nothing was changed", hint="choose another folder")
        ownership.require(to)
    staging_folders.put_in_place(staging, to)


def push(folder: Path, name: str, token: str | None) -> str:
    """Upload an exported folder to the private repository `name`, made where it is missing; returns its address.

    Raises BadInput where a public repository has that name, MissingHere where the Hub does not take it.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(endpoint=hub.endpoint(), token=token)
        api.create_repo(name, private=True, exist_ok=True)
        if api.repo_info(name).private is not True:
            raise BadInput(
                f"{folder} is exported, but {name} is a public repository; nothing was pushed",
                hint=f"name another, or publish it: hf upload {word(name)} {word(folder)}",
            )
        api.upload_folder(repo_id=name, folder_path=folder)
    except FFTError:
        raise
    except Exception as error:  # of the network, the Hub or the name: each library on the way has kinds of its own
        raise MissingHere(
            f"{folder} is exported, but pushing to {name} failed: {loading.reason_of(error)}",
            hint=f"check the network, the name and the token, then: hf upload {word(name)} {word(folder)} --private",
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
