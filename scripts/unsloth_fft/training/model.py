"""The base model through Unsloth's own `FastLanguageModel.from_pretrained`, and what must be true before it loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput
from ..data import templates
from ..planning.parameters import Parameters

CHECKPOINTING = {"unsloth": "unsloth", "true": True, "off": False}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check_local(name: str) -> None:
    """Raise BadInput when `name` is a local folder that cannot be trained from; a Hub name passes unread."""
    folder = Path(name)
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") != 1:
            raise BadInput(
                f"model folder not found: {name}", hint="name a folder with config.json, or a Hub name OWNER/MODEL"
            )
        return
    if not folder.is_dir():
        raise BadInput(f"model {name} is a file; training needs a folder with weights", hint=f"try {folder.parent}")
    _check_config(folder)
    _check_weights(folder)
    if not any((folder / part).is_file() for part in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise BadInput(
            f"{folder} has no tokenizer (tokenizer.json)", hint="save the model's tokenizer into that folder"
        )


def _check_config(folder: Path) -> None:
    config = files.read_json(folder / "config.json", "model configuration")
    if not isinstance(config, dict) or not config.get("model_type"):
        raise BadInput(f"{folder / 'config.json'} has no model_type", hint="use the model's published config.json")


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(files.read_json(index, "weights index").get("weight_map", {}).values())
        missing = sorted(name for name in names if not (folder / name).is_file())
        if missing or not names:
            raise BadInput(
                f"{index} names files that are missing: {', '.join(missing) or 'none at all'}",
                hint="download the model again",
            )
    elif not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise BadInput(
                f"{folder} holds only pickle weights ({pickles[0]}); a pickle can run code when it is opened",
                hint="convert it where you trust it: model.save_pretrained(DIR, safe_serialization=True)",
            )
        raise BadInput(f"{folder} has no *.safetensors weights", hint="download or save the model's weights there")


def from_pretrained_arguments(parameters: Parameters, *, on_gpu: bool) -> dict[str, Any]:
    """Keyword arguments of FastLanguageModel.from_pretrained.

    Gradient checkpointing belongs here: get_peft_model returns at once in full fine-tuning (unsloth 2026.10.9,
    unsloth/models/llama.py). On a GPU float32 weights mean `float32_mixed_precision`; Unsloth's CPU loader takes the
    type itself and would otherwise choose bfloat16 by itself on some processors (unsloth_zoo/cpu/loader.py).
    """
    model, precision = parameters.model, parameters.precision
    arguments: dict[str, Any] = {
        "model_name": model.name,
        "max_seq_length": model.max_seq_length,
        "full_finetuning": True,
        "load_in_4bit": False,
        "load_in_8bit": False,
        "use_gradient_checkpointing": CHECKPOINTING[parameters.memory.gradient_checkpointing],
        "trust_remote_code": model.trust_remote_code,
        "revision": model.revision,
        "use_exact_model_name": True,
    }
    if on_gpu:
        arguments["float32_mixed_precision"] = precision.weights == "float32"
    else:
        arguments["dtype"] = precision.weights
    return arguments


def load(parameters: Parameters) -> tuple[Any, Any]:
    """(model, tokenizer), every parameter trainable. Raises BadInput when the name or files are not loadable."""
    import torch
    from unsloth import FastLanguageModel

    arguments = from_pretrained_arguments(parameters, on_gpu=torch.cuda.is_available())
    if "dtype" in arguments:
        arguments["dtype"] = getattr(torch, arguments["dtype"])
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(**arguments)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"model {parameters.model.name} cannot be loaded: {reason}", hint="check the name or folder"
        ) from None
    name = parameters.data.chat_template
    return model, tokenizer if name is None else templates.named(tokenizer, name)
