"""One loader for every command: no code of a model's own, no pickle, nothing missing filled in with random numbers."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

import unsloth_fft
from unsloth_fft.core.errors import BadInput
from unsloth_fft.weights import loading

PACKAGE = Path(unsloth_fft.__file__ or "").parent
UNSAFE = {"load_module", "exec_module", "import_module_from_path"}


def calls() -> list[tuple[str, str, ast.Call]]:
    return [
        (str(path.relative_to(PACKAGE)), node.func.attr, node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]


def test_no_module_but_the_loader_loads_a_model_or_a_tokenizer():
    places = {place for place, name, _ in calls() if name == "from_pretrained"}
    assert places == {"weights/loading.py"}


def test_the_loader_never_trusts_code_and_takes_safetensors_alone():
    found = [call for place, name, call in calls() if name == "from_pretrained" and place == "weights/loading.py"]
    spread = [{ast.unparse(word.value) for word in call.keywords if word.arg is None} for call in found]
    # A tokenizer and a configuration, a model, and Unsloth's own for training.
    expected = [{"SAFELY"}, {"SAFELY"}, {"settings", "WEIGHTS_SAFELY"}, {"arguments"}]
    assert sorted(map(sorted, spread)) == sorted(map(sorted, expected))
    assert loading.WEIGHTS_SAFELY == {"trust_remote_code": False, "use_safetensors": True}


def test_nothing_unpickles_but_plain_tensors():
    found = [(place, call) for place, _, call in calls() if ast.unparse(call.func) in ("torch.load", "pickle.load")]
    for place, call in found:
        assert any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords), place


@pytest.fixture
def model(tmp_path, tiny_model) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_code_beside_a_tokenizer_is_not_run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed(model / "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    (model / "evil.py").write_text("open('RAN','w')\nfrom transformers import PreTrainedTokenizerFast as T\n")
    with pytest.raises(BadInput, match="tokenizer"):
        loading.tokenizer(model)
    assert not (tmp_path / "RAN").exists()


def test_code_beside_a_model_is_not_run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed(
        model / "config.json",
        model_type="evil",
        architectures=["M"],
        auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
    )
    (model / "evil.py").write_text("open('RAN','w')\n")
    with pytest.raises(BadInput, match="custom code|cannot be loaded"):
        loading.model(model)
    assert not (tmp_path / "RAN").exists()


def test_pickle_weights_are_not_opened(model):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="pickle"):
        loading.model(model)


def test_a_tensor_that_is_missing_is_not_made_up(model):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    del weights[name]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=f"lacks: {name}"):
        loading.model(model)


def test_a_shape_that_differs_from_the_configuration_is_refused(model):
    changed(model / "config.json", intermediate_size=96)
    with pytest.raises(BadInput, match="model"):
        loading.model(model)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("config.json", text) for text in ("{", "[]", "null", '{"model_type": 3}', '{"model_type": "llama"}')),
        *(("tokenizer.json", text) for text in ("{", "[]", "{}", '{"model": null}')),
        *(("tokenizer_config.json", text) for text in ("{", "[]", '{"tokenizer_class": 3}')),
        ("generation_config.json", "[]"),
        ("generation_config.json", '{"eos_token_id": "x", "do_sample": {}}'),
    ],
)
def test_a_damaged_file_is_named_or_harmless_and_never_a_traceback(model, name, text):
    (model / name).write_text(text)
    for load in (loading.tokenizer, loading.model):
        try:
            load(model)
        except BadInput as refusal:
            assert refusal.hint and "\n" not in refusal.message


def test_a_weight_that_is_not_finite_is_found(model):
    import torch

    loaded = loading.model(model)
    assert loading.first_not_finite(loaded) is None
    name, weight = next(iter(loaded.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[3] = float("inf")
    assert loading.first_not_finite(loaded) == name
