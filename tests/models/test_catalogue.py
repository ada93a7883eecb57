"""Every published shape counts exactly as Transformers builds it, says where it was read, and is found by name."""

import datetime
import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsloth_fft.core import files, schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.models import catalogue
from unsloth_fft.models.shape import ModelShape

NAMES = catalogue.names()
# What the project promises to know; matched against the ids and aliases of the catalogue.
PROMISED = [
    "Llama-2-7b-hf", "Llama-2-70b-hf", "Llama-3-8B", "Llama-3.1-8B", "Llama-3.2-1B", "Llama-3.3-70B-Instruct",
    "Qwen2.5-0.5B", "Qwen2.5-72B", "Qwen2.5-Coder-7B", "Qwen3-0.6B", "Qwen3-32B", "Qwen3-30B-A3B",
    "Qwen3-235B-A22B", "Qwen3.5-9B", "gemma-2-9b", "gemma-3-270m", "gemma-3-4b-it", "gemma-4-E2B",
    "Mistral-7B-v0.3", "Mistral-Nemo-Base-2407", "Mistral-Small-24B-Base-2501", "Mixtral-8x7B-v0.1",
    "Phi-3.5-mini-instruct", "phi-4", "Phi-4-mini-instruct", "SmolLM2-135M", "SmolLM3-3B", "OLMo-2-1124-7B",
    "Olmo-3-7B-Instruct", "OLMoE-1B-7B", "granite-3.1-8b-instruct", "granite-4.0-1b", "Falcon3-7B-Base",
    "GLM-4-9B-0414", "DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1-Distill-Llama-8B", "gpt-oss-20b",
    "gpt-oss-120b", "Qwen1.5-MoE-A2.7B", "Qwen3-VL-8B-Instruct", "Nemotron-3-Nano-30B-A3B", "Falcon-H1-0.5B-Base",
    "LFM2.5-1.2B-Instruct", "Ministral-3-8B-Base-2512", "Mistral-Small-3.2-24B-Instruct-2506",
    "GLM-4.5-Air", "GLM-4.7-Flash", "ERNIE-4.5-21B-A3B-PT", "Olmo-3-7B", "NVIDIA-Nemotron-Nano-9B-v2",
]  # fmt: skip


def text_config(entry):
    """The entry's text part, with what its wrapper says for it, as keyword arguments for AutoConfig."""
    config = dict(entry.config)
    text = dict(config.pop("text_config", config))
    if "tie_word_embeddings" in config:
        text.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    return text


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_count_is_exactly_that_of_the_model_transformers_builds(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = text_config(catalogue.find_entry(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    shape = catalogue.find(name)
    built = {parameter: tensor.numel() for parameter, tensor in model.named_parameters()}
    assert shape.parameters == sum(built.values())
    assert shape.layers == config.num_hidden_layers
    layer_types = getattr(config, "layer_types", None) or []
    assert not layer_types or shape.sliding_layers == layer_types.count("sliding_attention")
    per_layer = [sum(n for p, n in built.items() if f".layers.{i}." in p) for i in range(shape.layers)]
    assert shape.layer_parameters == max(per_layer)
    assert shape.all_layer_parameters == sum(per_layer)


def test_the_catalogue_matches_its_schema_and_holds_what_was_promised():
    document = json.loads(catalogue.CATALOGUE_FILE.read_text(encoding="utf-8"))
    assert schema.problems(document, "catalogue") == []
    assert len(NAMES) >= 150
    for name in PROMISED:
        assert catalogue.find(name).parameters > 0


def test_the_reference_page_shows_the_catalogue():
    page = files.BUNDLE_ROOT / "references" / "model-catalogue.md"
    assert catalogue.as_table() in page.read_text(encoding="utf-8"), "replace the page's table with as_table()"


def test_the_reference_page_counts_the_catalogue():
    page = (files.BUNDLE_ROOT / "references" / "model-catalogue.md").read_text(encoding="utf-8")
    entries = catalogue.entries()
    families = {catalogue.find(entry.name).model_type for entry in entries}
    names = sum(1 + len(entry.aliases) for entry in entries)
    told = f"{len(entries)} published shapes of {len(families)} families under {names} names"
    assert told in " ".join(page.split())


def test_every_entry_says_where_and_when_it_was_read():
    for entry in catalogue.entries():
        repository = entry.source.removeprefix("Hugging Face ").split(",")[0]
        assert "/" in repository and "," in entry.source, entry.name
        assert "://" not in entry.source
        assert datetime.date.fromisoformat(entry.read) <= datetime.date.today()


def test_no_name_means_two_shapes():
    owners = {}
    for entry in catalogue.entries():
        for name in (entry.name, *entry.aliases):
            for spelling in {name.lower(), name.lower().rsplit("/", 1)[-1]}:
                assert owners.setdefault(spelling, entry.name) == entry.name


@pytest.mark.parametrize(
    "spelling",
    [
        "meta-llama/Llama-3.1-8B",
        "META-LLAMA/llama-3.1-8b",
        "Llama-3.1-8B",
        "llama-3.1-8b-instruct",
        "meta-llama/Meta-Llama-3.1-8B",
        "unsloth/Llama-3.1-8B",
        "unsloth/Llama-3.1-8B-Instruct",
        "unsloth/Meta-Llama-3.1-8B-Instruct",
        " meta-llama/Llama-3.1-8B ",
    ],
)
def test_a_model_is_found_by_any_of_its_names(spelling):
    shape = catalogue.find(spelling)
    assert shape == catalogue.load_shape(spelling) == catalogue.find("meta-llama/Llama-3.1-8B")
    assert shape.parameters == 8_030_261_248


@pytest.mark.parametrize("spelling", ["someone/Llama-3.1-8B", "Llama-3.1-9B", "", "unsloth/", "Llama-3.1-8B-bnb-4bit"])
def test_an_unknown_name_lists_the_three_closest_and_the_way_out(spelling):
    with pytest.raises(BadInput) as caught:
        catalogue.find(spelling)
    listed = caught.value.message.split("closest: ")[1].split(", ")
    assert len(listed) == 3 and set(listed) <= set(NAMES)
    assert "config.json" in caught.value.hint
    if "Llama" in spelling:
        assert "meta-llama/Llama-3.1-8B" in listed


def test_a_local_folder_or_config_file_gives_the_same_shape(tmp_path):
    entry = catalogue.find_entry("Qwen/Qwen3-0.6B")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(entry.config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights are not looked at")
    from_catalogue = catalogue.find("Qwen/Qwen3-0.6B")
    for place in (tmp_path, config):
        local = catalogue.load_shape(str(place))
        assert local.name == str(place)
        assert local.parameters == from_catalogue.parameters
        assert local.blocks == from_catalogue.blocks


def test_a_local_folder_wins_over_a_catalogue_name(tmp_path, monkeypatch):
    folder = tmp_path / "Qwen" / "Qwen3-0.6B"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert catalogue.load_shape("Qwen/Qwen3-0.6B").layers == 28, "an empty folder of that name is no model"
    changed = {**catalogue.find_entry("Qwen/Qwen3-0.6B").config, "num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(changed))
    assert catalogue.load_shape("Qwen/Qwen3-0.6B").layers == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "not valid JSON"), ("[]", "object"), ('{"model_type": "llama"}', "hidden_size"), ("\xff", "UTF-8")],
)
def test_a_broken_local_config_is_explained(tmp_path, content, complaint):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match=complaint) as caught:
        catalogue.load_shape(str(tmp_path))
    assert str(tmp_path) in caught.value.message and caught.value.hint


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_config_gives_a_shape_or_a_clear_error(data):
    entry = data.draw(st.sampled_from(catalogue.entries()))
    config = text_config(entry)
    key = data.draw(st.sampled_from(sorted(config)))
    config[key] = data.draw(JSON_VALUES)
    try:
        shape = ModelShape.from_config(config, "damaged")
    except BadInput as error:
        assert "damaged" in error.message and error.hint
    else:
        assert shape.parameters > 0


@pytest.mark.parametrize("missing", ["./nowhere", "nowhere/config.json", "/no/such/model", "~/no/such", "a/b/c"])
def test_a_path_that_is_not_there_is_called_a_path(missing):
    with pytest.raises(BadInput, match="model path not found"):
        catalogue.load_shape(missing)


def test_a_folder_without_a_config_is_explained(tmp_path):
    with pytest.raises(BadInput, match="holds no config.json"):
        catalogue.load_shape(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "loaded"),
    [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("qwen/qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B"),
        ("unsloth/Llama-3.1-8B", "unsloth/Llama-3.1-8B"),
        ("./runs/first/model", "./runs/first/model"),
    ],
)
def test_a_short_name_becomes_the_one_that_can_be_loaded(given: str, loaded: str) -> None:
    assert catalogue.published_name(given) == loaded


def test_a_folder_of_that_name_stays_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama-3.1-8b").mkdir()
    assert catalogue.published_name("llama-3.1-8b") == "llama-3.1-8b"
