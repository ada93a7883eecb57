"""Reading a published `config.json`: which part describes the text model, and values with clear errors.

Standard library only. Nothing is guessed here: a key is read, or has the default that the model's own
configuration class documents, or the error names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from ..core.errors import BadInput

# Keys of a config.json that say nothing about the shape (Transformers' generic bookkeeping).
GENERIC_KEYS = frozenset(
    {
        "_name_or_path", "architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id",
        "hidden_act", "initializer_range", "model_type", "pad_token_id", "pretraining_tp", "rms_norm_eps",
        "rope_parameters", "rope_scaling", "rope_theta", "torch_dtype", "transformers_version",
        "unsloth_fixed", "unsloth_version", "use_cache",
    }
)  # fmt: skip
# Both bias switches are asked for by name: most other Llama-like families lack one of them, and some (Qwen3-VL's
# text part, for one) have weights that their config does not show.
LLAMA_REQUIRED = frozenset(
    {
        "attention_bias", "hidden_size", "intermediate_size", "max_position_embeddings", "mlp_bias",
        "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "vocab_size",
    }
)  # fmt: skip
LLAMA_OPTIONAL = frozenset({"head_dim", "tie_word_embeddings"})
# Upper bound for any one size: a config beyond it is damaged, not large.
MAX_SIZE = 2**31
MAX_LAYERS = 10_000


def quantization_of(config: Any) -> str | None:
    """How a checkpoint's weights are quantized, None where they are not: such weights cannot all be trained.

    MXFP4 (gpt-oss as published) does not count, because the training stack unpacks it.
    """
    if not isinstance(config, Mapping):
        return None
    for key, entry in config.items():
        if not isinstance(entry, Mapping):
            continue
        if key not in ("quantization_config", "compression_config"):
            method = quantization_of(entry)  # of a part, as in text_config
        else:
            method = str(entry.get("quant_method") or "an unnamed method")
        if method not in (None, "mxfp4"):
            return method
    return None


def refuse_quantized(config: Any, name: str) -> None:
    """Raise BadInput where the config is that of a quantized checkpoint."""
    method = quantization_of(config)
    if method is not None:
        raise BadInput(
            f"{name} holds weights quantized by {method}; full fine-tuning needs the model they were made from",
            hint="name the unquantized model, for example without -bnb-4bit in its name",
        )


class ConfigReader:
    """One model's `config.json` with the defaults of its family behind it. `name` appears in every error."""

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any], name: str) -> None:
        self.values = values
        self.defaults = defaults
        self.name = name

    def of_layer(self, index: int) -> ConfigReader:
        """The reader of one layer: transformers 5 saves what single layers have otherwise under `per_layer_config`."""
        every = self.values.get("per_layer_config")
        own = every.get(str(index)) if isinstance(every, Mapping) else None
        return ConfigReader({**self.values, **own}, self.defaults, self.name) if isinstance(own, Mapping) else self

    def get(self, key: str) -> Any:
        """The value of `key`, with a null and an absent key both read as the family's default (or None)."""
        value = self.values.get(key)
        return self.defaults.get(key) if value is None else value

    def integer(self, *keys: str, default: int | None = None, least: int = 1, most: int = MAX_SIZE) -> int:
        """The first of `keys` that is set, as a whole number from `least` to `most`.

        Raises BadInput when none is set and there is no default, or the value is of another kind.
        """
        for key in keys:
            value = self.get(key)
            if value is None:
                continue
            return self.integer_between(key, value, least, most)
        if default is None:
            raise BadInput(
                f"config.json of {self.name} lacks `{'` or `'.join(keys)}`; a whole number was expected",
                hint="use the config.json that was published with the weights",
            )
        return default

    def integer_between(self, key: str, value: Any, least: int = 1, most: int = MAX_SIZE) -> int:
        """`value`, which stands under `key`, as a whole number from `least` to `most`; BadInput for anything else."""
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadInput(
                f"config.json of {self.name}: `{key}` is {value!r}; a whole number from {least} to {most} was expected",
                hint="use the config.json that was published with the weights",
            )
        return value

    def integer_of_layer(self, key: str, index: int) -> int:
        """`key` as a whole number, or the `index`-th of a list of one for each layer."""
        value = self.get(key)
        if not isinstance(value, list):
            return self.integer(key)
        if len(value) != self.layer_count() or isinstance(value[index], bool) or not isinstance(value[index], int):
            raise BadInput(
                f"config.json of {self.name}: `{key}` must be a whole number, or list one for each layer",
                hint="use the config.json that was published with the weights",
            )
        return self.integer_between(key, value[index])

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < MAX_SIZE:
            raise BadInput(
                f"config.json of {self.name}: `{key}` is {value!r}; a positive number was expected",
                hint="use the config.json that was published with the weights",
            )
        return float(value)

    def flag(self, spec: bool | str) -> bool:
        """A fixed answer, or the truth of the key that `spec` names (absent means false)."""
        if isinstance(spec, bool):
            return spec
        value = self.get(spec)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise BadInput(
                f"config.json of {self.name}: `{spec}` is {value!r}; true or false was expected",
                hint="use the config.json that was published with the weights",
            )
        return value

    def layer_count(self) -> int:
        """`num_hidden_layers`, or where the file has a list or pattern of its layers alone, how many that names."""
        listed = self.get("layers_block_type") or self.get("hybrid_override_pattern")
        default = len(listed) if isinstance(listed, (list, str)) and 0 < len(listed) <= MAX_LAYERS else None
        return self.integer("num_hidden_layers", most=MAX_LAYERS, default=default)

    def layer_numbers(self, key: str) -> list[int]:
        """A list of layer numbers, empty when the key is not set."""
        value = self.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise BadInput(
                f"config.json of {self.name}: `{key}` is {value!r}; a list of layer numbers was expected",
                hint="use the config.json that was published with the weights",
            )
        return value

    def strings(self, key: str, length: int) -> list[str] | None:
        """A list of exactly `length` strings, or None when the key is not set."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) != length:
            raise BadInput(
                f"config.json of {self.name}: `{key}` must list one string for each of the {length} layers",
                hint="use the config.json that was published with the weights",
            )
        return value


def text_part(config: Mapping[str, Any], name: str) -> tuple[dict[str, Any], bool]:
    """The part of `config` that describes the text model, and whether it stood inside a multimodal wrapper.

    Whether the head is tied is the wrapper's to say, as transformers 5 reads it (modeling_utils.py, tie_weights); its
    stored dtype holds where the text part has none.
    """
    if not isinstance(config, Mapping):
        raise BadInput(
            f"config.json of {name} is a {type(config).__name__}; a JSON object was expected",
            hint="name a config.json published with a model",
        )
    inner = config.get("text_config")
    if inner is None:
        return dict(config), False
    if not isinstance(inner, Mapping):
        raise BadInput(
            f"config.json of {name}: `text_config` is a {type(inner).__name__}; an object was expected",
            hint="name a config.json published with a model",
        )
    part = dict(inner)
    for key in ("torch_dtype", "dtype"):
        if part.get(key) is None and config.get(key) is not None:
            part[key] = config[key]
    if config.get("tie_word_embeddings") is not None:
        part["tie_word_embeddings"] = config["tie_word_embeddings"]
    part.setdefault("model_type", config.get("model_type"))
    return part, True


def positions(config: Mapping[str, Any], trained: int) -> int:
    """Tokens that the model takes in one row, `trained` being its `max_position_embeddings`.

    RoPE scaling stretches it to factor x original positions, which YaRN's config may say beside the smaller length that
    the model was trained at (https://huggingface.co/docs/transformers, "Utilities for Rotary Embedding").
    """
    longest = trained
    for key in ("rope_scaling", "rope_parameters"):
        entry = config.get(key)
        if not isinstance(entry, Mapping):
            continue
        # One set of parameters, or one for each kind of layer.
        for scaling in (entry, *(part for part in entry.values() if isinstance(part, Mapping))):
            if (scaling.get("rope_type") or scaling.get("type")) not in _STRETCHING:
                continue
            factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings") or trained
            if _is_number(factor) and _is_number(original) and 1 <= factor * original <= MAX_SIZE:
                longest = max(longest, int(factor * original))
    return longest


_STRETCHING = ("yarn", "linear", "dynamic")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def has_exactly_llama_keys(config: Mapping[str, Any]) -> bool:
    """Whether every key is one that Llama's configuration has, and none that it needs is missing."""
    keys = {key for key, value in config.items() if value is not None}
    return keys >= LLAMA_REQUIRED and keys <= LLAMA_REQUIRED | LLAMA_OPTIONAL | GENERIC_KEYS


def stored_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype the weights are stored in ("bfloat16", ...), or None where the file does not say."""
    value = config.get("dtype") or config.get("torch_dtype")
    return str(value).removeprefix("torch.") if value else None
