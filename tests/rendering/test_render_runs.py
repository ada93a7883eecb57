"""The rendered script and notebook run: on a CPU, without the bundle, to a trained and audited tiny model."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import SCRIPTS, conversation_rows, minimal_parameters, write_jsonl, write_parameters
from render_helpers import checked, consumer, rendered, tiny_parameters
from unsloth_fft.auditing.audit import audit_folders
from unsloth_fft.data import preparing
from unsloth_fft.settings.parameters import from_json

CALM = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def run_rendered(
    script: Path, *arguments: object, env: dict[str, str] | None = None, launcher: Sequence[str] = ()
) -> subprocess.CompletedProcess:
    """Run a rendered script from its own folder, where nothing of the bundle can be imported, in a Python of its own.

    Most tests use `workers.run_script`, which spares the imports; what is asked here is how it starts or is launched.
    """
    return subprocess.run(
        [sys.executable, *launcher, script.name, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        cwd=script.parent,
        env={**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, **CALM, **(env or {})},
        timeout=300,
    )


@pytest.fixture(scope="module")
def script(tmp_path_factory, tiny_model) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    rows = write_jsonl(folder / "rows.jsonl", conversation_rows(40))
    params = tiny_parameters(folder, tiny_model, rows)
    path = folder / "train_fft.py"
    path.write_text(rendered(params, "script"))
    return path


@pytest.fixture(scope="module")
def finished(script) -> Path:
    """The output folder of one whole run."""
    run = run_rendered(script, "--output", "out")
    assert run.returncode == 0, run.stderr
    return script.parent / "out"


@pytest.mark.train
def test_the_script_ends_in_a_trained_and_audited_model(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["verdict"] == "full"
    assert result["changed"] == result["elements"] > 0
    assert result["eval_loss_after"] < result["eval_loss_before"]
    assert (finished / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not list(finished.rglob("*.bin"))
    assert len({path.stat().st_mode for path in (finished / "model").iterdir()}) == 1
    losses = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses if "loss" in line] == [1, 2, 3, 4, 5, 6]


@pytest.mark.train
def test_its_audit_counts_what_the_bundles_audit_counts(finished, tiny_model):
    moved = json.loads((finished / "audit.json").read_text())
    reference = audit_folders(tiny_model, finished / "model").to_json()
    assert moved["verdict"] == reference["verdict"]
    assert (moved["changed"], moved["elements"]) == (reference["changed"], reference["elements"])
    mine = {row["name"]: row["changed"] for row in moved["tensors"]}
    assert mine == {row["name"]: row["changed"] for row in reference["tensors"]}


@pytest.mark.train
def test_running_it_again_refuses_and_changes_nothing(workers, script, finished):
    before = (finished / "result.json").read_text()
    run = workers.run_script(script, "--output", "out")
    assert run.returncode == 2 and "not empty" in run.stderr and "Traceback" not in run.stderr
    assert (finished / "result.json").read_text() == before


@pytest.mark.train
def test_an_audit_that_could_fail_does(finished, tiny_model, tmp_path):
    """The script's audit of a copy with one tensor put back to the base says partial and names it."""
    import torch
    from safetensors.torch import load_file, save_file

    from unsloth_fft.rendering.standalone.audit import audit

    trained, base = load_file(finished / "model" / "model.safetensors"), load_file(tiny_model / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**trained, name: base[name]}, tmp_path / "model.safetensors")
    moved = audit(tiny_model, tmp_path, "float32")
    assert moved["verdict"] == "partial" and moved["unchanged_tensors"] == [name]
    save_file(base, tmp_path / "model.safetensors")
    assert audit(tiny_model, tmp_path, "float32")["verdict"] == "frozen"
    save_file({**trained, name: torch.full_like(base[name], float("nan"))}, tmp_path / "model.safetensors")
    assert audit(tiny_model, tmp_path, "float32")["verdict"] == "partial"


@pytest.mark.train
def test_a_head_tied_to_the_embedding_may_be_stored_or_not(finished, tiny_model, tmp_path):
    """Several processes store the shared weight under both names; only a head of its own would be another model."""
    from safetensors.torch import load_file, save_file

    from unsloth_fft.rendering.standalone.audit import audit

    trained = load_file(finished / "model" / "model.safetensors")
    embedding = trained["model.embed_tokens.weight"]
    save_file({**trained, "lm_head.weight": embedding.clone()}, tmp_path / "model.safetensors")
    assert audit(tiny_model, tmp_path, "float32")["verdict"] == "full"
    save_file({**trained, "lm_head.weight": embedding + 1}, tmp_path / "model.safetensors")
    assert audit(tiny_model, tmp_path, "float32")["verdict"] == "incomparable"


TEXTS = [{"text": f"A long text about the number {number}. " * 20} for number in range(40)]
# Beside the plan of `script`: gradients and state in host memory, packed text of pretraining, two processes.
OTHER_PLANS = {
    "offload": {
        "optimizer": {"name": "adamw_torch_fused", "learning_rate": 0.002, "state_offload": True},
        "memory": {"gradient_checkpointing": "off", "gradient_offload": True},
        "batch": {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "effective_batch_size": 4,
        },
    },
    "pretrain": {"data": {"objective": "pretrain", "packing": True, "loss_on": "all", "format": "text"}},
    "two": {
        "distributed": {"gpus": 2, "nodes": 1, "strategy": "fsdp2"},
        "batch": {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "effective_batch_size": 4,
        },
    },
}


def other_plan(folder: Path, model: Path, name: str) -> Path:
    """The parameters of one of OTHER_PLANS, on rows of its kind."""
    changes = {key: dict(value) for key, value in OTHER_PLANS[name].items()}
    rows = write_jsonl(folder / "rows.jsonl", TEXTS if name == "pretrain" else conversation_rows(40))
    if "data" in changes:
        changes["data"]["dataset"] = str(rows)
    return tiny_parameters(folder, model, rows, **changes)


@pytest.mark.train
@pytest.mark.parametrize("name", list(OTHER_PLANS))
def test_scripts_of_other_plans_end_in_a_trained_and_audited_model(workers, tiny_model, tmp_path, name):
    path = tmp_path / "train_fft.py"
    path.write_text(rendered(other_plan(tmp_path, tiny_model, name), "script"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    if name == "two":
        run = run_rendered(path, "--output", "out", launcher=torchrun)
    else:
        run = workers.run_script(path, "--output", "out")
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["verdict"] == "full" and result["eval_loss_after"] < result["eval_loss_before"]
    assert audit_folders(tiny_model, tmp_path / "out" / "model").to_json()["verdict"] == "full"


@pytest.mark.train
def test_gradients_in_host_memory_train_as_they_do_on_the_card(workers, script, finished, tiny_model, tmp_path):
    """The same rows and steps with and without; only the order of adding up may differ."""
    import torch
    from safetensors.torch import load_file

    changes = {key: OTHER_PLANS["offload"][key] for key in ("optimizer", "memory")}
    rows = script.parent / "rows.jsonl"
    path = tmp_path / "train_fft.py"
    path.write_text(rendered(tiny_parameters(tmp_path, tiny_model, rows, **changes), "script"))
    run = workers.run_script(path, "--output", "out")
    assert run.returncode == 0, run.stderr
    here, there = (load_file(out / "model" / "model.safetensors") for out in (finished, tmp_path / "out"))
    assert all(torch.allclose(here[name], there[name], atol=1e-5) for name in here)


@pytest.mark.train
def test_accelerate_starts_the_script(script, tmp_path):
    """`accelerate launch` with the rendered configuration, to the same end."""
    (tmp_path / "train_fft.py").write_text(script.read_text())
    config = tmp_path / "accelerate_fft.yaml"
    params = json.loads((script.parent / "params.json").read_text())
    text = rendered(write_parameters(tmp_path / "p.json", params), "accelerate")
    config.write_text(text.replace("use_cpu: false", "use_cpu: true"))  # these parameters carry no plan to say so
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    run = run_rendered(tmp_path / "train_fft.py", "--output", "out", launcher=launcher)
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["verdict"] == "full"


@pytest.mark.parametrize(
    ("arguments", "env", "code", "words"),
    [
        (("--dataset", "missing.jsonl"), {}, 2, "missing.jsonl"),
        (("--model", "./no-model"), {}, 2, "no-model"),
        ((), {"WORLD_SIZE": "2", "RANK": "0"}, 2, "planned for 1 GPUs, started as 2"),
        (("--push-to-hub", "me/model"), {"HF_TOKEN": "", "HF_TOKEN_PATH": "/nonexistent"}, 4, "HF_TOKEN"),
    ],
)
def test_what_would_fail_later_fails_first(script, arguments, env, code, words):
    run = run_rendered(script, "--output", "never", *arguments, env=env)
    assert run.returncode == code, run.stderr
    assert words in run.stderr and "error: " in run.stderr and "hint: " in run.stderr
    assert "Traceback" not in run.stderr
    assert not (script.parent / "never" / "model").exists()


def test_a_missing_chat_template_is_found_before_the_weights_are_loaded(workers, tmp_path, tiny_model, rows_file):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes(b"loading this would fail in another way")
    path = tmp_path / "train_fft.py"
    path.write_text(rendered(tiny_parameters(tmp_path, model, rows_file), "script"))
    run = workers.run_script(path)
    assert run.returncode == 2, run.stderr
    assert "no chat template" in run.stderr and "--chat-template" in run.stderr and "Traceback" not in run.stderr


def test_a_plan_for_a_gpu_stops_at_once_where_there_is_none(tmp_path, tiny_model, rows_file):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    from render_helpers import planned

    params = planned(
        tmp_path, "--model", tiny_model, "--gpu", "L4", "--max-steps", 3, "--dataset", rows_file,
        "--optimizer", "adamw_torch_fused", "--precision", "float32",
    )  # fmt: skip
    path = tmp_path / "train_fft.py"
    path.write_text(rendered(params, "script"))
    run = run_rendered(path)
    assert run.returncode == 4 and "planned for L4" in run.stderr and "Traceback" not in run.stderr


FORMS = {
    "messages": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Two and two?"},
            {"role": "assistant", "content": "Four."},
            {"role": "user", "content": "And one?"},
            {"role": "assistant", "content": "Five."},
        ]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day."}]},
    "alpaca": {"instruction": "Add", "input": "2 and 2", "output": "4", "system": "Be brief."},
    "prompt-completion": {"prompt": "2 + 2 =", "completion": " 4"},
    "text": {"text": "A long text about numbers. " * 40},
}


@pytest.mark.parametrize("loss_on", ["responses", "all"])
@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("named", [True, False])
def test_its_tokens_and_labels_are_those_of_the_bundle(tmp_path, tiny_model, form, loss_on, named):
    from transformers import AutoTokenizer

    from unsloth_fft.rendering.standalone import rows as standalone_rows

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    file = write_jsonl(tmp_path / "rows.jsonl", [FORMS[form]] * 6)
    value = minimal_parameters(tiny_model, file)
    value["data"].update(loss_on=loss_on, format=form if named else "auto", eval_fraction=0.34)
    parameters = from_json(value, "test")
    theirs = preparing.prepare(parameters.data, tokenizer, 128, tmp_path)
    settings = {key: getattr(parameters.data, key) for key in ("dataset", "format", "loss_on", "eval_fraction", "seed")}
    train, held_out = standalone_rows.learn(standalone_rows.split(settings), settings, tokenizer, 128)
    assert train.to_dict() == theirs.train.to_dict()
    assert held_out.to_dict() == theirs.held_out.to_dict()


@pytest.mark.parametrize("count", [2, 3, 10, 25])
def test_it_holds_out_the_rows_that_the_bundle_holds_out(tmp_path, tiny_model, count):
    from transformers import AutoTokenizer

    from unsloth_fft.rendering.standalone import rows as standalone_rows

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    file = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(count))
    parameters = from_json(minimal_parameters(tiny_model, file), "test")
    theirs = preparing.prepare(parameters.data, tokenizer, 128, tmp_path)
    settings = {key: getattr(parameters.data, key) for key in ("dataset", "format", "loss_on", "eval_fraction", "seed")}
    train, held_out = standalone_rows.learn(standalone_rows.split(settings), settings, tokenizer, 128)
    assert (train.to_dict(), held_out.to_dict()) == (theirs.train.to_dict(), theirs.held_out.to_dict())


@pytest.mark.train
@pytest.mark.parametrize("name", ["plain", "offload", "pretrain"])
def test_the_notebook_runs_to_an_audited_model(tmp_path, tiny_model, name):
    """Executed by nbclient, in a kernel of the Python that runs this test."""
    python = consumer("nbclient")
    if importlib.util.find_spec("ipykernel") is None and python == sys.executable:
        pytest.skip("ipykernel is not installed here")
    if name == "plain":
        params = tiny_parameters(tmp_path, tiny_model, write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40)))
    else:
        params = other_plan(tmp_path, tiny_model, name)
    notebook = tmp_path / "train_fft.ipynb"
    notebook.write_text(rendered(params, "notebook"))
    run = (
        "import os, sys, nbformat\nfrom nbclient import NotebookClient\n"
        "book = nbformat.read('train_fft.ipynb', 4)\nnbformat.validate(book)\n"
        "NotebookClient(book, timeout=280, kernel_name='python3', resources={'metadata': {'path': '.'}}).execute()\n"
        "nbformat.write(book, 'done.ipynb')\n"
    )
    checked(python, "-c", run, cwd=tmp_path, env={**os.environ, **CALM, **kernel_of_this_python(tmp_path, python)})
    result = json.loads((tmp_path / "fft-output" / "result.json").read_text())
    assert result["verdict"] == "full"
    done = (tmp_path / "done.ipynb").read_text()
    assert "image/png" in done and "Verdict: <b>full</b>" in done


@pytest.mark.train
def test_preference_tuning_runs_after_full_fine_tuning(workers, script, finished, tmp_path):
    """The dpo target on the model that the script made: the loss falls below ln 2, where DPO starts, and all moved."""
    pairs = [
        {
            "prompt": [{"role": "user", "content": f"What is {number} plus one?"}],
            "chosen": [{"role": "assistant", "content": f"{number} plus one is {number + 1}."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for number in range(24)
    ]
    write_jsonl(script.parent / "pairs.jsonl", pairs)
    path = script.parent / "dpo_fft.py"
    path.write_text(rendered(script.parent / "params.json", "dpo"))
    run = workers.run_script(path, "--model", "out/model", "--dataset", "pairs.jsonl", "--output", "dpo-out")
    assert run.returncode == 0, run.stderr
    result = json.loads((script.parent / "dpo-out" / "result.json").read_text())
    assert result["verdict"] == "full"
    assert result["eval_loss_before"] == pytest.approx(0.6931, abs=1e-3)
    assert result["eval_loss_after"] < 0.68
    write_jsonl(script.parent / "bad.jsonl", [{"prompt": "a", "chosen": "b"}])
    run = workers.run_script(path, "--model", "out/model", "--dataset", "bad.jsonl", "--output", "dpo-bad")
    assert run.returncode == 2 and "row 1 has no rejected" in run.stderr


@pytest.mark.train
def test_an_interrupted_script_saves_and_goes_on(workers, tiny_model, tmp_path):
    """SIGTERM in the middle: exit 130, a checkpoint, and --resume ends like any other run."""
    rows = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))
    params = tiny_parameters(tmp_path, tiny_model, rows, schedule={"max_steps": 400})
    path = tmp_path / "train_fft.py"
    path.write_text(rendered(params, "script"))
    run = workers.start_script(path, "--output", "out")
    while "step 3/" not in run.said() and not run.is_over():
        time.sleep(0.005)
    run.send(signal.SIGTERM)
    stopped_run = run.wait()
    words = stopped_run.stderr
    assert stopped_run.returncode == 130, words
    assert "saved" in words and "--resume" in words and "Traceback" not in words
    stopped = int(words.split("at step ")[1].split(";")[0])
    assert (tmp_path / "out" / "checkpoints" / f"checkpoint-{stopped}").is_dir()
    path.write_text(path.read_text().replace("'max_steps': 400", f"'max_steps': {stopped + 3}"))
    run = workers.run_script(path, "--output", "out", "--resume")
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, stopped + 4))
    assert json.loads((tmp_path / "out" / "result.json").read_text())["verdict"] == "full"


def test_all_processes_stop_when_one_is_asked(tmp_path):
    """Two real processes with gloo; only the second is asked, and both learn of it in the same step."""
    path = tmp_path / "two.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "import torch.distributed as dist\n"
        "from unsloth_fft.rendering.standalone.loading import asked_anywhere\n"
        "dist.init_process_group('gloo')\n"
        "stop = []\n"
        "assert asked_anywhere(stop) is False\n"
        "if dist.get_rank() == 1: stop.append('SIGTERM')\n"
        "assert asked_anywhere(stop) is True and stop\n"
        "dist.destroy_process_group()\n"
    )
    checked(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517", path)


def kernel_of_this_python(folder: Path, python: str) -> dict[str, str]:
    """A kernelspec whose kernel has this Python's packages (the training stack) and ipykernel's from `python`."""
    spec = folder / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    where = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True
    ).stdout.strip()
    launch = f"import sys; sys.path.append({where!r}); from ipykernel import kernelapp; kernelapp.launch_new_instance()"
    value = {
        "argv": [sys.executable, "-c", launch, "-f", "{connection_file}"],
        "display_name": "t",
        "language": "python",
    }
    (spec / "kernel.json").write_text(json.dumps(value))
    return {"JUPYTER_PATH": str(folder / "jupyter")}
