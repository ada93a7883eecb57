"""Elements of what a decoder layer passes each token through by itself: MLP, experts, and what Gemma adds beside them.

Standard library only; sources as in mixers.py.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.errors import BadInput
from .config import ConfigReader
from .mixers import Part, takes_earlier_keys
from .traits import Experts, Family


class Routed(NamedTuple):
    """A layer's routed experts: how many, how wide, elements of one, and what stands around them."""

    experts: int = 0
    per_token: int = 0
    width: int = 0
    each: int = 0
    around: Part = Part()


def is_sparse(reader: ConfigReader, family: Family, index: int) -> bool:
    """Whether layer `index` routes to experts: as `mlp_layer_types` lists, else by the family's rule."""
    experts = family.experts
    if experts is None or (experts.dense_too and not reader.flag("enable_moe_block")):
        return False
    if reader.integer(*experts.count, least=0) == 0:
        return False
    listed = reader.strings("mlp_layer_types", reader.layer_count())
    if listed is not None:
        return listed[index] == "sparse"
    if index < reader.integer(*experts.dense_first, default=0, least=0):
        return False
    last = reader.integer("moe_layer_end_index", default=-1, least=-1)
    return (
        index not in reader.layer_numbers("mlp_only_layers")
        and (index + 1) % reader.integer("decoder_sparse_step", "moe_layer_interval", default=1) == 0
        and (last == -1 or index <= last)
    )


def mlp_width(reader: ConfigReader, family: Family, index: int, sparse: bool) -> int:
    """Width of the MLP that every token passes: a dense layer's own, or a sparse layer's shared experts."""
    experts = family.experts
    if experts and experts.shared_width and (sparse or experts.shared_always):
        return reader.integer(experts.shared_width, default=0, least=0)
    if experts and sparse and experts.shared_units:
        return reader.integer(experts.shared_units, default=0, least=0) * reader.integer(experts.width)
    if experts and sparse and not experts.dense_too:
        return reader.integer("intermediate_size") if experts.shared_always else 0
    if family.adjusted_width:
        return _adjusted(reader, reader.integer("block_ff_dim", "intermediate_size"))
    width = reader.integer_of_layer("intermediate_size", index)
    return width * 2 if reader.flag("use_double_wide_mlp") and takes_earlier_keys(reader, index) else width


def _adjusted(reader: ConfigReader, width: int) -> int:
    """LFM2 takes two thirds of the width it is given, times a factor, up to a multiple (modeling_lfm2.py, Lfm2MLP)."""
    if not reader.flag("block_auto_adjust_ff_dim"):
        return width
    factor = reader.number("block_ffn_dim_multiplier", default=1.0)
    multiple = reader.integer("block_multiple_of", default=256)
    scaled = int(factor * int(2 * width / 3))
    return multiple * ((scaled + multiple - 1) // multiple)


def mlp(reader: ConfigReader, family: Family, hidden: int, width: int) -> Part:
    """The MLP of `width`, with the parameters of its activation where that has any."""
    inner = 2 * width if family.gated_mlp else width
    biases = (inner + hidden) * reader.flag(family.mlp_bias) if width else 0
    return Part(matrices=hidden * (inner + width), biases=biases, other=family.learned_activation)


def routed(reader: ConfigReader, experts: Experts, hidden: int) -> Routed:
    """The routed experts of a sparse layer. Raises BadInput where a token would need more than there are."""
    count = reader.integer(*experts.count)
    per_token = reader.integer(*experts.per_token)
    if per_token > count:
        raise BadInput(
            f"config.json of {reader.name}: {per_token} experts for each token, but there are {count}",
            hint="use the config.json that was published with the weights",
        )
    width = reader.integer(experts.width)
    latent = reader.integer("moe_latent_size", default=0, least=0)
    # Gemma 4 adds three norms around its experts, and scales for the router's input and for each expert.
    beside = experts.dense_too
    around = Part(
        matrices=hidden * count + (hidden if experts.shared_gate else 0) + 2 * hidden * latent,
        biases=count * (experts.router_bias + experts.selection_bias)
        + count * (2 * width + hidden) * experts.expert_bias,
        norms=3 * hidden if beside else 0,
        other=hidden + count if beside else 0,
    )
    return Routed(count, per_token, width, (3 if experts.gated else 2) * (latent or hidden) * width, around)


def per_layer_input(reader: ConfigReader, family: Family, hidden: int) -> Part:
    """Gemma 3n and 4: a gate and a projection that add each layer's own embedding of the token."""
    width = per_layer_input_width(reader, family)
    return Part(matrices=2 * hidden * width, norms=hidden if width else 0)


def per_layer_input_width(reader: ConfigReader, family: Family) -> int:
    """Width of Gemma's per-layer embeddings, 0 where there are none."""
    return reader.integer("hidden_size_per_layer_input", default=0, least=0) if family.per_layer_inputs else 0


def alternating_updates(reader: ConfigReader, family: Family, hidden: int) -> Part:
    """Gemma 3n: several streams predicted and corrected around each layer, and a low-rank residual
    (modeling_gemma3n.py, Gemma3nTextAltUp and Gemma3nTextLaurelBlock)."""
    if not family.alternating_updates:
        return Part()
    streams, rank = reader.integer("altup_num_inputs"), reader.integer("laurel_rank")
    coefficients = streams * streams + streams**3 + streams * hidden
    return Part(matrices=coefficients + 2 * hidden * rank, norms=2 * hidden, other=hidden)


def stream_projections(reader: ConfigReader, family: Family, hidden: int) -> int:
    """Gemma 3n: elements of the matrices that part the embedding into streams and bring them together again."""
    return 2 * (reader.integer("altup_num_inputs") - 1) * hidden * hidden if family.alternating_updates else 0
