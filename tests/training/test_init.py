"""init checks everything and writes all or nothing; what a user can get wrong ends in two clear lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from conftest import (
    PLANNER,
    TOOL,
    assert_clear_error,
    conversation_rows,
    minimal_parameters,
    run_script,
    write_jsonl,
    write_parameters,
)
from unsloth_fft.core import schema


def safetensors_file() -> bytes:
    """One tensor of two float32 zeros."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder that looks like a model; of weights init reads the header only."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(safetensors_file())
    (folder / "tokenizer.json").write_text("{}")
    return folder


def init(tmp_path: Path, value: dict | str, session: Path | None = None):
    params = tmp_path / "p.json"
    params.write_text(value if isinstance(value, str) else json.dumps(value))
    return run_script(TOOL, "init", "--params", params, "--session", session or tmp_path / "s")


def test_the_file_alone_can_be_checked_and_nothing_is_written(tmp_path):
    params = tmp_path / "p.json"
    params.write_text(json.dumps(minimal_parameters("no/such-model", "not-there.jsonl")))
    finished = run_script(TOOL, "init", "--params", params, "--check", "--json")
    assert finished.returncode == 0 and json.loads(finished.stdout)["valid"] is True
    params.write_text(params.read_text().replace('"exact"', '"exactly"'))
    assert_clear_error(run_script(TOOL, "init", "--params", params, "--check"), 2, "precision/exactness")
    assert_clear_error(run_script(TOOL, "init", "--params", params), 2, "--check")
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_it_writes_a_session_that_matches_its_schema(tmp_path, model_folder, rows_file):
    finished = init(tmp_path, minimal_parameters(model_folder, rows_file))
    assert finished.returncode == 0, finished.stderr
    session = json.loads((tmp_path / "s" / "session.json").read_text())
    assert schema.problems(session, "session") == []
    assert schema.problems(json.loads((tmp_path / "s" / "params.json").read_text()), "parameters") == []
    assert session["state"] == "initialized"
    assert session["data"]["rows"] == 40 and session["data"]["format"] == "messages"


def test_defaults_are_filled_in_from_the_schema(tmp_path, model_folder, rows_file):
    assert init(tmp_path, minimal_parameters(model_folder, rows_file)).returncode == 0
    written = json.loads((tmp_path / "s" / "params.json").read_text())
    assert written["optimizer"]["adam_beta2"] == 0.999
    assert written["model"]["trust_remote_code"] is False


def test_a_second_init_on_the_same_folder_refuses_and_changes_nothing(tmp_path, model_folder, rows_file):
    value = minimal_parameters(model_folder, rows_file)
    assert init(tmp_path, value).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert_clear_error(init(tmp_path, value), 2, "already exists")
    assert {path: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


BAD_PARAMETERS = {
    "misspelt key": (lambda v: v["optimizer"].update(learning_rte=1e-5), "learning_rte"),
    "missing key": (lambda v: v["optimizer"].pop("learning_rate"), "learning_rate"),
    "wrong type": (lambda v: v["model"].update(max_seq_length="long"), "max_seq_length"),
    "out of range": (lambda v: v["optimizer"].update(learning_rate=7), "learning_rate"),
    "negative micro-batch": (
        lambda v: v["batch"].update(per_device_train_batch_size=-1),
        "per_device_train_batch_size",
    ),
    "unknown optimizer": (lambda v: v["optimizer"].update(name="adamw"), "adamw"),
    "unknown schedule": (lambda v: v["schedule"].update(lr_scheduler_type="wavy"), "wavy"),
    "batch does not multiply": (lambda v: v["batch"].update(effective_batch_size=5), "effective_batch_size"),
    "both epochs and steps": (lambda v: v["schedule"].update(num_train_epochs=1.0), "exactly one"),
    "neither epochs nor steps": (lambda v: v["schedule"].clear(), "exactly one"),
    "a promise the settings cannot keep": (
        lambda v: v["precision"].update(weights="bfloat16", master="none"),
        "cannot be kept",
    ),
    "wrong schema version": (lambda v: v.update(schema_version="9"), "schema_version"),
    "no data": (lambda v: v["data"].update(dataset=None), "nothing to train on"),
    "missing data": (lambda v: v["data"].update(dataset="nowhere.jsonl"), "nowhere.jsonl"),
    "missing model folder": (lambda v: v["model"].update(name="./nowhere"), "nowhere"),
}


@pytest.mark.parametrize("case", list(BAD_PARAMETERS))
def test_bad_parameters_are_refused_by_name(tmp_path, model_folder, rows_file, case):
    spoil, word = BAD_PARAMETERS[case]
    value = minimal_parameters(model_folder, rows_file)
    spoil(value)
    assert_clear_error(init(tmp_path, value), 2, word)
    assert not (tmp_path / "s").exists()


BAD_ROWS = {
    "empty file": (lambda lines: lines.clear(), "empty"),
    "broken line 7": (lambda lines: lines.__setitem__(6, '{"messages": ['), "line 7"),
    "line 7 is an array": (lambda lines: lines.__setitem__(6, "[1, 2]"), "line 7"),
    "row 7 without answer": (
        lambda lines: lines.__setitem__(6, '{"messages": [{"role": "user", "content": "hi"}]}'),
        "line 7",
    ),
    "unknown shape": (lambda lines: lines.__setitem__(0, '{"question": "a", "answer": "b"}'), "line 1"),
}


@pytest.mark.parametrize("case", list(BAD_ROWS))
def test_bad_rows_are_refused_with_their_place(tmp_path, model_folder, rows_file, case):
    spoil, word = BAD_ROWS[case]
    lines = rows_file.read_text().splitlines()
    spoil(lines)
    rows_file.write_text("\n".join(lines))
    assert_clear_error(init(tmp_path, minimal_parameters(model_folder, rows_file)), 2, word)
    assert not (tmp_path / "s").exists()


def test_a_parameters_file_that_is_not_json_is_refused_with_the_line(tmp_path):
    assert_clear_error(init(tmp_path, '{"model": \n oops}'), 2, "line 2")


def test_pickle_weights_are_refused_with_the_way_to_convert(tmp_path, model_folder, rows_file):
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    assert_clear_error(init(tmp_path, minimal_parameters(model_folder, rows_file)), 2, "pickle", "safe_serialization")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_an_unwritable_place_is_refused(tmp_path, model_folder, rows_file):
    finished = init(tmp_path, minimal_parameters(model_folder, rows_file), session=Path("/proc/unsloth-fft-session"))
    assert_clear_error(finished, 2, "/proc")


def test_no_room_on_disk_is_refused_before_anything_is_written(tmp_path, model_folder, rows_file):
    value = minimal_parameters(model_folder, rows_file)
    value["model"]["parameters"] = 10**15
    assert_clear_error(init(tmp_path, value), 4, "GiB free")
    assert not (tmp_path / "s").exists()


def test_errors_are_json_objects_when_json_is_asked_for(tmp_path):
    finished = run_script(TOOL, "init", "--params", tmp_path / "none.json", "--session", tmp_path / "s", "--json")
    error = json.loads(finished.stdout)["error"]
    assert finished.returncode == 2 and error["code"] == "bad_input" and error["hint"]


def test_a_status_of_something_else_is_refused(tmp_path):
    assert_clear_error(run_script(TOOL, "status", tmp_path), 2, "not a session")
    assert_clear_error(run_script(TOOL, "status", tmp_path / "none"), 2, "not found")


@pytest.mark.parametrize("command", ["status", "eval", "train", "export"])
def test_a_session_is_named_by_its_folder_or_by_a_flag(tmp_path, command):
    rest = ["--to", tmp_path / "m"] if command == "export" else []
    said = [run_script(TOOL, command, *named, tmp_path / "none", *rest) for named in ([], ["--session"])]
    for finished in said:
        assert_clear_error(finished, 2, "session folder not found")
    assert said[0].stderr == said[1].stderr
    assert_clear_error(run_script(TOOL, command, *rest), 2, "session folder")
    assert_clear_error(run_script(TOOL, command, "a", "--session", "b", *rest), 2)


@pytest.mark.parametrize("named", [[], ["--session"]])
def test_training_a_parameters_file_names_the_flag_for_it(tmp_path, named):
    file = tmp_path / "small.json"
    file.write_text("{}")
    assert_clear_error(
        run_script(TOOL, "train", *named, file), 2, "is a file", f"train --params {file} --session run-1"
    )


def test_local_paths_are_made_absolute_so_that_a_session_works_from_anywhere(tmp_path, model_folder):
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(5))
    params = write_parameters(tmp_path / "p.json", minimal_parameters("model", "rows.jsonl"))
    finished = run_script(TOOL, "init", "--params", params, "--session", "s", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    written = json.loads((tmp_path / "s" / "params.json").read_text())
    assert written["data"]["dataset"] == str(tmp_path / "rows.jsonl")
    assert written["model"]["name"] == str(model_folder)


def test_a_package_that_is_not_installed_is_named_with_the_way_to_get_it(capsys, monkeypatch):
    from unsloth_fft.core import installing, terminal

    monkeypatch.setattr(installing, "can_fetch", lambda: True)

    def command() -> int:
        import a_package_nobody_has  # noqa: F401

        return 0

    assert terminal.run(command, as_json=False) == 4
    assert "pip install a_package_nobody_has" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["planner", "init"])
def test_quantized_weights_are_refused(tmp_path, model_folder, rows_file, program):
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 256,
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    }  # fmt: skip
    (model_folder / "config.json").write_text(json.dumps(config))
    if program == "init":
        finished = init(tmp_path, minimal_parameters(model_folder, rows_file))
    else:
        finished = run_script(PLANNER, "--model", model_folder, "--gpu", "L4", "--max-steps", 1)
    assert_clear_error(finished, 2, "quantized by bitsandbytes", "unquantized")


def test_an_unknown_chat_template_is_refused_with_the_known_ones(tmp_path, model_folder, rows_file):
    value = minimal_parameters(model_folder, rows_file)
    value["data"]["chat_template"] = "no-such"
    assert_clear_error(init(tmp_path, value), 2, "chat_template", "alpaca")
    assert not (tmp_path / "s").exists()


def test_rows_longer_than_the_models_positions_are_refused(tmp_path, model_folder, rows_file):
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 256,
    }  # fmt: skip
    (model_folder / "config.json").write_text(json.dumps(config))
    value = minimal_parameters(model_folder, rows_file)
    value["model"]["max_seq_length"] = 512
    assert_clear_error(init(tmp_path, value), 2, "512", "256 positions", "--seq-length 256")
