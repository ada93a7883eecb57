"""What of a model's folder would end a run, looked at before anything is loaded: names the file, runs nothing of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from ..core import files
from ..core.errors import BadInput, FFTError
from ..core.terminal import say
from ..models import hub_cache
from ..models.config import refuse_quantized
from ..models.shape import ModelShape
from .checkpoint import INDEX_FILE, WHOLE_FILE, Checkpoint, open_checkpoint
from .naming import WRAPPERS, group_of, is_buffer

_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
# JSON that loading reads when it is there; each must hold an object.
_JSON_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
                      "added_tokens.json", "vocab.json")  # fmt: skip
# What quantizers write beside, or in place of, a weight: GPTQ and AWQ, bitsandbytes, FP8 of several makers,
# compressed-tensors. MXFP4 (`_blocks`, `_scales`) is unpacked on loading.
_QUANTIZED: Final = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|weight\.absmax|weight\.quant_map|weight\.quant_state\.\w+|weight_scale(_inv)?"
    r"|weight_packed|weight_zero_point)$"
)


# What huggingface_hub allows in OWNER/NAME (1.33.0, utils/_validators.py, REPO_ID_REGEX, read 2026-11-23).
_HUB_PART: Final = r"(?!\S*(--|\.\.))\w([\w.-]{0,94}\w)?"
_HUB_NAME: Final = re.compile(f"{_HUB_PART}/{_HUB_PART}", re.ASCII)


def is_hub_name(name: str) -> bool:
    """Whether `name` is spelt as OWNER/MODEL."""
    return _HUB_NAME.fullmatch(name) is not None


def local_folder(name: str) -> Path | None:
    """The path `name`, if there is one."""
    try:
        path = files.expanded(name)
        return path if path.exists() else None
    except (OSError, ValueError):  # too long, a NUL byte or a surrogate
        return None


def check_local(name: str, revision: str | None = None) -> None:
    """Raise BadInput when `name` is a local folder, or a downloaded model, that cannot be trained from or saved again.

    A Hub name that is not on this machine passes unread.
    """
    folder = local_folder(name)
    if folder is None:
        downloaded = hub_cache.snapshot(name, revision)
        if downloaded is not None and (downloaded / "config.json").is_file():
            check(downloaded, complete=False)
        elif not is_hub_name(name):
            raise BadInput(
                f"model folder not found: {_shown(name)}",
                hint="name a folder with config.json, or a Hub name OWNER/MODEL",
            )
        return
    if not folder.is_dir():
        raise BadInput(f"model {name} is a file; training needs a folder with weights", hint=f"try {folder.parent}")
    check(folder)


def check_tokenizer(name: str) -> None:
    """Raise BadInput when `name` is a local folder whose tokenizer is missing or damaged; a Hub name passes unread."""
    folder = local_folder(name)
    if folder is not None:
        _check_tokenizer(folder, complete=True)
    elif not is_hub_name(name):
        raise BadInput(f"model folder not found: {_shown(name)}", hint="name a folder with tokenizer.json")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 200 else name[:200] + "...")


def check(folder: Path, *, complete: bool = True) -> None:
    """Raise BadInput when the model in `folder` cannot be trained from, or not be saved after training.

    Reads configuration, tokenizer and the headers of the weights; runs and unpickles nothing. Where not `complete`, as
    in the Hub's cache, weights and tokenizer may still be on their way.
    """
    _check_config(folder)
    if complete or any(folder.glob("*.safetensors")):
        _check_weights(folder)
    _check_tokenizer(folder, complete)
    _check_generation(folder)


def require_complete(folder: Path) -> None:
    """Raise BadInput for weights that are fewer than config.json describes: loading makes the rest up, in silence.

    Looks at families that the planner counts, and passes over folders without weights.
    """
    if not any(folder.glob("*.safetensors")):
        return
    checkpoint = open_checkpoint(folder)
    if checkpoint.config.get("quantization_config") is not None:  # MXFP4 packs two weights into a byte
        return
    try:
        shape = ModelShape.from_config(checkpoint.config, str(folder))
    except FFTError:  # a family that the planner does not count
        return
    if shape.multimodal:
        return
    stored = sum(
        tensor.elements
        for name, tensor in checkpoint.tensors.items()
        if tensor.is_weight and not is_buffer(name) and not (shape.tied_embeddings and group_of(name) == "head")
    )
    if stored < shape.parameters:
        raise BadInput(
            f"{folder}: the weights hold {stored:,} parameters, and config.json describes {shape.parameters:,}; loading"
            " would fill the rest with random values",
            hint="download the weights again, or use the config.json that was published with them",
        )


def _check_config(folder: Path) -> None:
    config = files.read_json(folder / "config.json", "model configuration")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise BadInput(f"{folder / 'config.json'} has no model_type", hint="use the model's published config.json")
    refuse_quantized(config, str(folder))
    kernel = _named_kernel(config)
    if kernel is not None:
        raise BadInput(
            f"{folder / 'config.json'} asks for code from elsewhere: {kernel}",
            hint="remove that key; only kernels that are installed here are used",
        )


def _named_kernel(config: dict[str, Any]) -> str | None:
    """The first attention or expert kernel named OWNER/NAME: Transformers would download and run it."""
    for key, value in config.items():
        parts = list(value.values()) if isinstance(value, dict) and "_implementation" in key else [value]
        if "_implementation" in key and any(isinstance(part, str) and "/" in part for part in parts):
            text = repr(str(value))
            return f"{key} {text if len(text) <= 200 else text[:200] + '...'}"
        if isinstance(value, dict) and (found := _named_kernel(value)):
            return found
    return None


def _check_weights(folder: Path) -> None:
    if not any(folder.glob("*.safetensors*")):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise BadInput(
                f"{folder} holds only pickle weights ({pickles[0]}); a pickle can run code when it is opened",
                hint="convert it where you trust it: model.save_pretrained(DIR, safe_serialization=True)",
            )
        raise BadInput(f"{folder} has no *.safetensors weights", hint="download or save the model's weights there")
    checkpoint = open_checkpoint(folder)
    if not any((folder / name).is_file() for name in (WHOLE_FILE, INDEX_FILE, _named_file(checkpoint))):
        found = sorted(path.name for path in folder.glob("*.safetensors"))
        raise BadInput(
            f"{folder} has {found[0]}{' and others' if len(found) > 1 else ''}, but neither {WHOLE_FILE} nor"
            f" {INDEX_FILE}: nothing loads it",
            hint=f"download {INDEX_FILE} as well, or save the model again with save_pretrained",
        )
    for remark in checkpoint.remarks:
        say(f"warning: {remark}")
    _check_names(folder, checkpoint)


def _named_file(checkpoint: Checkpoint) -> str:
    """The file of weights that config.json names itself, or one that is always there."""
    name = checkpoint.config.get("transformers_weights")
    return name if isinstance(name, str) and os.path.basename(name) == name else WHOLE_FILE


def _check_names(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuse weights that would load as something else: under names nobody looks for, or quantized."""
    for name in checkpoint.tensors:
        if (wrapper := WRAPPERS.search(name)) is not None:
            raise BadInput(
                f"{folder}: weights are named with `{wrapper.group()}` ({name}); loading would find none of them and"
                " begin with random weights",
                hint="save the unwrapped model: for example model.module.save_pretrained, or model._orig_mod",
            )
        if _QUANTIZED.search(name):
            raise BadInput(
                f"{folder} holds quantized weights ({name}); full fine-tuning needs the model they were made from",
                hint="name the unquantized model",
            )


def _check_tokenizer(folder: Path, complete: bool) -> None:
    if complete and not any((folder / part).is_file() for part in _TOKENIZERS):
        raise BadInput(
            f"{folder} has no tokenizer (tokenizer.json)", hint="save the model's tokenizer into that folder"
        )
    for name in _JSON_FILES:
        path = folder / name
        if path.exists() and not isinstance(files.read_json(path, "model file"), dict):
            raise BadInput(f"model file {path} holds no JSON object", hint="save or download the model again")
    template = folder / "chat_template.jinja"
    if template.exists():
        files.read_text(template, "chat template")


# --- generation settings ---

# Keys that no rule of transformers is about (5.17.0, generation/configuration_utils.py, `validate`).
_PLAIN: Final = frozenset(
    ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length", "do_sample", "use_cache")
) | {"transformers_version", "_from_model_config", "repetition_penalty"}


def _check_generation(folder: Path) -> None:
    """Raise BadInput for generation settings with which the trained model cannot be saved; say what will be changed."""
    path = folder / "generation_config.json"
    values = files.read_json(path, "model file") if path.exists() else {}
    if set(values) <= _PLAIN:
        return
    try:
        from transformers import GenerationConfig
    except ModuleNotFoundError:  # where nothing can be trained, it is looked at again before training
        return
    try:
        config = GenerationConfig.from_dict(values)
    except Exception as error:  # transformers raises what its own checks raise
        raise _unsavable(str(path), error) from None
    if make_savable(config, str(path)):
        say(f"warning: {path} sets {_sampling(config)} without do_sample; the trained model gets do_sample: true")


def make_savable(config: Any, where: str) -> bool:
    """Set `do_sample` on a GenerationConfig that transformers would refuse to save without; whether that was needed.

    Raises BadInput when it would refuse it all the same.
    """
    if _refusal(config) is None:
        return False
    before, config.do_sample = config.do_sample, True
    refusal = _refusal(config)
    if refusal is not None:
        config.do_sample = before
        raise _unsavable(where, refusal)
    return True


def _refusal(config: Any) -> Exception | None:
    try:
        config.validate(strict=True)
    except Exception as error:  # ValueError, or what a value of another type leads to
        return error
    return None


def _unsavable(where: str, error: Exception) -> BadInput:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = lines[1] if len(lines) > 1 else lines[0]
    return BadInput(
        f"{where} cannot be saved again after training: {reason[:250]}",
        hint="correct or remove that key, then init again",
    )


def _sampling(config: Any) -> str:
    names = ("temperature", "top_p", "top_k", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")
    return ", ".join(f"{name} {value}" for name in names if (value := getattr(config, name, None)) is not None)
