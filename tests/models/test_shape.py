"""A model's shape is read from its config.json alone, counts exactly, and refuses what it cannot count."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_configs import MULTIMODAL, OWN_KEYS, SMALL
from unsloth_fft.core.errors import BadInput
from unsloth_fft.models.families import FAMILIES, TEXT_TYPE_OF_WRAPPER
from unsloth_fft.models.shape import ModelShape

LLAMA_31_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
GEMMA4_EXPERTS = {
    "head_dim": 16, "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 6, "top_k_experts": 2,
    "moe_intermediate_size": 24,
}  # fmt: skip
SWITCHES = {
    "as the class defaults": {},
    "every bias, tied": {
        "attention_bias": True, "mlp_bias": True, "use_bias": True, "use_qkv_bias": True, "lm_head_bias": True,
        "tie_word_embeddings": True,
    },
    "no bias, untied": {"attention_bias": False, "tie_word_embeddings": False},
}  # fmt: skip


def counts_in_transformers(raw):
    """(all unique elements, norm weights, bias elements) of the model built on the meta device."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = copy.deepcopy(raw)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    named = list(model.named_parameters())
    norms = sum(p.numel() for name, p in named if "norm" in name and name.endswith("weight"))
    biases = sum(p.numel() for name, p in named if name.endswith("bias"))
    return sum(p.numel() for _, p in named), norms, biases


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_family_counts_as_transformers_builds_it(model_type, switches):
    raw = {**SMALL, **OWN_KEYS.get(model_type, {}), **switches, "model_type": model_type}
    shape = ModelShape.from_config(raw, model_type)
    counted = shape.parameters, shape.norm_parameters, shape.bias_parameters
    assert counted == counts_in_transformers(raw)


def test_gemma4_with_experts_and_values_taken_from_keys_counts_exactly():
    raw = {**SMALL, **GEMMA4_EXPERTS, "model_type": "gemma4_text"}
    assert ModelShape.from_config(raw, "gemma4").parameters == counts_in_transformers(raw)[0]


def test_parts_add_up_to_the_whole():
    shape = ModelShape.from_config(LLAMA_31_8B, "Llama-3.1-8B")
    final_norm = shape.hidden_size
    assert shape.embedding_parameters == shape.head_parameters == 128256 * 4096
    assert shape.layer_parameters * 32 == shape.all_layer_parameters
    assert shape.parameters == shape.all_layer_parameters + 2 * 128256 * 4096 + final_norm
    assert shape.matmul_parameters_per_token == shape.parameters - shape.embedding_parameters - shape.norm_parameters


def test_a_tied_head_is_counted_once_but_still_multiplies():
    tied = ModelShape.from_config({**LLAMA_31_8B, "tie_word_embeddings": True}, "tied")
    untied = ModelShape.from_config(LLAMA_31_8B, "untied")
    assert untied.parameters - tied.parameters == 128256 * 4096
    assert tied.head_parameters == 0
    assert tied.matmul_parameters_per_token == untied.matmul_parameters_per_token


def test_experts_count_in_full_but_only_the_routed_ones_multiply():
    raw = {**SMALL, "model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2}
    six = ModelShape.from_config(raw, "six")
    twelve = ModelShape.from_config({**raw, "num_local_experts": 12}, "twelve")
    router_rows = 4 * 6 * 64
    assert twelve.parameters - six.parameters == 4 * 6 * 3 * 64 * 96 + router_rows
    assert twelve.matmul_parameters_per_token - six.matmul_parameters_per_token == router_rows


def test_sliding_windows_are_read_layer_by_layer():
    gemma3 = ModelShape.from_config({**SMALL, "model_type": "gemma3_text", "num_hidden_layers": 12}, "gemma3")
    assert (gemma3.sliding_layers, gemma3.full_attention_layers, gemma3.sliding_window) == (10, 2, 4096)
    mistral = {**SMALL, "model_type": "mistral"}
    assert ModelShape.from_config({**mistral, "sliding_window": None}, "v0.3").sliding_layers == 0
    assert ModelShape.from_config({**mistral, "sliding_window": 64}, "v0.1").sliding_layers == 4


def test_a_multimodal_wrapper_gives_the_text_model():
    inner = {**SMALL, "model_type": "mistral", "head_dim": 32}
    wrapper = {
        "model_type": "mistral3",
        "text_config": inner,
        "vision_config": {"hidden_size": 7},
        "dtype": "bfloat16",
    }
    shape = ModelShape.from_config(wrapper, "wrapped")
    assert shape.multimodal and shape.weights_dtype == "bfloat16"
    assert shape.parameters == ModelShape.from_config(inner, "plain").parameters


def test_an_unknown_type_with_exactly_llamas_keys_is_taken_as_llama_and_says_so():
    shape = ModelShape.from_config({**LLAMA_31_8B, "model_type": "my_llama"}, "mine")
    assert shape.assumed_llama_like
    assert shape.parameters == ModelShape.from_config(LLAMA_31_8B, "Llama").parameters


@pytest.mark.parametrize("extra", [{"qk_layernorm": True}, {"num_experts": 4}, {"auto_map": {"AutoModel": "x.Y"}}])
def test_an_unknown_type_with_any_other_key_is_refused(extra):
    with pytest.raises(BadInput, match="my_llama"):
        ModelShape.from_config({**LLAMA_31_8B, "model_type": "my_llama", **extra}, "mine")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size", "model_type"])
def test_a_missing_key_is_named_with_the_model(key):
    raw = {name: value for name, value in LLAMA_31_8B.items() if name != key}
    with pytest.raises(BadInput, match=key) as caught:
        ModelShape.from_config(raw, "some/model")
    assert "some/model" in caught.value.message and caught.value.hint


@pytest.mark.parametrize("value", ["4096", 0, -1, 4096.0, True, [], 10**30])
def test_a_value_of_the_wrong_kind_is_named(value):
    with pytest.raises(BadInput, match="hidden_size"):
        ModelShape.from_config({**LLAMA_31_8B, "hidden_size": value}, "some/model")


@pytest.mark.parametrize(
    "broken",
    [
        {"num_key_value_heads": 5},
        {"tie_word_embeddings": "yes"},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["of my own"] * 32},
        {"layer_types": ["mamba"] * 32},
        {"text_config": 3},
    ],
)
def test_contradictions_are_refused(broken):
    with pytest.raises(BadInput):
        ModelShape.from_config({**LLAMA_31_8B, **broken}, "some/model")


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias", "num_key_value_heads"])
def test_an_unknown_type_that_lacks_one_of_llamas_own_keys_is_refused(key):
    raw = {name: value for name, value in LLAMA_31_8B.items() if name != key}
    with pytest.raises(BadInput, match="my_llama"):
        ModelShape.from_config({**raw, "model_type": "my_llama"}, "mine")


def test_an_unknown_type_inside_a_multimodal_wrapper_is_refused():
    with pytest.raises(BadInput, match="my_llama"):
        ModelShape.from_config({"text_config": {**LLAMA_31_8B, "model_type": "my_llama"}}, "mine")


def test_a_multimodal_wrapper_that_was_never_put_back_whole_is_refused_with_the_reason():
    with pytest.raises(BadInput, match="timm"):
        ModelShape.from_config({"model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text"}}, "mine")


def test_every_multimodal_wrapper_with_a_type_of_its_own_is_tried_whole():
    assert set(TEXT_TYPE_OF_WRAPPER) - set(FAMILIES) - {"qwen3_vl_text"} <= set(MULTIMODAL)


def test_weights_that_cannot_be_counted_are_refused_rather_than_guessed():
    with pytest.raises(BadInput, match="qk_layernorm"):
        ModelShape.from_config({**SMALL, "model_type": "phi", "qk_layernorm": True}, "phi")


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_gives_a_shape_or_a_clear_error(value):
    with pytest.raises(BadInput):
        ModelShape.from_config(value, "anything")


@st.composite
def small_configs(draw):
    kv_heads = draw(st.integers(1, 4))
    return {
        "model_type": draw(st.sampled_from(sorted(FAMILIES))),
        "hidden_size": draw(st.integers(1, 64)) * 8,
        "intermediate_size": draw(st.integers(1, 512)),
        "num_hidden_layers": draw(st.integers(2, 12)),
        "num_attention_heads": kv_heads * draw(st.integers(1, 4)),
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.integers(1, 32)) * 2,
        "vocab_size": draw(st.integers(1, 3000)),
        "max_position_embeddings": 128,
    }


@settings(max_examples=200, deadline=None)
@given(config=small_configs())
def test_counts_behave(config):
    own = {**OWN_KEYS.get(config["model_type"], {}), **config}
    for key in ("layer_types", "layers_block_type"):
        own.pop(key, None)
    shape = ModelShape.from_config(own, "drawn")
    deeper = ModelShape.from_config({**own, "num_hidden_layers": own["num_hidden_layers"] + 1}, "deeper")
    assert 0 < shape.layer_parameters <= shape.all_layer_parameters < shape.parameters < deeper.parameters
    assert shape.matmul_parameters_per_token <= shape.parameters
    assert sum(block.count for block in shape.blocks) == shape.layers
    assert ModelShape.from_config(json.loads(json.dumps(own)), "drawn") == shape
