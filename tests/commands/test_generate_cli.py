"""generate_fft_params.py as a user meets it: a process, its stdout, its exit code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import (
    PLANNER,
    SCRIPTS,
    TOOL,
    assert_clear_error,
    conversation_rows,
    minimal_parameters,
    run_script,
    write_jsonl,
    write_parameters,
)
from unsloth_fft.commands import plan, tool
from unsloth_fft.core import schema

LLAMA = ("--model", "meta-llama/Llama-3.1-8B")
H200 = (*LLAMA, "--gpu", "H200", "--max-steps", "100")
# Alone a plan takes 0.08 to 0.10 s, 7.5 to 8.1 times `python -c pass` in a virtual environment; beside another test
# worker on the same core it takes more.
COLD_SECONDS = 0.25
COLD_OF_PASS = 14


def generate(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    return run_script(PLANNER, *arguments, **options)  # type: ignore[arg-type]


def test_stdout_carries_valid_parameters_and_nothing_else() -> None:
    finished = generate(*H200)
    assert finished.returncode == 0, finished.stderr
    assert schema.problems(json.loads(finished.stdout), "parameters") == []


def test_the_same_input_gives_the_same_bytes_and_output_writes_them(tmp_path: Path) -> None:
    first, target = generate(*H200).stdout, tmp_path / "params.json"
    second = generate(*H200, "--output", target, "--json")
    assert second.returncode == 0
    assert first == second.stdout == target.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["params.json"]


def test_explain_and_warnings_go_to_stderr() -> None:
    finished = generate(*H200, "--explain", "--alternatives", 1)
    assert len(json.loads(finished.stdout)["plan"]["alternatives"]) == 1
    assert "* chosen: exact" in finished.stderr
    assert "lacks" in finished.stderr


def test_help_shows_every_flag_of_the_contract_and_examples() -> None:
    finished = generate("--help")
    assert finished.returncode == 0
    flags = """--model --gpu --vram-gib --gpus --nodes --host-ram-gib --dataset --objective --seq-length
    --effective-batch --epochs --max-steps
    --tokens --learning-rate --exactness --price-per-hour --precision --optimizer --state-offload
    --gradient-checkpointing --micro-batch --grad-accumulation --output --explain --alternatives --json"""
    for flag in [*flags.split(), "examples:", "exit codes:"]:
        assert flag in finished.stdout


def test_a_local_data_file_is_counted(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(50))
    finished = generate(*LLAMA, "--gpu", "H200", "--dataset", "rows.jsonl", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert data.exists()
    assert found["data"]["rows"] == 50
    assert found["data"]["dataset"] == "rows.jsonl"
    assert found["schedule"]["num_train_epochs"] == 2
    assert found["plan"]["predicted"]["steps"] == 6  # 45 rows to train on, twice, in batches of 16


@pytest.mark.parametrize(
    ("model", "warned"),
    [("meta-llama/Llama-3.1-8B", True), ("meta-llama/Llama-3.1-8B-Instruct", False), ("Qwen/Qwen3-8B", False),
     ("Qwen/Qwen3-8B-Base", True), ("google/gemma-3-1b-pt", True), ("google/gemma-3-1b-it", False)],
)  # fmt: skip
def test_conversations_for_a_base_model_may_need_a_chat_template(rows_file: Path, model: str, warned: bool) -> None:
    asked = ("--model", model, "--gpu", "H200", "--dataset", rows_file)
    plain = json.loads(generate(*asked).stdout)
    assert plain["data"]["chat_template"] is None
    warnings = [warning for warning in plain["plan"]["warnings"] if "--chat-template" in warning]
    assert bool(warnings) == warned
    assert all(" may " in warning for warning in warnings)
    named = json.loads(generate(*asked, "--chat-template", "chatml").stdout)
    assert named["data"]["chat_template"] == "chatml"
    assert not any("--chat-template" in warning for warning in named["plan"]["warnings"])


def test_raw_text_needs_no_chat_template(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "One line of a text."}] * 20)
    found = generate(*LLAMA, "--gpu", "H200", "--dataset", path, "--objective", "pretrain")
    assert "--chat-template" not in found.stdout


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".json"])
def test_other_text_formats_are_counted_too(tmp_path: Path, suffix: str) -> None:
    texts = {
        ".csv": "text\none\ntwo\n",
        ".tsv": "text\tnote\none\t1\ntwo\t2\n",
        ".txt": "one\n\ntwo\n",
        ".json": '[{"text": "one"}, {"text": "two"}]',
    }
    path = tmp_path / f"rows{suffix}"
    path.write_text(texts[suffix], encoding="utf-8")
    finished = generate(*LLAMA, "--gpu", "H200", "--dataset", path, "--objective", "pretrain")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["data"]["rows"] == 2


def test_a_folder_is_counted_as_its_files_are_and_its_test_files_are_not_trained_on(tmp_path: Path) -> None:
    for name, lines in (("one.txt", 30), ("two.md", 10), ("README.md", 5)):
        (tmp_path / name).write_text("A line of a text.\n" * lines, encoding="utf-8")
    asked = (*LLAMA, "--gpu", "H200", "--dataset", tmp_path, "--epochs", 1)
    whole = json.loads(generate(*asked).stdout)
    assert (whole["data"]["rows"], whole["plan"]["predicted"]["steps"]) == (40, 3)  # 36 rows in batches of 16
    (tmp_path / "test.txt").write_text("A line held out.\n" * 20, encoding="utf-8")
    parted = json.loads(generate(*asked, "--objective", "pretrain", "--precision", "float32").stdout)
    assert (parted["data"]["rows"], parted["plan"]["predicted"]["steps"]) == (60, 3)  # the 40 that are not held out
    assert not any("--eval-fraction" in warning for warning in parted["plan"]["warnings"])
    (tmp_path / "rows.jsonl").write_text('{"text": "A row."}\n' * 16, encoding="utf-8")
    rows = json.loads(generate(*asked).stdout)
    assert rows["data"]["rows"] == 16  # text beside rows is about them


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rows.docx", "PK", ["rows.docx", "unknown kind of data file", ".jsonl", ".tsv", ".parquet"]),
        ("rows.jsonl", '{"question": "a", "answer": "b"}\n', ["line 1 has the keys answer, question", '"messages"']),
        (
            "rows.csv",
            "question,answer\na,b\n",
            ["line 2 has the keys answer, question", "--columns prompt=question completion=answer"],
        ),
        ("rows.jsonl", '{"text": "a"}\n{"txt": "b"}\n', ["line 2 has a 'text' that is missing"]),
        ("folder/notes.pdf", "%PDF", ["holds no data to train on", ".jsonl"]),
    ],
)
def test_data_that_training_would_refuse_are_refused_by_the_planner_in_the_same_words(
    tmp_path: Path, name: str, text: str, words: list[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    dataset = tmp_path / name.split("/")[0]
    planned = generate(*H200, "--dataset", dataset)
    assert_clear_error(planned, 2, *words)
    params = write_parameters(tmp_path / "p.json", minimal_parameters("owner/model", dataset))
    assert run_script(TOOL, "init", "--params", params, "--session", tmp_path / "s").stderr == planned.stderr


def test_a_model_folder_is_planned_for_this_machine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    finished = generate("--model", tmp_path, "--max-steps", 5)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["model"]["max_seq_length"] == 256
    assert found["plan"]["predicted"]["peak_vram_gib"] > 0


TINY = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 256,
        "tie_word_embeddings": True}  # fmt: skip


def test_the_smallest_models_may_learn_at_high_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    rest = ["--gpu", "L4", "--max-steps", "5", "--learning-rate", "2e-3"]
    for model, warned in ((str(tmp_path), False), ("Qwen/Qwen2.5-0.5B", True)):
        assert plan.main(["--model", model, *rest]) == 0
        assert ("references/hyperparameters.md" in capsys.readouterr().err) == warned


@pytest.mark.slow
@pytest.mark.parametrize("model", ["config.json", "."])
def test_a_shape_from_a_file_is_warned_about_and_gets_its_name_from_model_name(tmp_path: Path, model: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    asked = ("--model", model, "--gpu", "L4", "--max-steps", 5, "--dataset", "owner/data")
    bare = generate(*asked, "--output", "bare.json", cwd=tmp_path)
    assert bare.stdout == "", "with --output the JSON goes there alone"
    found = json.loads((tmp_path / "bare.json").read_text())
    assert found["model"]["name"] == model
    assert any("--model-name" in warning for warning in found["plan"]["warnings"])
    refused = run_script(TOOL, "render", "--params", "bare.json", "--target", "script", cwd=tmp_path)
    assert_clear_error(refused, 2, "model/name", model, "--model-name")
    generate(*asked, "--model-name", "owner/model", "--output", "p.json", cwd=tmp_path)
    named = json.loads((tmp_path / "p.json").read_text())
    assert named["model"] == {**found["model"], "name": "owner/model"}
    assert not any("--model-name" in warning for warning in named["plan"]["warnings"])
    rendered = run_script(TOOL, "render", "--params", "p.json", "--target", "script", cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    assert "'name': 'owner/model'" in rendered.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((*LLAMA, "--gpu", "H200"), 2, ["--max-steps", "--tokens"]),
        (("--gpu", "H200", "--max-steps", "5"), 2, ["--model"]),
        ((*H200, "--gradient-chekpointing", "off"), 2, ["--gradient-chekpointing"]),
        ((*H200, "--effective-batch", "0"), 2, ["from 1 to 1048576"]),
        ((*H200, "--effective-batch", "sixteen"), 2, ["sixteen"]),
        ((*H200, "--learning-rate", "nan"), 2, ["nan"]),
        ((*H200, "--learning-rate", "2"), 2, ["--learning-rate", "'2'", "above 0, at most 1"]),
        ((*LLAMA, "--gpu", "H200", "--max-steps", "3e9"), 2, ["--max-steps", "from 1 to 2147483647"]),
        ((*LLAMA, "--gpu", "H200", "--tokens", "100X"), 2, ["'100X'", "100M"]),
        ((*H200, "--tokens", "5"), 2, ["not allowed with"]),
        ((*H200, "--seq-length", "1000000"), 2, ["131072"]),
        ((*H200, "--vram-gib", "500"), 2, ["139.8"]),
        ((*LLAMA, "--gpu", "H900", "--max-steps", "5"), 2, ["H900"]),
        (("--model", "Lama-3.1-8B", "--gpu", "H200", "--max-steps", "5"), 2, ["closest", "Llama-3.1-8B"]),
        (("--model", "./nowhere", "--gpu", "H200", "--max-steps", "5"), 2, ["nowhere"]),
        ((*H200, "--precision", "bfloat16", "--optimizer", "adamw_8bit"), 2, ["--exactness any"]),
        ((*LLAMA, "--vram-gib", "24", "--host-ram-gib", "64", "--max-steps", "5"), 3, ["GiB more", "--gpu"]),
        ((*H200, "--output", "/nowhere/at/all/p.json"), 2, ["/nowhere/at/all"]),
    ],
)
def test_bad_input_ends_in_two_lines_and_the_right_code(
    arguments: tuple[str, ...], code: int, words: list[str]
) -> None:
    finished = generate(*arguments)
    assert_clear_error(finished, code, *words)
    assert finished.stdout == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--max-step", "--max-steps"), ("--seq-len", "--seq-length"), ("--lr", "--learning-rate"),
        ("--batch-size", "--effective-batch"), ("--vram", "--vram-gib"), ("--datset", "--dataset"),
        ("--max_steps", "--max-steps"),
    ],
)  # fmt: skip
def test_a_flag_that_is_not_known_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    assert plan.main([*LLAMA, "--gpu", "H200", typed, "5"]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err
    assert plan.main([typed, "5"]) == 2, "also where a required flag is missing"
    assert f"did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("statsu", "run-1"), "status"), (("status", "run-1", "--jsno"), "--json"),
        (("data", "rows.jsonl", "--seq-len", "5"), "--seq-length"), (("data", "rows.jsonl", "--lr", "5"), None),
        (("fly",), None),
    ],
)  # fmt: skip
def test_the_tool_answers_with_the_nearest_command_or_flag_too(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], meant: str | None
) -> None:
    assert tool.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"did you mean {meant}?" in error if meant else "did you mean" not in error


def test_a_flag_given_twice_is_refused_and_not_settled_silently(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main([*H200, "--gpu", "L40S"]) == 2
    assert capsys.readouterr().err == "error: --gpu was given more than once\nhint: write --gpu A,B,C\n"
    assert plan.main([*H200, "--sample-by", "line", "--sample-by", "line"]) == 2
    assert "--sample-by was given more than once" in capsys.readouterr().err
    assert tool.main(["init", "--params", "a.json", "--params", "b.json", "--session", "s"]) == 2
    assert "--params was given more than once" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "tokens"), [("100M", 10**8), ("2.3m", 2_300_000), ("500k", 500_000), ("1B", 10**9)])
def test_tokens_may_be_told_in_thousands_millions_and_billions(typed: str, tokens: int) -> None:
    given = plan.parser().parse_args([*LLAMA, "--tokens", typed])
    assert given.tokens == tokens


def test_the_short_names_of_types_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    for short, full in (("bf16", "bfloat16"), ("fp32", "float32")):
        assert plan.main([*H200, "--precision", short]) == 0
        assert json.loads(capsys.readouterr().out)["precision"]["weights"] == full


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gone.jsonl", None, ["not found", "gone.jsonl"]),
        ("empty.jsonl", "", ["empty.jsonl"]),
        ("bad.jsonl", '{"text": "a"}\n' * 6 + '{"text": \n', ["line 7"]),
        ("list.jsonl", "[1]\n", ["line 1"]),
        ("empty.csv", "", ["no rows"]),
    ],
)
def test_bad_data_is_named_by_file_and_line(tmp_path: Path, name: str, text: str | None, words: list[str]) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    finished = generate(*LLAMA, "--gpu", "H200", "--dataset", tmp_path / name, "--output", tmp_path / "p.json")
    assert_clear_error(finished, 2, *words)
    assert not (tmp_path / "p.json").exists()


def test_data_on_another_machine_is_planned_for_when_that_is_said(tmp_path: Path) -> None:
    asked = (*LLAMA, "--gpu", "H200", "--dataset", "/data/there.jsonl", "--tokens", "1e6")
    assert_clear_error(generate(*asked), 2, "/data/there.jsonl", "--dataset-elsewhere")
    finished = generate(*asked, "--dataset-elsewhere", "--output", tmp_path / "p.json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["data"]["dataset"], found["data"]["rows"]) == ("/data/there.jsonl", None)
    assert any("/data/there.jsonl was not read" in warning for warning in found["plan"]["warnings"])
    rendered = run_script(TOOL, "render", "--params", tmp_path / "p.json", "--target", "slurm")
    assert rendered.returncode == 0 and "--dataset /data/there.jsonl" in rendered.stdout
    no_amount = (*LLAMA, "--gpu", "H200", "--dataset", "/data/there.jsonl", "--dataset-elsewhere")
    assert_clear_error(generate(*no_amount), 2, "--rows N --tokens-per-row X --epochs 1", "--tokens N")
    one_pass = ("--rows", "20000", "--tokens-per-row", "600", "--epochs", "1")
    assert json.loads(generate(*no_amount, *one_pass).stdout)["schedule"]["num_train_epochs"] == 1
    assert_clear_error(generate(*H200, "--dataset-elsewhere"), 2, "--dataset FILE")


def test_data_elsewhere_are_not_looked_at_even_where_a_file_has_that_name(rows_file: Path) -> None:
    finished = generate(*H200, "--dataset", rows_file, "--dataset-elsewhere")
    assert json.loads(finished.stdout)["data"]["rows"] is None


@pytest.mark.parametrize("sample_by", ["line", "paragraph", "document"])
def test_rows_of_a_text_are_counted_as_training_reads_them(tmp_path: Path, sample_by: str) -> None:
    from unsloth_fft.data import scanning

    path = tmp_path / "text.md"
    path.write_text("One\ntwo.\n\n \nThree.\n\nFour\nfive\nsix.\n\n" * 20, encoding="utf-8")
    asked = (*LLAMA, "--gpu", "H200", "--dataset", path, "--objective", "pretrain", "--sample-by", sample_by)
    found = json.loads(generate(*asked).stdout)
    assert found["data"]["sample_by"] == sample_by
    assert found["data"]["rows"] == len(list(scanning.scan([path], sample_by)))


def test_sample_by_is_refused_for_rows_that_are_no_text(rows_file: Path) -> None:
    asked = (*LLAMA, "--gpu", "H200", "--dataset", rows_file, "--sample-by", "document")
    assert_clear_error(generate(*asked), 2, str(rows_file), "--sample-by")


def test_held_out_text_is_told_and_can_be_changed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": f"Line {number} of a text. " * 400} for number in range(40)])
    asked = (*LLAMA, "--gpu", "H200", "--dataset", path, "--objective", "pretrain", "--effective-batch", 1)
    usual = json.loads(generate(*asked).stdout)
    assert usual["data"]["eval_fraction"] == 0.1
    assert any("4 of 40 rows" in warning and "--eval-fraction" in warning for warning in usual["plan"]["warnings"])
    everything = json.loads(generate(*asked, "--eval-fraction", 0).stdout)
    assert everything["data"]["eval_fraction"] == 0
    assert not any("--eval-fraction" in warning for warning in everything["plan"]["warnings"])
    assert everything["plan"]["predicted"]["steps"] > usual["plan"]["predicted"]["steps"]
    assert_clear_error(generate(*asked, "--eval-fraction", 0.9), 2, "0.5")


def test_data_that_cannot_be_counted_here_need_an_amount(tmp_path: Path) -> None:
    asked = (*LLAMA, "--gpu", "H200", "--dataset", "HuggingFaceH4/ultrachat_200k")
    assert_clear_error(generate(*asked, cwd=tmp_path), 2, "--max-steps", "unsloth_fft_tool.py data")
    assert generate(*asked, "--max-steps", 10, cwd=tmp_path).returncode == 0


def test_errors_are_json_objects_with_json(tmp_path: Path) -> None:
    finished = generate(*LLAMA, "--gpu", "H900", "--max-steps", 5, "--json")
    error = json.loads(finished.stdout)["error"]
    assert finished.returncode == 2
    assert error["code"] == "bad_input"
    assert error["hint"]


def test_a_hub_name_without_a_network_is_a_clear_error() -> None:
    finished = generate("--model", "someone/some-model", "--gpu", "H200", "--max-steps", 5, env={"HF_HUB_OFFLINE": "1"})
    assert_clear_error(finished, 4, "someone/some-model", "config.json")


def test_a_token_is_never_shown() -> None:
    secret = "hf_" + "x" * 20
    env = {"HF_TOKEN": secret, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    finished = generate("--model", "someone/some-model", "--gpu", "H200", "--max-steps", 5, env=env)
    assert_clear_error(finished, 4, "could not be reached")
    assert secret not in finished.stdout + finished.stderr


def test_planning_imports_nothing_heavy_and_touches_no_network() -> None:
    code = f"""
import socket, sys
def refuse(*a, **k): raise AssertionError("network")
socket.socket.connect = refuse
sys.path.insert(0, {str(SCRIPTS)!r})
from unsloth_fft.commands import plan
assert plan.main({list(H200)!r}) == 0
heavy = {{"torch", "transformers", "numpy", "datasets", "unsloth", "matplotlib", "requests", "yaml"}}
found = heavy & set(sys.modules)
assert not found, found
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


def test_gradients_in_host_memory_of_several_gpus_name_the_one_gpu_that_works() -> None:
    finished = generate(*LLAMA, "--gpu", "H100", "--gpus", 8, "--max-steps", 5, "--gradient-offload", "on")
    assert_clear_error(finished, 2, "only on one GPU", "--gpus 1")
    assert "exactness" not in finished.stderr


def test_a_plan_imports_no_jsonschema_and_is_the_same_where_there_is_none() -> None:
    code = f"""
import sys
if "hidden" in sys.argv:
    sys.modules["jsonschema"] = None
sys.path.insert(0, {str(SCRIPTS)!r})
from unsloth_fft.commands import plan
code = plan.main({list(H200)!r})
assert sys.modules.get("jsonschema") is None
sys.exit(code)
"""
    there, hidden = (
        subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, timeout=60)
        for more in ((), ("hidden",))
    )
    assert there.returncode == hidden.returncode == 0, there.stderr + hidden.stderr
    assert there.stdout == hidden.stdout != ""


def _cpu_seconds(*command: str) -> float:
    """Processor time of a process: unlike the clock, it does not grow when the machine is busy with other work."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


@pytest.mark.slow
def test_a_cold_plan_and_help_are_quick(tmp_path: Path) -> None:
    env_flag = f"PYTHONPYCACHEPREFIX={tmp_path}"
    quick = ["env", "-u", "PYTHONDONTWRITEBYTECODE", env_flag, sys.executable]
    for arguments in (H200, ("--help",)):
        subprocess.run([*quick, str(PLANNER), *arguments], check=True, capture_output=True)  # compiles the bytecode
        took = min(_cpu_seconds(*quick, str(PLANNER), *arguments) for _ in range(9))
        nothing = min(_cpu_seconds(*quick, "-c", "pass") for _ in range(9))
        assert took <= COLD_SECONDS, f"{took:.3f} s"
        assert took <= COLD_OF_PASS * nothing, f"{took:.3f} s against {nothing:.3f} s"


def test_a_misspelt_key_is_told_what_to_rename_it_to(tmp_path: Path) -> None:
    value = json.loads(generate(*H200).stdout)
    value["optimizer"]["learing_rate"] = value["optimizer"].pop("learning_rate")
    path = write_parameters(tmp_path / "p.json", value)
    refused = run_script(TOOL, "render", "--params", path, "--target", "script")
    assert_clear_error(refused, 2, "rename learing_rate to learning_rate (in optimizer)")
    assert "add learning_rate" not in refused.stderr, "the rename supplies it"
    value = json.loads(generate(*H200).stdout)
    value["optimizer"]["learing_rate"] = 1e-5  # beside the right one: a rename would give two of it
    refused = run_script(TOOL, "render", "--params", write_parameters(path, value), "--target", "script")
    assert_clear_error(refused, 2, "unknown key 'learing_rate'")
    assert "rename" not in refused.stderr


@pytest.mark.parametrize(
    ("section", "key", "wrong", "words"),
    [
        ("schedule", "warmup_steps", 1.5, "mend that key"),
        ("batch", "effective_batch_size", 17, "plan anew"),
        ("precision", "master", "none", "plan anew"),
    ],
)
def test_a_contradiction_says_whether_it_may_be_mended_by_hand(
    tmp_path: Path, section: str, key: str, wrong: object, words: str
) -> None:
    value = json.loads(generate(*H200).stdout)
    value[section][key] = wrong
    path = write_parameters(tmp_path / "p.json", value)
    refused = run_script(TOOL, "render", "--params", path, "--target", "script")
    assert_clear_error(refused, 2, f"{section}/{key}", words, "data and schedule may be edited by hand")


@pytest.mark.parametrize("flags", [("--model", "a" * 300), ("--model", "Qwen/Qwen2.5-0.5B", "--dataset", "a" * 300)])
def test_a_name_too_long_for_a_file_is_one_that_is_not_known(flags: tuple[str, ...]) -> None:
    finished = run_script(PLANNER, *flags, "--gpu", "L4", "--max-steps", 1, env={"HF_HUB_OFFLINE": "1"})
    assert "Traceback" not in finished.stderr and finished.returncode in (0, 2, 4)


def test_two_ways_to_name_a_price_are_refused() -> None:
    finished = run_script(PLANNER, *H200, "--price-per-hour", 2, "--prices", "prices.json")
    assert_clear_error(finished, 2, "--price-per-hour and --prices")


@pytest.mark.parametrize(("closed", "gpu", "code"), [("2>&-", "H200", 0), (">&-", "no-such-card", 2)])
def test_a_stream_that_the_caller_closed_changes_no_exit_code(closed: str, gpu: str, code: int) -> None:
    command = f'"$0" "$1" --model {LLAMA[1]} --gpu {gpu} --max-steps 100 {closed}'
    finished = subprocess.run(["sh", "-c", command, sys.executable, str(PLANNER)], capture_output=True, text=True)
    assert finished.returncode == code
    assert "Traceback" not in finished.stderr
