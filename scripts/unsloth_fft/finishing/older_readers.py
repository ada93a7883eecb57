"""Settings under the names that readers of the last year look for, beside the new ones: the base was read by them.

transformers 5 writes `rope_parameters`, `dtype` and `TokenizersBackend`; transformers 4, and what was built on it
(vLLM, the converter of llama.cpp), looks for `rope_theta`, `rope_scaling`, `torch_dtype` and a tokenizer class that it
knows, and takes a default in silence where it finds none.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..auditing.compare import same_values
from ..core import files
from ..weights.checkpoint import open_checkpoint
from ..weights.naming import group_of, is_token_embedding

# What a base says that is not true of the trained model, or of its folder.
_NOT_KEPT: Final = frozenset(
    ("_name_or_path", "auto_map", "compression_config", "dtype", "quantization_config", "torch_dtype")
    + ("transformers_version", "transformers_weights", "unsloth_fixed", "unsloth_version")
)
# What loading for training changes for training's sake: the base's value is the model's.
_OF_TRAINING: Final = ("use_cache",)
_TOKENIZER_OF_TRAINING: Final = ("model_max_length", "padding_side", "truncation_side")
# A kind of scaling that came with transformers 5 (Gemma 4's) has no reader before it, and its own refuses it here.
_OLD_ROPE_TYPES: Final = ("linear", "dynamic", "yarn", "longrope", "su", "llama3")
_NEW_TOKENIZER_CLASS: Final = "TokenizersBackend"
_ANY_TOKENIZER_CLASS: Final = "PreTrainedTokenizerFast"
_VOCABULARY_FILES: Final = ("tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
_PROCESSOR_FILES: Final = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def complete(folder: Path, base: Path | None) -> None:
    """Add to the model saved in `folder` what older readers need; `base` is the folder it was trained from, if here."""
    _rewrite(folder / "config.json", base, config)
    if _head_is_its_own(folder):
        untied = {"tie_word_embeddings": False}
        _rewrite(folder / "config.json", None, lambda new, _: {**new, **untied, **_in_text_part(new, untied)})
    _rewrite(folder / "tokenizer_config.json", base, _tokenizer_of(folder))
    _rewrite(folder / "generation_config.json", base, generation)
    if base is not None:
        _copy_files(folder, base)


def _head_is_its_own(folder: Path) -> bool:
    """Whether a head is stored that differs from the embedding: transformers 5 then uses it, whatever config.json says,
    and transformers 4 does what config.json says."""
    tensors = open_checkpoint(folder).tensors
    heads = [tensor for name, tensor in tensors.items() if group_of(name) == "head" and name.endswith(".weight")]
    tables = [tensor for name, tensor in tensors.items() if is_token_embedding(name)]
    return bool(heads and tables) and not same_values(tables[0], heads[0])


def _in_text_part(new: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    text = new.get("text_config")
    return {"text_config": {**text, **changes}} if isinstance(text, dict) and "tie_word_embeddings" in text else {}


def config(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """config.json `new` with the keys of the base's, and the names before transformers 5 of what it says itself."""
    kept = {key: value for key, value in old.items() if key not in new and key not in _NOT_KEPT}
    merged = {**kept, **new, **{key: old[key] for key in _OF_TRAINING if key in old}}
    for key, part in new.items():
        if isinstance(part, dict) and isinstance(part.get("model_type"), str):
            before = old.get(key)
            merged[key] = config(part, before if isinstance(before, dict) else {})
    if isinstance(new.get("dtype"), str):
        merged["torch_dtype"] = new["dtype"]
    return {**merged, **_rope(new, old)}


def _rope(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` (and Gemma 3's second base), from the parameters the model was trained with."""
    parameters = new.get("rope_parameters")
    if not isinstance(parameters, dict):
        return {}
    full = parameters.get("full_attention")
    if not isinstance(full, dict):
        full = {} if any(isinstance(part, dict) for part in parameters.values()) else parameters
    found: dict[str, Any] = {}
    if "rope_theta" in full:
        found["rope_theta"] = full["rope_theta"]
    if "partial_rotary_factor" in full and "partial_rotary_factor" not in new:
        found["partial_rotary_factor"] = full["partial_rotary_factor"]
    apart = ("rope_theta", "partial_rotary_factor", "attention_factor" if full.get("attention_factor") is None else "")
    scaling = {key: value for key, value in full.items() if key not in apart}
    kind = scaling.get("rope_type", "default")
    if kind in _OLD_ROPE_TYPES:
        found["rope_scaling"] = {**scaling, "type": scaling["rope_type"]} if _says_type(old) else scaling
    elif full and kind == "default":
        found["rope_scaling"] = None
    local = parameters.get("sliding_attention")
    if isinstance(local, dict) and "rope_theta" in local and str(new.get("model_type", "")).startswith("gemma3"):
        found["rope_local_base_freq"] = local["rope_theta"]
    return found


def _says_type(old: Mapping[str, Any]) -> bool:
    """Whether the base names the kind of its scaling by the oldest key, which the oldest readers ask for alone."""
    scaling = old.get("rope_scaling")
    return isinstance(scaling, dict) and "type" in scaling


def generation(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """generation_config.json `new` with the keys that only the base's has."""
    return {**{key: value for key, value in old.items() if key not in _NOT_KEPT}, **new}


def tokenizer(new: Mapping[str, Any], old: Mapping[str, Any], template: str | None) -> dict[str, Any]:
    """tokenizer_config.json `new` as readers of the base's expect it; `template` is the chat template in use."""
    merged = {
        **{key: value for key, value in old.items() if key not in _NOT_KEPT and key != "added_tokens_decoder"},
        **new,
    }
    for key in _TOKENIZER_OF_TRAINING:
        merged.pop(key, None)
        if key in old:
            merged[key] = old[key]
    if new.get("tokenizer_class") in (None, _NEW_TOKENIZER_CLASS):
        known = old.get("tokenizer_class")
        merged["tokenizer_class"] = _ANY_TOKENIZER_CLASS if known in (None, _NEW_TOKENIZER_CLASS) else known
    extra = merged.get("extra_special_tokens")
    if isinstance(extra, list):  # transformers 4 takes an object there, and this list under its older name
        del merged["extra_special_tokens"]
        merged["additional_special_tokens"] = extra
    if "chat_template" in old and template is not None:
        merged["chat_template"] = template
    return merged


def _tokenizer_of(folder: Path) -> Any:
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else None
    return lambda new, old: tokenizer(new, old, template)


def _rewrite(file: Path, base: Path | None, merge: Any) -> None:
    new = _object(file)
    if new is None:
        return
    files.write_json(file, merge(new, (_object(base / file.name) or {}) if base is not None else {}))


def _object(file: Path) -> dict[str, Any] | None:
    value = files.read_json(file, "model file") if file.is_file() else None
    return value if isinstance(value, dict) else None


def _copy_files(folder: Path, base: Path) -> None:
    """The vocabulary in its older forms where it is still the same, and a multimodal model's processors."""
    new, old = _object(folder / "tokenizer.json") or {}, _object(base / "tokenizer.json") or {}
    same = all(new.get(part) == old.get(part) for part in ("model", "added_tokens"))
    for name in (*(_VOCABULARY_FILES if same else ()), *_PROCESSOR_FILES):
        if (base / name).is_file() and not (folder / name).exists():
            shutil.copyfile(base / name, folder / name)
