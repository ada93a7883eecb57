"""Malformed parameters, models, checkpoints and sessions: two clear lines, the documented exit code, an unchanged disk.

Malformed data rows are in test_malformed_data.py. Cases marked "fuzzed" were first found by the random tests below.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import conversation_rows, minimal_parameters, write_jsonl
from unsloth_fft.commands import tool
from unsloth_fft.training import checkpoints, manifest, session, starting


def snapshot(folder: Path) -> dict[str, bytes | str | None]:
    entries = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else None)
        for path in entries
    }


def run(capsys, *arguments: object) -> tuple[int, str]:
    """Exit code and stderr of a command, run here."""
    capsys.readouterr()
    code = tool.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def assert_refused(capsys, folder: Path, code: int, word: str, *arguments: object) -> None:
    before = snapshot(folder)
    ended, said = run(capsys, *arguments)
    assert ended == code, said
    assert [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"], said
    assert word in said and len(said) < 3000, said
    assert snapshot(folder) == before


def tensor_file(header: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    """A safetensors file with this header, whatever it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A model folder and data that init accepts, and a session of them."""
    folder = tmp_path_factory.mktemp("originals")
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(tensor_file({"w": TENSOR}))
    (model / "tokenizer.json").write_text("{}")
    write_jsonl(folder / "rows.jsonl", conversation_rows(5))
    return folder


@pytest.fixture
def place(tmp_path, originals) -> Path:
    """A copy of the originals."""
    return shutil.copytree(originals, tmp_path / "place")


def valid(place: Path) -> dict[str, Any]:
    return minimal_parameters(place / "model", place / "rows.jsonl")


def init(capsys, place: Path, text: str | bytes) -> tuple[int, str]:
    (place / "p.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return run(capsys, "init", "--params", place / "p.json", "--session", place / "s")


def assert_init_refuses(capsys, place: Path, text: str | bytes, word: str, code: int = 2) -> None:
    (place / "p.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    assert_refused(capsys, place, code, word, "init", "--params", place / "p.json", "--session", place / "s")


# --- parameters ---

PARAMETER_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not valid JSON"),
    "blank": (b" \n\n", "not valid JSON"),
    "not JSON": (b"model: llama", "line 1"),
    "cut short": (b'{"schema_version": "1.0", "model": {', "not valid JSON"),
    "single quotes": (b"{'schema_version': '1.0'}", "line 1"),
    "a comment": (b'{\n// mine\n"schema_version": "1.0"}', "line 2"),
    "a trailing comma": (b'{"schema_version": "1.0",}', "not valid JSON"),
    "two objects": (b"{}{}", "Extra data"),
    "an array": (b"[]", "not of type 'object'"),
    "a string": (b'"params"', "not of type 'object'"),
    "a number": (b"1", "not of type 'object'"),
    "null": (b"null", "not of type 'object'"),
    "an empty object": (b"{}", "required property"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "Latin-1": (b'{"a": "caf\xe9"}', "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not valid JSON"),
    "a pickle": (b"\x80\x04\x95\x0b\0\0\0", "not UTF-8"),
    "NUL bytes": (bytes(20), "not valid JSON"),
    "nested too deeply": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "a number of 6,000 digits": (b'{"schema_version": ' + b"9" * 6000 + b"}", "not valid JSON"),
    "a huge value, quoted briefly": (b'{"schema_version": "' + b"x" * 100_000 + b'"}', "does not match"),
    "a key twice": (b'{"schema_version": "1.0", "schema_version": "1.0"}', "given twice"),
    "a lone surrogate": (b'{"schema_version": "\\ud800"}', "does not match"),
}


@pytest.mark.parametrize("case", list(PARAMETER_FILES))
def test_malformed_parameter_files(place, capsys, case):
    text, word = PARAMETER_FILES[case]
    assert_init_refuses(capsys, place, text, word)


def test_parameter_files_that_cannot_be_opened(place, capsys):
    for path, word in ((place / "none.json", "not found"), (place / "model", "is a folder"), (Path("\0"), "read")):
        assert_refused(capsys, place, 2, word, "init", "--params", path, "--session", place / "s")


Spoil = Callable[[dict[str, Any]], object]


def put(section: str, **values: object) -> Spoil:
    return lambda value: value[section].update(values)


def whole(**values: object) -> Spoil:
    return lambda value: value.update(values)


PARAMETERS: dict[str, tuple[Spoil, str]] = {
    "an unknown section": (whole(modle={}), "did you mean 'model'"),
    "a section that is a list": (whole(model=[]), "model"),
    "a section that is null": (whole(optimizer=None), "optimizer"),
    "no section at all": (lambda value: value.pop("batch"), "batch"),
    "another version": (whole(schema_version="2.0"), "schema_version"),
    "a version that is a number": (whole(schema_version=1.0), "schema_version"),
    "a model without name": (lambda value: value["model"].pop("name"), "name"),
    "an empty model name": (put("model", name=""), "name"),
    "a model name that is a number": (put("model", name=7), "name"),
    "a model name with a NUL": (put("model", name="a\0b/c"), "holds \\x00"),
    "a model name with a line break": (put("model", name="own\ner/model"), "holds \\n"),
    "a model name too long for a path": (put("model", name="m" * 5000), "not found"),
    "a Hub name of three parts": (put("model", name="a/b/c"), "not found"),
    "a Hub name that climbs": (put("model", name="owner/.."), "not found"),
    "a Hub name with spaces": (put("model", name="my model/x y"), "not found"),
    "a home of nobody": (put("model", name="~nobody-of-this-name/model"), "not found"),
    "a URL": (put("model", name="https://example.org/model"), "not found"),
    "code trusted by a string": (put("model", trust_remote_code="yes"), "trust_remote_code"),
    "code trusted by a number": (put("model", trust_remote_code=1), "trust_remote_code"),
    "a length of zero": (put("model", max_seq_length=0), "max_seq_length"),
    "a length below zero": (put("model", max_seq_length=-5), "max_seq_length"),
    "a length and a half": (put("model", max_seq_length=128.5), "max_seq_length"),
    "a length that is true": (put("model", max_seq_length=True), "max_seq_length"),
    "a length beyond reason": (put("model", max_seq_length=10**12), "max_seq_length"),
    "a length as text": (put("model", max_seq_length="128"), "max_seq_length"),
    "data that is a list": (put("data", dataset=["a.jsonl"]), "dataset"),
    "data that is nowhere": (put("data", dataset="nowhere.jsonl"), "not found"),
    "data with a NUL": (put("data", dataset="a\0.jsonl"), "holds \\x00"),
    "data with a name too long": (put("data", dataset="d" * 5000), "cannot be opened"),
    "an unknown format": (put("data", format="xml"), "format"),
    "an unknown objective": (put("data", objective="rl"), "objective"),
    "more held out than there is": (put("data", eval_fraction=1.5), "eval_fraction"),
    "a fraction that is NaN": (put("data", eval_fraction=float("nan")), "NaN is no JSON number"),
    "packing by a string": (put("data", packing="false"), "packing"),
    "a seed below zero": (put("data", seed=-1), "seed"),
    "a seed too large": (put("data", seed=2**40), "seed"),
    "sources and a data set": (put("data", sources=[{"dataset": "a.jsonl"}]), "not both"),
    "a source without data set": (put("data", dataset=None, sources=[{"weight": 1}]), "dataset"),
    "a weight below zero": (put("data", dataset=None, sources=[{"dataset": "a", "weight": -1}]), "weight"),
    "a rate of zero": (put("optimizer", learning_rate=0), "learning_rate"),
    "a rate below zero": (put("optimizer", learning_rate=-1e-5), "learning_rate"),
    "a rate as text": (put("optimizer", learning_rate="1e-5"), "learning_rate"),
    "a rate that is NaN": (put("optimizer", learning_rate=float("nan")), "NaN is no JSON number"),
    "a rate that is infinite": (put("optimizer", learning_rate=float("inf")), "Infinity is no JSON number"),
    "a beta of one": (put("optimizer", adam_beta1=1.0), "adam_beta1"),
    "an epsilon of zero": (put("optimizer", adam_epsilon=0), "adam_epsilon"),
    "a decay below zero": (put("optimizer", weight_decay=-0.1), "weight_decay"),
    "an optimizer of another family": (put("optimizer", name="sgd"), "sgd"),
    "arguments that are a string": (put("optimizer", args="quantize=True"), "args"),
    "an argument nobody knows": (put("optimizer", args={"fast": True}), "args"),
    "weights in 4 bits": (put("precision", weights="int4"), "int4"),
    "a master that is not kept": (put("precision", master="none"), "master"),
    "a promise that cannot be kept": (put("precision", weights="bfloat16", master="none"), "cannot be kept"),
    "a checkpointing that is a boolean": (put("memory", gradient_checkpointing=True), "gradient_checkpointing"),
    "a micro-batch of zero": (put("batch", per_device_train_batch_size=0), "per_device_train_batch_size"),
    "a batch that does not multiply": (put("batch", effective_batch_size=7), "effective_batch_size"),
    "no GPUs": (put("distributed", gpus=0), "gpus"),
    "a strategy from elsewhere": (put("distributed", strategy="ddp"), "strategy"),
    "steps of zero": (put("schedule", max_steps=0), "max_steps"),
    "steps beyond counting": (put("schedule", max_steps=10**30), "too large"),
    "steps and epochs": (put("schedule", num_train_epochs=1), "exactly one"),
    "epochs of zero": (put("schedule", max_steps=None, num_train_epochs=0), "num_train_epochs"),
    "a warm-up of five and a half": (put("schedule", warmup_steps=5.5), "whole steps"),
    "a warm-up below zero": (put("schedule", warmup_steps=-1), "warmup_steps"),
    "saves of zero": (put("schedule", save_steps=0), "save_steps"),
    "no checkpoint kept": (put("schedule", save_total_limit=0), "save_total_limit"),
    "a tracker nobody knows": (put("schedule", report_to="neptune"), "neptune"),
    "all trackers": (put("schedule", report_to="all"), "all"),
    "patience without evaluations": (put("schedule", early_stopping_patience=2), "eval_steps"),
    "patience of zero": (put("schedule", early_stopping_patience=0, eval_steps=1), "early_stopping_patience"),
    "a threshold below zero": (put("schedule", early_stopping_threshold=-1), "early_stopping_threshold"),
    "the best of nothing": (put("schedule", load_best_model_at_end=True), "eval_steps"),
    "the best of what is not saved": (
        put("schedule", load_best_model_at_end=True, eval_steps=2),
        "multiple of eval_steps",
    ),
    "saves between evaluations": (
        put("schedule", load_best_model_at_end=True, eval_steps=2, save_steps=3),
        "multiple of eval_steps",
    ),
    "another metric": (put("schedule", metric_for_best_model="eval_accuracy"), "eval_accuracy"),
    "a plan that is empty": (whole(plan={}), "plan"),
    "a plan that is text": (whole(plan="fast"), "plan"),
}


@pytest.mark.parametrize("case", list(PARAMETERS))
def test_malformed_parameters(place, capsys, case):
    spoil, word = PARAMETERS[case]
    value = valid(place)
    spoil(value)
    assert_init_refuses(capsys, place, json.dumps(value), word)


def test_best_of_nothing_held_out(place, capsys):
    value = valid(place)
    value["data"]["eval_fraction"] = 0
    value["schedule"].update(eval_steps=2, early_stopping_patience=2)
    assert_init_refuses(capsys, place, json.dumps(value), "eval_fraction")


def test_a_number_too_large_for_a_float(place, capsys):
    text = json.dumps(valid(place)).replace("0.002", "1e999")
    assert_init_refuses(capsys, place, text, "too large")


def test_a_tracker_that_is_not_installed_is_named_with_its_command(place, capsys, monkeypatch):
    import importlib.util

    from unsloth_fft.core import installing

    monkeypatch.setattr(installing, "can_fetch", lambda: True)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *package: None if name == "tensorboard" else real(name, *package)
    )
    value = valid(place)
    value["schedule"]["report_to"] = "tensorboard"
    assert_init_refuses(capsys, place, json.dumps(value), "pip install tensorboard", code=4)


SESSIONS: dict[str, str] = {
    "a folder that is taken": "model",
    "a file": "rows.jsonl",
    "under a file": "rows.jsonl/s",
    "a name too long": "n" * 300,
    "deep under a name too long": "a/b/" + "n" * 300,
    "its own parent": "..",
    "here": ".",
}


@pytest.mark.parametrize("case", list(SESSIONS))
def test_places_where_no_session_can_be(place, capsys, case):
    (place / "p.json").write_text(json.dumps(valid(place)))
    assert_refused(capsys, place, 2, "error", "init", "--params", place / "p.json", "--session", place / SESSIONS[case])


def test_a_whole_number_written_as_a_float_is_one(place, capsys):
    value = valid(place)
    value["schedule"]["max_steps"] = 6.0
    code, said = init(capsys, place, json.dumps(value))
    assert code == 0, said
    written = json.loads((place / "s" / "params.json").read_text())["schedule"]["max_steps"]
    assert written == 6 and isinstance(written, int)


# --- models: configuration, weights, tokenizer ---

MODELS: dict[str, tuple[str, bytes | None, str]] = {
    "no config": ("config.json", None, "not found"),
    "an empty config": ("config.json", b"", "not valid JSON"),
    "a config cut short": ("config.json", b'{"model_type": "ll', "not valid JSON"),
    "a config that is a list": ("config.json", b"[]", "no model_type"),
    "a config that is null": ("config.json", b"null", "no model_type"),
    "a config without type": ("config.json", b"{}", "no model_type"),
    "a type that is a number": ("config.json", b'{"model_type": 3}', "no model_type"),
    "a type that is empty": ("config.json", b'{"model_type": ""}', "no model_type"),
    "a config that is not UTF-8": ("config.json", b"\xff\xfe", "not UTF-8"),
    "a config with NaN": ("config.json", b'{"model_type": "llama", "rope_theta": NaN}', "NaN"),
    "a config nested too deeply": ("config.json", b'{"a":' * 50_000, "not valid JSON"),
    "a kernel from the Hub": (
        "config.json",
        b'{"model_type": "llama", "attn_implementation": "someone/kernel"}',
        "code from elsewhere",
    ),
    "a kernel from the Hub, under another name": (
        "config.json",
        b'{"model_type": "llama", "text_config": {"_attn_implementation": {"": "someone/kernel:fn"}}}',
        "code from elsewhere",
    ),
    "no weights": ("model.safetensors", None, "no *.safetensors weights"),
    "empty weights": ("model.safetensors", b"", "truncated"),
    "weights cut in the header": ("model.safetensors", tensor_file({"w": TENSOR})[:20], "truncated"),
    "weights cut in the data": ("model.safetensors", tensor_file({"w": TENSOR}, bytes(4)), "truncated"),
    "weights with bytes left over": ("model.safetensors", tensor_file({"w": TENSOR}, bytes(12)), "longer"),
    "weights of no tensors": ("model.safetensors", tensor_file({}, b""), "no tensors"),
    "a header of 2**60 bytes": ("model.safetensors", tensor_file({}, length=2**60), "not a safetensors file"),
    "a header that is no JSON": ("model.safetensors", tensor_file(b"nothing!"), "malformed"),
    "a header that is a list": ("model.safetensors", tensor_file([]), "malformed"),
    "a tensor without type": ("model.safetensors", tensor_file({"w": {"shape": [2]}}), "no proper dtype"),
    "a tensor of an unknown type": ("model.safetensors", tensor_file({"w": {**TENSOR, "dtype": "F7"}}), "unknown type"),
    "a type that is a list, fuzzed": ("model.safetensors", tensor_file({"w": {**TENSOR, "dtype": []}}), "unknown type"),
    "a tensor below zero": ("model.safetensors", tensor_file({"w": {**TENSOR, "shape": [-2]}}), "no proper dtype"),
    "a tensor larger than the file": (
        "model.safetensors",
        tensor_file({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        "truncated",
    ),
    "tensors on top of each other": ("model.safetensors", tensor_file({"a": TENSOR, "b": TENSOR}), "overlaps"),
    "a pickle by the name of safetensors": ("model.safetensors", b"\x80\x04\x95" + bytes(40), "pickle"),
    "a zip by the name of safetensors": ("model.safetensors", b"PK\x03\x04\0\0\x08\x08" + bytes(8), "pickle"),
    "an index that is a list": ("model.safetensors.index.json", b"[]", "weight_map"),
    "an index without map": ("model.safetensors.index.json", b"{}", "weight_map"),
    "an index of numbers": ("model.safetensors.index.json", b'{"weight_map": {"w": 1}}', "weight_map"),
    "an index of a missing shard": (
        "model.safetensors.index.json",
        b'{"weight_map": {"w": "model-00001-of-00002.safetensors"}}',
        "missing",
    ),
    "an index that promises too much": (
        "model.safetensors.index.json",
        b'{"weight_map": {"w": "one.safetensors", "v": "one.safetensors"}}',
        "lacks tensor",
    ),
    "an index that climbs": (
        "model.safetensors.index.json",
        b'{"weight_map": {"w": "../model/model.safetensors"}}',
        "names a file outside its folder",
    ),
    "an index that names a path": (
        "model.safetensors.index.json",
        b'{"weight_map": {"w": "/etc/hostname"}}',
        "names a file outside its folder",
    ),
    "an index of nothing": ("model.safetensors.index.json", b'{"weight_map": {}}', "no tensors"),
    "an index cut short": ("model.safetensors.index.json", b'{"weight_map": {"w"', "not valid JSON"),
    "no tokenizer": ("tokenizer.json", None, "no tokenizer"),
    "an empty tokenizer": ("tokenizer.json", b"", "not valid JSON"),
    "a tokenizer cut short": ("tokenizer.json", b'{"version": "1.0", "model": {', "not valid JSON"),
    "a tokenizer that is a list": ("tokenizer.json", b"[]", "no JSON object"),
    "a tokenizer that is not UTF-8": ("tokenizer.json", b"\x00\xff", "not UTF-8"),
    "a tokenizer's settings that are text": ("tokenizer_config.json", b'"fast"', "no JSON object"),
    "a tokenizer's settings cut short": ("tokenizer_config.json", b'{"eos_token":', "not valid JSON"),
    "special tokens that are a list": ("special_tokens_map.json", b"[]", "no JSON object"),
    "generation settings that are a number": ("generation_config.json", b"4", "no JSON object"),
    "a template that is not UTF-8": ("chat_template.jinja", b"\xff\xfe{{", "not UTF-8"),
}


def spoil_file(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("case", list(MODELS))
def test_malformed_models(place, capsys, case):
    name, content, word = MODELS[case]
    if name.endswith(".index.json"):  # it is not read where the whole is in one file
        (place / "model" / "model.safetensors").rename(place / "model" / "one.safetensors")
    spoil_file(place / "model" / name, content)
    assert_init_refuses(capsys, place, json.dumps(valid(place)), word)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_where_a_file_should_be(place, capsys, name):
    (place / "model" / name).unlink()
    (place / "model" / name).mkdir()
    assert_init_refuses(capsys, place, json.dumps(valid(place)), "error")


# --- sessions ---


@pytest.fixture(scope="module")
def session_original(originals, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    (folder / "p.json").write_text(json.dumps(valid(originals)))
    assert tool.main(["init", "--params", str(folder / "p.json"), "--session", str(folder / "s")]) == 0
    line = {
        "kind": "train", "step": 1, "epoch": 0.1, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 1e-5, "tokens": 9,
        "tokens_per_second": 1.0, "peak_gib": 0.5, "time": "2026-11-23T00:00:00+00:00",
    }  # fmt: skip
    (folder / "s" / "metrics.jsonl").write_text("".join(json.dumps({**line, "step": n}) + "\n" for n in (1, 2, 3)))
    return folder / "s"


@pytest.fixture
def made(tmp_path, session_original) -> Path:
    return shutil.copytree(session_original, tmp_path / "s")


def state_with(**values: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **values}).encode()


def state_without(key: str) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({k: v for k, v in json.loads(content).items() if k != key}).encode()


def second_line(text: str) -> Callable[[bytes], bytes]:
    def spoil(content: bytes) -> bytes:
        lines = content.decode().splitlines()
        return "\n".join([lines[0], text, lines[2], ""]).encode()

    return spoil


def second_with(**values: object) -> Callable[[bytes], bytes]:
    return lambda content: second_line(json.dumps({**json.loads(content.splitlines()[1]), **values}))(content)


SESSION_FILES: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "no state": ("session.json", lambda content: None, "not a session"),
    "an empty state": ("session.json", lambda content: b"", "not valid JSON"),
    "a state cut short": ("session.json", lambda content: content[:-30], "not valid JSON"),
    "a state that is a list": ("session.json", lambda content: b"[]", "session state"),
    "a state that is not UTF-8": ("session.json", lambda content: b"\xff" + content, "not UTF-8"),
    "a state nobody knows": ("session.json", state_with(state="paused"), "paused"),
    "a state without step": ("session.json", state_without("step"), "step"),
    "a step below zero": ("session.json", state_with(step=-1), "step"),
    "a step that is text": ("session.json", state_with(step="3"), "step"),
    "a step that is NaN": ("session.json", state_with(step=float("nan")), "NaN"),
    "a process that is a number": ("session.json", state_with(process=77), "process"),
    "a process without host": ("session.json", state_with(process={"pid": 3}), "host"),
    "a result that is text": ("session.json", state_with(result="good"), "result"),
    "an error that is text": ("session.json", state_with(error="bad"), "error"),
    "a digest that is none": ("session.json", state_with(params_sha256="abc"), "params_sha256"),
    "another digest": ("session.json", state_with(params_sha256="0" * 64), "changed after init"),
    "data that is null": ("session.json", state_with(data=None), "data"),
    "a key nobody knows": ("session.json", state_with(secret=1), "secret"),
    "another version of the state": ("session.json", state_with(schema_version="0.1"), "schema_version"),
    "no parameters": ("params.json", lambda content: None, "not found"),
    "parameters cut short": ("params.json", lambda content: content[:50], "not valid JSON"),
    "parameters with a space more": ("params.json", lambda content: content + b" ", "changed after init"),
    "metrics that are not UTF-8": ("metrics.jsonl", lambda content: b"\xff" + content, "not UTF-8"),
    "a metrics line cut short": ("metrics.jsonl", second_line('{"kind": "tra'), "line 2"),
    "a metrics line that is a list": ("metrics.jsonl", second_line("[]"), "line 2"),
    "a metrics line that is blank": ("metrics.jsonl", second_line(""), "line 2"),
    "a metrics line of NaN": ("metrics.jsonl", second_with(loss=float("nan")), "line 2"),
    "a metrics line of text": ("metrics.jsonl", second_with(loss="low"), "line 2"),
    "a metrics line of another kind": ("metrics.jsonl", second_with(kind="test"), "line 2"),
    "a metrics line with a key more": ("metrics.jsonl", second_with(mood="good"), "line 2"),
    "a metrics line at no time": ("metrics.jsonl", second_with(time="yesterday"), "line 2"),
    "a metrics line in no zone": ("metrics.jsonl", second_with(time="2026-11-23T00:00:00"), "line 2"),
    "a metrics line before the start": ("metrics.jsonl", second_with(step=-1), "line 2"),
    "a metrics line of a true step": ("metrics.jsonl", second_with(step=True), "line 2"),
}


@pytest.mark.parametrize("case", list(SESSION_FILES))
def test_malformed_sessions(made, capsys, case):
    name, spoil, word = SESSION_FILES[case]
    spoil_file(made / name, spoil((made / name).read_bytes()))
    assert_refused(capsys, made.parent, 2, word, "status", made)


def test_a_last_metrics_line_cut_short_by_a_kill_is_no_fault(made, capsys):
    with (made / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    code, said = run(capsys, "status", made)
    assert code == 0, said


NO_SESSIONS = {"a file": "rows.jsonl", "another folder": "model", "nowhere": "none", "a name too long": "n" * 300}


@pytest.mark.parametrize("command", ["status", "train"])
@pytest.mark.parametrize("case", list(NO_SESSIONS))
def test_what_is_no_session(place, capsys, case, command):
    assert_refused(capsys, place, 2, "error", command, place / NO_SESSIONS[case])


def test_a_mistyped_session_says_where_to_look(place, capsys):
    code, said = run(capsys, "train", place / "run-l", "--resume")
    assert code == 2 and "session folder not found" in said
    assert "look where the run was started" in said and "made by init" in said


# --- checkpoints ---


@pytest.fixture
def with_checkpoints(made) -> Path:
    """A session with whole checkpoints of steps 3 and 6; what a resume checks, without what torch would load."""
    for step in (3, 6):
        folder = made / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(tensor_file({"w": TENSOR}))
        (folder / "optimizer.pt").write_bytes(b"state" * 100)
        (folder / "scheduler.pt").write_bytes(b"schedule")
        (folder / "rng_state.pth").write_bytes(b"random")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": 12}))
        manifest.write(folder, step)
    return made


def truncate(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-3])


def rewrite(**values: object) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        value = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**value, **values}))

    return spoil


def list_file(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        value = json.loads((folder / "manifest.json").read_text())
        value["files"][name] = {"bytes": 1, "digest": "0" * 64}
        (folder / "manifest.json").write_text(json.dumps(value))

    return spoil


def drop(name: str) -> Callable[[Path], object]:
    """As a stranger would: the file and its entry are both gone."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        manifest.write(folder, 6)

    return spoil


def link_elsewhere(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        moved = (folder / name).rename(folder.parent.parent / "elsewhere")
        (folder / name).symlink_to(moved)

    return spoil


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    "an empty manifest": (lambda folder: (folder / "manifest.json").write_bytes(b""), "cannot be read"),
    "a manifest that is a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "damaged"),
    "a manifest that is not UTF-8": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "cannot be read"),
    "a manifest of another step": (rewrite(step=5), "is of step 5"),
    "a manifest of another version": (rewrite(schema_version="9"), "damaged"),
    "a manifest that climbs": (list_file("../../session.json"), "damaged"),
    "a manifest from the root": (list_file("/etc/passwd"), "damaged"),
    "a manifest of a file that is not there": (list_file("extra.pt"), "extra.pt is missing"),
    "weights cut short": (truncate("model.safetensors"), "model.safetensors has"),
    "an optimizer cut short": (truncate("optimizer.pt"), "optimizer.pt has"),
    "a scheduler cut short": (truncate("scheduler.pt"), "scheduler.pt has"),
    "random state cut short": (truncate("rng_state.pth"), "rng_state.pth has"),
    "a state cut short": (truncate("trainer_state.json"), "trainer_state.json has"),
    "one byte changed": (
        lambda folder: (folder / "optimizer.pt").write_bytes(b"State" + b"state" * 99),
        "optimizer.pt is not as it was saved",
    ),
    "weights missing": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "the optimizer missing": (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "a file more": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"), "does not belong to it"),
    "a folder more": (lambda folder: _made(folder / "more" / "x"), "does not belong to it"),
    "weights in no safetensors": (drop("model.safetensors"), "no weights in safetensors"),
    "no optimizer at all": (drop("optimizer.pt"), "no optimizer state"),
    "no scheduler at all": (drop("scheduler.pt"), "scheduler.pt is missing"),
    "a link to weights elsewhere": (link_elsewhere("model.safetensors"), "symbolic link"),
    "a manifest in a folder's place": (lambda folder: _folder(folder / "manifest.json"), "cannot be read"),
}


def _made(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("case", list(CHECKPOINTS))
def test_a_malformed_newest_checkpoint_gives_way_to_the_one_before(with_checkpoints, case):
    spoil, reason = CHECKPOINTS[case]
    spoil(with_checkpoints / "checkpoints" / "checkpoint-6")
    before = snapshot(with_checkpoints)
    folder, state, _ = session.load(with_checkpoints)
    start = starting.find(folder, state, resume=True)
    assert start.step == 3
    ((path, found),) = start.damaged
    assert checkpoints.step_of(path) == 6 and reason in found
    assert snapshot(with_checkpoints) == before


@pytest.mark.parametrize("case", list(CHECKPOINTS))
def test_a_malformed_only_checkpoint_is_refused(with_checkpoints, capsys, case):
    spoil, reason = CHECKPOINTS[case]
    shutil.rmtree(with_checkpoints / "checkpoints" / "checkpoint-3")
    spoil(with_checkpoints / "checkpoints" / "checkpoint-6")
    assert_refused(capsys, with_checkpoints.parent, 2, reason, "train", with_checkpoints, "--resume")


def test_whole_checkpoints_are_taken_and_other_names_are_none(with_checkpoints):
    for name in ("checkpoint-", "checkpoint-x", "checkpoint-7.tmp", "checkpoint-99999999999999999999", "xcheckpoint-8"):
        (with_checkpoints / "checkpoints" / name).mkdir()
    (with_checkpoints / "checkpoints" / "checkpoint-9").write_text("a file")
    folder, state, _ = session.load(with_checkpoints)
    assert starting.find(folder, state, resume=True) == starting.Start(folder.checkpoints / "checkpoint-6", ())


# --- random ones ---


def steadily(examples: int) -> settings:
    """The same examples every time; fixtures are only read."""
    fixtures = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=fixtures)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([10**400, -(10**20), 1e308, "\0", "../../x", "~", "/", "a/b", "a" * 5000, "\ud800", "NaN"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths_of(value: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [before]
    return [before, *(path for key, part in value.items() for path in paths_of(part, (*before, key)))][1:] or [before]


EVERYTHING = minimal_parameters(
    "MODEL",
    "ROWS",
    schedule={"max_steps": 6, "warmup_steps": 2, "eval_steps": 2, "save_steps": 2, "report_to": "none", "seed": 1},
    distributed={"gpus": 1, "nodes": 1, "strategy": "single"},
)


@steadily(150)
@given(path=st.sampled_from(paths_of(EVERYTHING)), value=VALUES, extra=st.booleans())
@example(path=("data", "dataset"), value="\ud800", extra=False)
@example(path=("model", "name"), value="\ud800", extra=False)
@example(path=("model", "name"), value="~\0", extra=False)
@example(path=("schedule", "max_steps"), value=1e300, extra=False)
def test_no_value_in_any_place_of_the_parameters_raises_anything_but_a_refusal(
    originals, tmp_path_factory, capsys, path, value, extra
):
    whole = copy.deepcopy(EVERYTHING)
    whole["model"]["name"], whole["data"]["dataset"] = str(originals / "model"), str(originals / "rows.jsonl")
    section: Any = whole
    for key in path[:-1]:
        section = section[key]
    section[path[-1] + ("x" if extra else "")] = value
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        code, said = init(capsys, folder, json.dumps(whole))
        assert code in (0, 2, 4), said
        if code:
            assert [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"], said
            assert [entry.name for entry in folder.iterdir()] == ["p.json"]
    finally:
        shutil.rmtree(folder)


@steadily(150)
@given(
    name=st.sampled_from(
        ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]
    ),
    content=st.binary(max_size=60)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | VALUES.map(lambda value: json.dumps({"weight_map": value, "model_type": value}).encode())
    | VALUES.map(lambda value: tensor_file({"w": value}))
    | VALUES.map(lambda value: tensor_file({"w": {**TENSOR, "shape": value}}))
    | VALUES.map(lambda value: tensor_file({"w": {**TENSOR, "dtype": value}}))
    | VALUES.map(lambda value: tensor_file({"w": {**TENSOR, "data_offsets": value}})),
)
def test_no_bytes_in_any_file_of_a_model_raise_anything_but_a_refusal(
    originals, tmp_path_factory, capsys, name, content
):
    folder = tmp_path_factory.mktemp("fuzz")
    place = shutil.copytree(originals, folder / "place")
    try:
        (place / "model" / name).write_bytes(content)
        code, said = init(capsys, place, json.dumps(valid(place)))
        assert code in (0, 2), said
        assert code == 0 or [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"], said
    finally:
        shutil.rmtree(folder)


@steadily(200)
@given(data=st.data())
def test_no_change_to_any_file_of_a_session_raises_anything_but_a_refusal(
    session_original, tmp_path_factory, capsys, data
):
    name = data.draw(st.sampled_from(["session.json", "params.json", "metrics.jsonl"]))
    original = (session_original / name).read_bytes()
    start = data.draw(st.integers(0, len(original) - 1))
    end = data.draw(st.integers(start, min(start + 40, len(original))))
    put_in = data.draw(
        st.binary(max_size=20) | st.sampled_from([b"null", b"-1", b"[]", b'"x"', b"1e999", b"true", b"9" * 5000])
    )
    folder = tmp_path_factory.mktemp("fuzz")
    made = shutil.copytree(session_original, folder / "s")
    try:
        (made / name).write_bytes(original[:start] + put_in + original[end:])
        before = snapshot(folder)
        code, said = run(capsys, "status", made)
        assert code in (0, 2), said
        assert code == 0 or [line.split(": ")[0] for line in said.splitlines()] == ["error", "hint"], said
        assert snapshot(folder) == before
    finally:
        shutil.rmtree(folder)


@steadily(100)
@given(data=st.data())
def test_no_change_to_any_file_of_a_checkpoint_goes_unseen(with_checkpoints, data):
    folder = with_checkpoints / "checkpoints" / "checkpoint-6"
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    original = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    changed = original[:place] + data.draw(st.binary(max_size=10)) + original[place + data.draw(st.integers(0, 9)) :]
    try:
        (folder / name).write_bytes(changed)
        reason = manifest.problem(folder, 6)
        if name != "manifest.json":
            assert (reason is None) == (changed == original)
        elif reason is None:
            assert json.loads(changed) == json.loads(original)
    finally:
        (folder / name).write_bytes(original)


def test_the_malformed_corpus_has_at_least_150_inputs():
    corpus = (PARAMETER_FILES, PARAMETERS, SESSIONS, MODELS, SESSION_FILES, CHECKPOINTS, NO_SESSIONS)
    assert sum(map(len, corpus)) >= 150
