"""Rendered files run: on a CPU, with nothing but what they carry, to a trained and audited tiny model."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import assert_clear_error, conversation_rows, minimal_parameters, write_jsonl, write_parameters
from render_helpers import checked, consumer, planned, rendered, tiny_parameters
from tools.measurements.kill_and_resume import steps_logged, weights
from unsloth_fft.auditing.audit import audit_folders
from unsloth_fft.training import manifest

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


def written(folder: Path, params: Path, target: str = "script") -> Path:
    path = folder / "train_fft.py"
    path.write_text(rendered(params, target))
    return path


def audited(folder: Path) -> dict:
    return json.loads((folder / "audit.json").read_text())


@pytest.fixture(scope="module")
def script(tmp_path_factory, tiny_model) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    rows = write_jsonl(folder / "rows.jsonl", conversation_rows(40))
    return written(folder, tiny_parameters(folder, tiny_model, rows, schedule={"max_steps": 6, "save_steps": 1}))


@pytest.fixture(scope="module")
def finished(script) -> Path:
    """The folder of one whole run."""
    run = run_rendered(script, "--output", "out")
    assert run.returncode == 0, run.stderr
    return script.parent / "out"


@pytest.mark.train
def test_the_script_ends_in_a_trained_and_audited_session(finished):
    state = json.loads((finished / "session.json").read_text())
    assert state["state"] == "completed"
    assert state["result"]["eval_loss_after"] < state["result"]["eval_loss_before"]
    assert audited(finished)["verdict"] == "full"
    assert (finished / "loss.png").read_bytes().startswith(b"\x89PNG") and (finished / "report.html").is_file()
    assert not list(finished.glob(".*.tmp")) and not list(finished.glob(".data-*"))
    assert steps_logged(finished) == [1, 2, 3, 4, 5, 6]


@pytest.mark.train
def test_it_trains_the_weights_that_train_trains(workers, script, finished, tmp_path):
    run = workers.run("train", "--params", script.parent / "params.json", "--session", tmp_path / "session")
    assert run.returncode == 0, run.stderr
    assert weights(tmp_path / "session") == weights(finished)


@pytest.mark.train
def test_running_it_again_refuses_and_changes_nothing(workers, script, finished):
    before = (finished / "session.json").read_text()
    run = workers.run_script(script, "--output", "out")
    assert_clear_error(run, 2, "not empty", "train_fft.py --output out --resume")
    assert (finished / "session.json").read_text() == before


@pytest.mark.train
def test_it_brings_the_other_commands_along_and_they_name_themselves_as_they_are_called(workers, script, finished):
    status = workers.run_script(script, "tool", "status", "out", "--json")
    assert json.loads(status.stdout)["state"] == "completed"
    lacking = workers.run_script(script, "tool", "audit")
    assert_clear_error(lacking, 2, "python train_fft.py tool audit --help")
    shown = workers.run_script(script, "unpack", "source")
    assert shown.returncode == 0, shown.stderr
    assert (script.parent / "source" / "scripts" / "unsloth_fft" / "training" / "run.py").is_file()


@pytest.mark.train
def test_a_trial_has_a_folder_of_its_own_and_keeps_nothing(workers, script):
    before = sorted(script.parent.iterdir())
    run = workers.run_script(script, "--output", "tried", "--trial-steps", 2)
    assert run.returncode == 0, run.stderr
    assert "next: python train_fft.py --output tried" in run.stderr
    assert sorted(script.parent.iterdir()) == before


@pytest.mark.train
def test_killed_while_it_saves_it_resumes_to_the_unbroken_runs_weights(workers, script, finished):
    """The kill falls between the weights and the manifest of a checkpoint, which is then no checkpoint."""
    out = script.parent / "killed"
    staging = out / "checkpoints" / ".staging"
    run = workers.start_script(script, "--output", "killed")
    while not run.is_over():
        if list(staging.glob("*/model.safetensors")):
            run.hold()
            if list(staging.glob("*/model.safetensors")) and not list(staging.glob(f"*/{manifest.FILE}")):
                break
            run.send(signal.SIGCONT)
    run.send(signal.SIGKILL)
    assert run.wait().returncode == -signal.SIGKILL, run.said()
    assert list(staging.glob("*/model.safetensors"))
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    resumed = workers.run_script(script, "--output", "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert weights(out) == weights(finished)
    assert steps_logged(out) == [1, 2, 3, 4, 5, 6]


@pytest.mark.train
def test_an_interrupted_script_saves_and_goes_on_and_takes_no_other_settings(workers, script, finished):
    """SIGTERM in the middle: exit 130, a checkpoint, and --resume ends like any other run."""
    out = script.parent / "stopped"
    run = workers.start_script(script, "--output", "stopped")
    while not run.is_over() and not steps_logged(out):
        time.sleep(0.002)
    run.send(signal.SIGTERM)
    assert_clear_error(run.wait(), 130, "saved", "python train_fft.py tool train stopped --resume")
    other = script.parent / "other.py"
    other.write_text(script.read_text().replace("'max_steps': 6", "'max_steps': 7"))
    assert_clear_error(workers.run_script(other, "--output", "stopped", "--resume"), 2, "other settings")
    resumed = workers.run_script(script, "--output", "stopped", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert weights(out) == weights(finished)


TEXTS = [{"text": f"A long text about the number {number}. " * 20} for number in range(40)]
# Beside the plan of `script`: gradients and state in host memory, packed text of pretraining.
OTHER_PLANS = {
    "offload": {
        "optimizer": {"name": "adamw_torch_fused", "learning_rate": 0.002, "state_offload": True},
        "memory": {"gradient_checkpointing": "off", "gradient_offload": True},
    },
    "pretrain": {"data": {"objective": "pretrain", "packing": True, "loss_on": "all", "format": "text"}},
}


def other_plan(folder: Path, model: Path, name: str) -> Path:
    """The parameters of one of OTHER_PLANS, on rows of its kind."""
    changes = {key: dict(value) for key, value in OTHER_PLANS[name].items()}
    rows = write_jsonl(folder / "rows.jsonl", TEXTS if name == "pretrain" else conversation_rows(40))
    if "data" in changes:
        changes["data"]["dataset"] = str(rows)
    return tiny_parameters(folder, model, rows, **changes)


@pytest.mark.train
@pytest.mark.parametrize("name", ["offload", "pretrain"])
def test_scripts_of_other_plans_end_in_a_trained_and_audited_model(workers, tiny_model, tmp_path, name):
    path = written(tmp_path, other_plan(tmp_path, tiny_model, name))
    run = workers.run_script(path, "--output", "out")
    assert run.returncode == 0, run.stderr
    assert audited(tmp_path / "out")["verdict"] == "full"


@pytest.mark.train
def test_accelerate_starts_the_script(script, tmp_path):
    """`accelerate launch` with the rendered configuration, to the same end."""
    path = tmp_path / "train_fft.py"
    path.write_text(script.read_text())
    config = tmp_path / "accelerate_fft.yaml"
    params = json.loads((script.parent / "params.json").read_text())
    text = rendered(write_parameters(tmp_path / "p.json", params), "accelerate")
    config.write_text(text.replace("use_cpu: false", "use_cpu: true"))  # these parameters carry no plan to say so
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    run = run_rendered(path, "--output", "out", launcher=launcher)
    assert run.returncode == 0, run.stderr
    assert audited(tmp_path / "out")["verdict"] == "full"


@pytest.mark.parametrize(
    ("arguments", "env", "code", "words"),
    [
        (("--dataset", "missing.jsonl"), {}, 2, "missing.jsonl"),
        (("--model", "./no-model"), {}, 2, "no-model"),
        (("--push-to-hub", "me/model"), {"HF_TOKEN": "", "HF_TOKEN_PATH": "/nonexistent"}, 4, "HF_TOKEN"),
        (("--steps", "3"), {}, 2, "--trial-steps"),
    ],
)
def test_what_would_fail_later_fails_first(workers, script, arguments, env, code, words):
    run = workers.run_script(script, "--output", "never", *arguments, env=env)
    assert_clear_error(run, code, words)
    assert not (script.parent / "never").exists()


def test_a_plan_for_a_gpu_stops_at_once_where_there_is_none(workers, tmp_path, tiny_model, rows_file):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    params = planned(
        tmp_path, "--model", tiny_model, "--gpu", "L4", "--max-steps", 3, "--dataset", rows_file,
        "--optimizer", "adamw_torch_fused", "--precision", "float32",
    )  # fmt: skip
    assert_clear_error(workers.run_script(written(tmp_path, params)), 4, "planned for L4")


@pytest.mark.train
def test_a_folder_and_a_mix_of_files_train_where_they_are(workers, tiny_model, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_jsonl(folder / f"part{number}.jsonl", conversation_rows(20))
    value = minimal_parameters(tiny_model, folder, schedule={"max_steps": 2})
    path = written(tmp_path, write_parameters(tmp_path / "p.json", value))
    assert workers.run_script(path, "--output", "one").returncode == 0
    value["data"] = {"sources": [{"dataset": str(folder / f"part{number}.jsonl")} for number in range(2)]}
    path = written(tmp_path, write_parameters(tmp_path / "p.json", value))
    assert workers.run_script(path, "--output", "two").returncode == 0
    rows = [json.loads((tmp_path / name / "session.json").read_text())["data"]["rows"] for name in ("one", "two")]
    assert rows == [40, 40]


@pytest.mark.train
def test_the_notebook_runs_to_an_audited_model(tmp_path, tiny_model):
    """Executed by nbclient, in a kernel of the Python that runs this test; the install cell is only read."""
    python = consumer("nbclient")
    if importlib.util.find_spec("ipykernel") is None and python == sys.executable:
        pytest.skip("ipykernel is not installed here")
    params = tiny_parameters(tmp_path, tiny_model, write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40)))
    value = json.loads(rendered(params, "notebook"))
    install = next(cell for cell in value["cells"] if "WANTED" in cell["source"])
    ast.parse(install["source"])
    install["source"] = "import subprocess, sys"
    (tmp_path / "train_fft.ipynb").write_text(json.dumps(value))
    run = (
        "import nbformat\nfrom nbclient import NotebookClient\n"
        "book = nbformat.read('train_fft.ipynb', 4)\nnbformat.validate(book)\n"
        "NotebookClient(book, timeout=280, kernel_name='python3', resources={'metadata': {'path': '.'}}).execute()\n"
        "nbformat.write(book, 'done.ipynb')\n"
    )
    checked(python, "-c", run, cwd=tmp_path, env={**os.environ, **CALM, **kernel_of_this_python(tmp_path, python)})
    assert audited(tmp_path / "fft-output")["verdict"] == "full"
    done = (tmp_path / "done.ipynb").read_text()
    assert "image/png" in done and "Verdict: <b>full</b>" in done


@pytest.mark.train
def test_preference_tuning_runs_after_full_fine_tuning(workers, script, finished):
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
    result = json.loads((script.parent / "dpo-out" / "session.json").read_text())["result"]
    assert audited(script.parent / "dpo-out")["verdict"] == "full"
    assert result["eval_loss_before"] == pytest.approx(0.6931, abs=1e-3)
    assert result["eval_loss_after"] < 0.68
    write_jsonl(script.parent / "bad.jsonl", [{"prompt": "a", "chosen": "b"}])
    refused = workers.run_script(path, "--model", "out/model", "--dataset", "bad.jsonl", "--output", "dpo-bad")
    assert_clear_error(refused, 2, "line 1 has no rejected")


@pytest.mark.train
def test_its_model_is_the_base_plus_what_its_audit_counts(finished, tiny_model):
    moved, reference = audited(finished), audit_folders(tiny_model, finished / "model").to_json()
    assert (moved["changed"], moved["elements"]) == (reference["changed"], reference["elements"])


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


def test_a_trial_of_a_plan_for_several_gpus_is_refused_with_the_way_to_try_it(tmp_path, monkeypatch, capsys):
    """It was refused after the data had been read, with a command that a rendered file does not have."""
    from unsloth_fft.commands import handed_over
    from unsloth_fft.core import terminal

    monkeypatch.setattr(terminal, "_called", {})  # it names the commands of this process

    value = minimal_parameters("owner/model", "owner/data")
    value["distributed"]["gpus"] = 2
    value["batch"]["effective_batch_size"] *= 2
    monkeypatch.chdir(tmp_path)
    assert handed_over.main(value, {}, ["train_fft.py", "--trial-steps", "3"]) == 2
    assert "plan the same with --max-steps 3" in capsys.readouterr().err and not list(tmp_path.iterdir())
