"""The base model through Unsloth's own `FastLanguageModel.from_pretrained`, and what must be true before it loads."""

from __future__ import annotations

import contextlib
from typing import Any

from ..core import files
from ..core.errors import BadInput, TrainingFailed
from ..data import templates
from ..memory_savers import streamed_weights
from ..models import hub_cache
from ..models.config import text_part
from ..settings.parameters import Parameters
from ..weights import loading, model_folder
from . import processes

# torchao's recipe of float8 products: one scale a tensor, for inputs, weights and gradients alike. "rowwise" was slower
# (references/measurements), and its variant with a bfloat16 product for the weights' gradient gained less.
FLOAT8_RECIPE = "tensorwise"
CHECKPOINTING = {"unsloth": "unsloth", "true": True, "off": False}


def require_finite(model: Any, step: int) -> None:
    """Raise TrainingFailed when a weight of `model` (a torch module) is NaN or infinite.

    Sums carry both through and borrow no memory; float32 and bfloat16 sums of weights do not overflow by themselves.
    """
    broken = _first_not_finite(model)
    if processes.any_of(broken is not None):
        raise TrainingFailed(
            f"{broken or 'a weight'} is not finite after step {step}; nothing was saved, the last checkpoint is kept",
            hint="lower the learning rate or lengthen the warm-up (references/hyperparameters.md), then start anew",
        )


def _first_not_finite(model: Any) -> str | None:
    import torch

    for name, weight in model.named_parameters():
        local = weight.to_local() if hasattr(weight, "to_local") else weight
        if not torch.isfinite(local.detach().sum()):
            return str(name)
    return None


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
        "use_safetensors": True,
    }
    if on_gpu:
        arguments["float32_mixed_precision"] = precision.weights == "float32"
        if precision.compute == "float8":
            arguments["float8_training"] = FLOAT8_RECIPE
        if parameters.memory.weight_offload:
            # Unsloth would make a map that counts the layers, and may put the embedding on the host.
            arguments |= {"device_map": {"": 0}, "offload_embedding": False}
    else:
        arguments["dtype"] = precision.weights
    return arguments


def load(parameters: Parameters) -> tuple[Any, Any]:
    """(model, tokenizer), every parameter trainable. Raises BadInput when the name or files are not loadable."""
    import torch

    arguments = from_pretrained_arguments(parameters, on_gpu=torch.cuda.is_available())
    if "dtype" in arguments:
        arguments["dtype"] = getattr(torch, arguments["dtype"])
    if "float8_training" in arguments:
        arguments["float8_training"] = _float8(arguments["float8_training"])
    scaling = _stretched_by(parameters)
    if scaling is not None:
        arguments["rope_scaling"] = scaling
    with streamed_weights.loads_to_host() if parameters.memory.weight_offload else contextlib.nullcontext():
        model, tokenizer = loading.with_unsloth(arguments)
    downloaded = hub_cache.snapshot(parameters.model.name, parameters.model.revision)
    if downloaded is not None and model_folder.local_folder(parameters.model.name) is None:  # perhaps only just now
        model_folder.check(downloaded, complete=False)
        model_folder.require_complete(downloaded)
    if getattr(model, "generation_config", None) is not None:
        model_folder.make_savable(model.generation_config, f"the generation settings of {parameters.model.name}")
    if scaling is not None:
        _require_scaling(model.config, scaling, parameters.model.name)
    if parameters.memory.weight_offload:
        streamed_weights.install(model)
    name = parameters.data.chat_template
    return model, tokenizer if name is None else templates.named(tokenizer, name)


def _float8(recipe: str) -> Any:
    """torchao's configuration of `recipe`: Unsloth takes recipes by name on compute capability 12.x only."""
    from torchao.float8 import Float8LinearConfig

    return Float8LinearConfig.from_recipe_name(recipe)


def _stretched_by(parameters: Parameters) -> dict[str, Any] | None:
    """The model's own YaRN scaling, where rows are longer than its `max_position_embeddings`; else None.

    Unsloth would put a linear scaling in its place unless it is given (unsloth 2026.10.9, models/llama.py,
    `_extended_rope_scaling`), and so train another model than the one that was named.
    """
    folder = hub_cache.find(parameters.model.name, parameters.model.revision)
    if folder is None or not (folder / "config.json").is_file():
        return None
    config, _ = text_part(files.read_json(folder / "config.json", "model configuration"), parameters.model.name)
    trained, scaling = (
        config.get("max_position_embeddings"),
        config.get("rope_scaling") or config.get("rope_parameters"),
    )
    if not isinstance(scaling, dict) or type(trained) is not int or parameters.model.max_seq_length <= trained:
        return None
    return scaling if (scaling.get("rope_type") or scaling.get("type")) == "yarn" else None


def _require_scaling(config: Any, wanted: dict[str, Any], name: str) -> None:
    """Raise BadInput where the loaded model has another RoPE scaling than its folder says."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kind, factor = found.get("rope_type") or found.get("type"), found.get("factor")
    if (kind, factor) != ("yarn", wanted.get("factor")):
        raise BadInput(
            f"{name} stretches its positions by YaRN with factor {wanted.get('factor')}, and Unsloth loaded {kind} with"
            f" factor {factor}",
            hint="plan again with a --seq-length of at most its max_position_embeddings",
        )
