"""The shape of a model, from its `config.json` alone: sizes, and exact element counts.

Standard library only. The counts are those of the model that `AutoModelForCausalLM.from_config` builds from the
text part of the config (tests/models/test_catalogue.py holds every published shape exactly equal to it). For a
multimodal wrapper (Gemma 3 and 4, Mistral Small 3.1, Qwen3.5) that is the language model alone: the vision and
audio towers are not counted, and `multimodal` is true so that a caller can say so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import BadInput
from .blocks import Block, blocks_of, norm_part
from .config import ConfigReader, has_exactly_llama_keys, positions, refuse_quantized, stored_dtype, text_part
from .families import FAMILIES, LLAMA, TEXT_TYPE_OF_WRAPPER, UNTRIED_WRAPPERS
from .feed_forward import per_layer_input_width, stream_projections
from .traits import Family, LayerKind


@dataclass(frozen=True)
class ModelShape:
    """Shape facts of one text model. Sizes are in elements, positions and windows in tokens.

    `heads`, `kv_heads`, `head_dim` and `intermediate_size` are the config's own; layers that differ from each
    other (sliding windows, recurrent mixers, dense layers before sparse ones, Gemma 4's wider heads) are told
    apart in `blocks`. `weights_dtype` is the stored dtype, None where the file does not say.
    `assumed_llama_like` is true for an unknown `model_type` whose config has exactly Llama's keys.
    """

    name: str
    model_type: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    max_positions: int
    weights_dtype: str | None
    blocks: tuple[Block, ...]
    sliding_window: int | None
    embedding_parameters: int
    norm_parameters: int
    bias_parameters: int
    other_parameters: int
    per_layer_projection: int
    head_bias: bool
    multimodal: bool
    assumed_llama_like: bool

    @staticmethod
    def from_config(config: Mapping[str, Any], name: str) -> ModelShape:
        """The shape that `config` (a parsed config.json) describes; `name` is what errors call it.

        Raises BadInput for an unknown `model_type`, a missing or malformed key, or a feature that cannot be
        counted exactly.
        """
        refuse_quantized(config, name)
        values, multimodal = text_part(config, name)
        _refuse_untried(config.get("model_type"), name)
        family, model_type, assumed = _family_of(values, name, may_assume=not multimodal)
        reader = ConfigReader(values, family.defaults, name)
        _refuse_uncounted(reader, family)
        hidden, vocab = reader.integer("hidden_size"), reader.integer("vocab_size")
        blocks = blocks_of(reader, family)
        layers, heads = reader.layer_count(), reader.integer("num_attention_heads")
        tied = _tied(reader, family)
        head_bias = reader.flag(family.head_bias)
        final_norm = norm_part(family, hidden)
        inputs = layers * per_layer_input_width(reader, family)
        slides = any(block.kind is LayerKind.SLIDING for block in blocks)
        return ModelShape(
            name=name,
            model_type=model_type,
            hidden_size=hidden,
            intermediate_size=_widest(reader, blocks),
            layers=layers,
            heads=heads,
            kv_heads=reader.integer("num_key_value_heads", default=heads),
            head_dim=reader.integer("head_dim", default=hidden // heads),
            vocab_size=vocab,
            tied_embeddings=tied,
            max_positions=positions(values, reader.integer("max_position_embeddings")),
            weights_dtype=stored_dtype(values),
            blocks=blocks,
            sliding_window=reader.integer(family.window) if slides else None,
            embedding_parameters=vocab * hidden
            + (reader.integer("vocab_size_per_layer_input") * inputs if inputs else 0),
            norm_parameters=final_norm.norms
            + per_layer_input_width(reader, family)
            + sum(block.norms * block.count for block in blocks),
            bias_parameters=final_norm.biases
            + (vocab if head_bias else 0)
            + sum(block.biases * block.count for block in blocks),
            other_parameters=sum(block.other * block.count for block in blocks),
            per_layer_projection=hidden * inputs + stream_projections(reader, family, hidden),
            head_bias=head_bias,
            multimodal=multimodal,
            assumed_llama_like=assumed,
        )

    def __hash__(self) -> int:
        """What a search looks up for every setting: a hash of all fields would cost more than the answer."""
        return hash((self.name, self.layers, self.hidden_size, self.vocab_size))

    @functools.cached_property
    def parameters(self) -> int:
        """Unique elements of the whole model; a tied head is counted once, in the embedding."""
        matrices = sum(
            (block.mixer_matrices + block.mlp_matrices + block.expert_matrices * block.experts) * block.count
            for block in self.blocks
        )
        vectors = self.norm_parameters + self.bias_parameters + self.other_parameters
        return self.embedding_parameters + self.head_parameters + self.per_layer_projection + matrices + vectors

    @property
    def head_parameters(self) -> int:
        """Elements of the output head's own matrix: 0 where it is the embedding itself."""
        return 0 if self.tied_embeddings else self.vocab_size * self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Elements of one decoder layer: the largest where layers differ."""
        return max(block.parameters for block in self.blocks)

    @functools.cached_property
    def all_layer_parameters(self) -> int:
        """Elements of all decoder layers together."""
        return sum(block.parameters * block.count for block in self.blocks)

    @functools.cached_property
    def matmul_parameters_per_token(self) -> int:
        """Matrix elements that one token meets: all layers with its routed experts only, and the output head.

        The embedding look-up is no product and is left out, so twice this is the forward pass's floating-point
        operations a token before attention scores.
        """
        layers = sum(block.matmul_per_token * block.count for block in self.blocks)
        return layers + self.per_layer_projection + self.vocab_size * self.hidden_size

    @property
    def experts(self) -> int:
        """Routed experts in a sparse layer, 0 for a dense model."""
        return max(block.experts for block in self.blocks)

    @property
    def experts_per_token(self) -> int:
        """Routed experts that one token passes in a sparse layer, 0 for a dense model."""
        return max(block.experts_per_token for block in self.blocks)

    @property
    def moe_intermediate_size(self) -> int:
        """Width of one routed expert, 0 for a dense model."""
        return max(block.expert_width for block in self.blocks)

    @property
    def sliding_layers(self) -> int:
        """Layers whose attention sees only the last `sliding_window` tokens."""
        return sum(block.count for block in self.blocks if block.kind is LayerKind.SLIDING)

    @property
    def full_attention_layers(self) -> int:
        """Layers whose attention sees every earlier token."""
        return sum(block.count for block in self.blocks if block.kind is LayerKind.FULL)


def _family_of(values: Mapping[str, Any], name: str, *, may_assume: bool) -> tuple[Family, str, bool]:
    """Traits, model type, and whether they were assumed because the keys are exactly Llama's."""
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise BadInput(
            f'config.json of {name} lacks `model_type`; a string such as "llama" was expected',
            hint="use the config.json that was published with the weights",
        )
    model_type = TEXT_TYPE_OF_WRAPPER.get(model_type, model_type)
    if model_type in FAMILIES:
        return FAMILIES[model_type], model_type, False
    if may_assume and has_exactly_llama_keys(values):
        return LLAMA, model_type, True
    raise BadInput(
        f'config.json of {name}: model_type "{model_type}" is not one whose layers can be counted here',
        hint=f"known types: {', '.join(sorted(FAMILIES))}",
    )


def _refuse_untried(model_type: object, name: str) -> None:
    reason = UNTRIED_WRAPPERS.get(model_type) if isinstance(model_type, str) else None
    if reason is not None:
        raise BadInput(
            f"config.json of {name}: a multimodal {model_type} was never trained and put back whole: {reason}",
            hint="save its language model alone and train that, or choose another model",
        )


def _tied(reader: ConfigReader, family: Family) -> bool:
    """Whether the output head is the embedding; LFM2 files spell the key without `word`."""
    keys = ("tie_embedding", "tie_word_embeddings")
    stated = next((key for key in keys if reader.get(key) is not None), None)
    return family.ties and (family.tied if stated is None else reader.flag(stated))


def _widest(reader: ConfigReader, blocks: tuple[Block, ...]) -> int:
    widest = max(block.mlp_width for block in blocks)
    listed = isinstance(reader.get("intermediate_size"), list)
    return widest if listed else reader.integer("intermediate_size", default=widest)


def _refuse_uncounted(reader: ConfigReader, family: Family) -> None:
    for key in family.refuses:
        if reader.flag(key):
            raise BadInput(
                f"config.json of {reader.name}: `{key}` is true, and its weights cannot be counted exactly here",
                hint="choose a model from the catalogue, or a config without it",
            )
