"""Rendered files read by the programs they are for. A consumer that is not installed skips its test.

Install them apart from the training stack and name their Pythons in FFT_CONSUMERS (references/handoff.md).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import minimal_parameters, write_parameters
from render_helpers import checked, consumer, plans, program, rendered, tiny_parameters

QUIET = {"HF_HUB_OFFLINE": "1", "MODAL_CONFIG_PATH": "/nonexistent", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return plans(tmp_path_factory.mktemp("plans"))


@pytest.fixture(scope="module")
def for_cpu(tmp_path_factory, tiny_model) -> Path:
    from conftest import conversation_rows, write_jsonl

    folder = tmp_path_factory.mktemp("cpu")
    rows = write_jsonl(folder / "rows.jsonl", conversation_rows(20))
    return tiny_parameters(folder, tiny_model, rows)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, **QUIET, "HOME": str(folder)}


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- unsloth train ---


@pytest.mark.parametrize("name", ["offload", "pretrain", "one-card", "float32"])
def test_unsloth_cli_reads_it(three, name, tmp_path):
    pytest.importorskip("unsloth_cli")
    from unsloth_cli.config import load_config

    config = load_config(written(tmp_path, "c.yaml", rendered(three[name], "unsloth-cli")))
    plan = json.loads(three[name].read_text())
    assert config.model == plan["model"]["name"]
    assert config.training.training_type == "full" and config.training.load_in_4bit is False
    assert config.training.learning_rate == plan["optimizer"]["learning_rate"]
    assert config.training.batch_size == plan["batch"]["per_device_train_batch_size"]
    assert config.training.max_seq_length == plan["model"]["max_seq_length"]
    wanted = plan["memory"]["gradient_checkpointing"]
    assert config.training.gradient_checkpointing == ("none" if wanted == "off" else wanted)
    assert config.logging.hf_token is None and config.logging.wandb_token is None


def test_unsloth_cli_reads_local_data(for_cpu, tmp_path):
    pytest.importorskip("unsloth_cli")
    from unsloth_cli.config import load_config

    config = load_config(written(tmp_path, "c.yaml", rendered(for_cpu, "unsloth-cli")))
    assert config.data.dataset is None and len(config.data.local_dataset) == 1


# --- Unsloth Studio ---

STUDIO = """
import json, sys
from models.training import TrainingStartRequest
asked = json.load(open(sys.argv[1]))["start_training"]
unknown = set(asked["config"]) - set(TrainingStartRequest.model_fields)
assert not unknown, unknown
print(TrainingStartRequest.model_validate(asked["config"]).model_dump_json())
"""


@pytest.mark.parametrize("name", ["offload", "pretrain", "one-card", "float32"])
def test_unsloth_studio_reads_it(three, name, tmp_path):
    """By the class that its tool `start_training` validates with."""
    spec = importlib.util.find_spec("studio")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("unsloth's studio is not installed here")
    backend = Path(next(iter(spec.submodule_search_locations))) / "backend"
    path = written(tmp_path, "s.json", rendered(three[name], "unsloth-studio"))
    env = {**os.environ, "PYTHONPATH": str(backend), "HOME": str(tmp_path)}
    finished = subprocess.run(
        [sys.executable, "-c", STUDIO, path], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    if "ModuleNotFoundError" in finished.stderr:
        pytest.skip(f"studio's own packages are not installed: {finished.stderr.splitlines()[-1]}")
    assert finished.returncode == 0, finished.stderr
    read, plan = json.loads(finished.stdout.splitlines()[-1]), json.loads(three[name].read_text())
    assert read["training_type"] == ("Continued Pretraining" if name == "pretrain" else "Full Finetuning")
    assert float(read["learning_rate"]) == plan["optimizer"]["learning_rate"] and read["load_in_4bit"] is False
    assert read["batch_size"] == plan["batch"]["per_device_train_batch_size"]
    assert read["max_steps"] == plan["schedule"]["max_steps"] and read["hf_dataset"] == plan["data"]["dataset"]


# --- TRL ---


def trl_parsed(path: Path) -> tuple:
    """What `trl sft --config` would run with; unknown keys are errors there, too (trl/scripts/sft.py)."""
    from trl.scripts.sft import make_parser

    return make_parser().parse_args_and_config(["--config", str(path)], fail_with_unknown_args=True)


@pytest.mark.parametrize("name", ["float32", "pretrain", "eight-cards"])
def test_trl_reads_it(three, name, tmp_path):
    path = written(tmp_path, "c.yaml", rendered(three[name], "trl"))
    plan = json.loads(three[name].read_text())
    # SFTConfig asks the hardware whether bf16 can be used; here only the reading is tested.
    text = path.read_text().replace("bf16: true", "bf16: false")
    path.write_text(text)
    _, training, model, mixture = trl_parsed(path)
    assert model.model_name_or_path == plan["model"]["name"] and model.dtype == "float32"
    assert training.learning_rate == plan["optimizer"]["learning_rate"]
    assert training.optim == "adamw_torch_fused" and training.max_length == plan["model"]["max_seq_length"]
    assert training.max_steps == plan["schedule"]["max_steps"] and training.packing is plan["data"]["packing"]
    assert training.warmup_steps == plan["schedule"]["warmup_steps"] and training.report_to == []
    assert training.assistant_only_loss is (plan["data"]["format"] == "messages")
    assert mixture.datasets[0].path == plan["data"]["dataset"]
    assert mixture.test_split_size == plan["data"]["eval_fraction"]


@pytest.mark.train
def test_trl_trains_from_it(for_cpu, tmp_path):
    """`trl sft --config` itself, on a CPU, to a saved model whose weights all moved."""
    from unsloth_fft.auditing.audit import audit_folders

    path = written(tmp_path, "c.yaml", rendered(for_cpu, "trl"))
    run = (
        "import sys\nfrom trl.scripts.sft import main, make_parser\n"
        "main(*make_parser().parse_args_and_config(sys.argv[1:], fail_with_unknown_args=False))\n"
    )
    # TRL 1.15 computes its loss in a Triton kernel; without a GPU Triton's own interpreter runs it.
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRITON_INTERPRET": "1"}
    checked(sys.executable, "-c", run, "--config", path, cwd=tmp_path, env=env)
    base = json.loads(for_cpu.read_text())["model"]["name"]
    assert audit_folders(Path(base), tmp_path / "fft-output").to_json()["verdict"] == "full"


# --- accelerate ---


@pytest.mark.parametrize("name", ["offload", "pretrain", "two-nodes"])
def test_accelerate_reads_it(three, name, tmp_path):
    """Its own reader, which refuses keys it does not know, and the launcher's own checks of what was read."""
    pytest.importorskip("accelerate")
    from accelerate.commands.config.config_args import load_config_from_file

    path = written(tmp_path, "c.yaml", rendered(three[name], "accelerate"))
    config = load_config_from_file(str(path))
    plan = json.loads(three[name].read_text())["distributed"]
    assert config.num_processes == plan["gpus"] * plan["nodes"] and config.num_machines == plan["nodes"]
    assert config.distributed_type == ("NO" if config.num_processes == 1 else "MULTI_GPU")
    assert config.fsdp_config == {} and config.mixed_precision == "no" and config.use_cpu is False


# --- Axolotl ---

AXOLOTL = """
import sys, yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig
value = yaml.safe_load(open(sys.argv[1]))
unknown = set(value) - set(AxolotlInputConfig.model_fields)
assert not unknown, unknown
result = validate_config(
    DictDefault(value),
    capabilities={"bf16": True, "n_gpu": 1, "compute_capability": "sm_90"},
    env_capabilities={"torch_version": "2.11.0"},
)
for key in value:
    assert value[key] in (None, False) or key in result, key
import json
print("RESULT" + json.dumps({key: result.get(key) for key in ("learning_rate", "optimizer", "bf16", "sequence_len")}))
"""


def axolotl_reads(path: Path, folder: Path) -> dict:
    finished = checked(consumer("axolotl"), "-c", AXOLOTL, path, env=environment(folder))
    return json.loads(finished.stdout.split("RESULT")[1].splitlines()[0])


@pytest.mark.parametrize("name", ["float32", "pretrain", "eight-cards"])
def test_axolotl_reads_it(three, name, tmp_path):
    plan = json.loads(three[name].read_text())
    read = axolotl_reads(written(tmp_path, "c.yaml", rendered(three[name], "axolotl")), tmp_path)
    assert read["learning_rate"] == plan["optimizer"]["learning_rate"]
    assert read["optimizer"] == "adamw_torch_fused" and not read["bf16"]
    assert read["sequence_len"] == plan["model"]["max_seq_length"]


@pytest.mark.parametrize("form", ["messages", "sharegpt", "alpaca", "prompt-completion", "text"])
def test_axolotl_reads_every_row_format(for_cpu, form, tmp_path):
    value = json.loads(for_cpu.read_text())
    value["data"]["format"] = form
    params = write_parameters(tmp_path / "p.json", value)
    axolotl_reads(written(tmp_path, "c.yaml", rendered(params, "axolotl")), tmp_path)


def test_axolotl_reads_several_gpus(three, tmp_path):
    value = json.loads(three["float32"].read_text())
    value["distributed"] = {"gpus": 4, "nodes": 1, "strategy": "fsdp2"}
    value["batch"]["effective_batch_size"] *= 4
    params = write_parameters(tmp_path / "p.json", value)
    axolotl_reads(written(tmp_path, "c.yaml", rendered(params, "axolotl")), tmp_path)


# --- Modal ---

MODAL = """
import importlib.util, json, sys
import modal
asked = {}
real = modal.App.function
def recording(self, **options):
    asked.update(options)
    return real(self, **options)
modal.App.function = recording
spec = importlib.util.spec_from_file_location("rendered", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
compile(module.SCRIPT, "train_fft.py", "exec")
assert isinstance(module.app, modal.App) and isinstance(module.train, modal.Function)
print(json.dumps({"gpu": asked["gpu"], "timeout": asked["timeout"], "volumes": list(asked["volumes"])}))
"""


@pytest.mark.parametrize(("name", "gpu"), [("offload", "A100-40GB"), ("pretrain", "H200"), ("eight-cards", "H100!:8")])
def test_modal_imports_it(three, name, gpu, tmp_path):
    path = written(tmp_path, "m.py", rendered(three[name], "modal"))
    finished = checked(consumer("modal"), "-c", MODAL, path, env=environment(tmp_path))
    read = json.loads(finished.stdout.splitlines()[-1])
    assert read["gpu"] == gpu and 3600 <= read["timeout"] <= 24 * 3600 and "/results" in read["volumes"]


# --- SkyPilot ---

SKY = """
import json, sys, sky

pytestmark = pytest.mark.slow
task = sky.Task.from_yaml(sys.argv[1])
resources = next(iter(task.resources))
print("RESULT" + json.dumps({"nodes": task.num_nodes, "accelerators": resources.accelerators, "run": task.run}))
"""


@pytest.mark.parametrize(
    ("name", "nodes", "accelerators"),
    [("offload", 1, {"A100": 1}), ("pretrain", 1, {"H200": 1}), ("two-nodes", 2, {"H200": 8})],
)
def test_skypilot_reads_it(three, name, nodes, accelerators, tmp_path):
    path = written(tmp_path, "s.yaml", rendered(three[name], "skypilot"))
    finished = checked(consumer("sky"), "-c", SKY, path, env=environment(tmp_path))
    read = json.loads(finished.stdout.split("RESULT")[1].splitlines()[0])
    assert (read["nodes"], read["accelerators"]) == (nodes, accelerators)
    assert ("--rendezvous" in read["run"]) == (nodes > 1)


def test_the_script_inside_skypilots_yaml_is_the_script(three):
    task = yaml.safe_load(rendered(three["one-card"], "skypilot"))
    inside = task["run"].split("<<'END_OF_FFT_SCRIPT'\n")[1].split("END_OF_FFT_SCRIPT\n")[0]
    assert inside.splitlines() == [line.rstrip() for line in rendered(three["one-card"], "script").splitlines()]


# --- shell: Slurm, SkyPilot's parts, Hugging Face Jobs ---


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("offload", "slurm"),
        ("pretrain", "slurm"),
        ("two-nodes", "slurm"),
        ("one-card", "hf-jobs"),
        ("pretrain", "hf-jobs"),
        ("float32", "hf-jobs"),
    ],
)
def test_bash_and_shellcheck_accept_it(three, name, target, tmp_path):
    path = written(tmp_path, "job.sh", rendered(three[name], target))
    checked("bash", "-n", path)
    checked(program("shellcheck"), "--severity=style", path)


@pytest.mark.parametrize("part", ["setup", "run"])
@pytest.mark.parametrize("name", ["offload", "pretrain", "two-nodes"])
def test_shellcheck_accepts_skypilots_commands(three, name, part, tmp_path):
    text = yaml.safe_load(rendered(three[name], "skypilot"))[part]
    path = written(tmp_path, "part.sh", "#!/usr/bin/env bash\n" + text)
    checked("bash", "-n", path)
    # SC1090, SC1091: the environment that is sourced exists only on the rented machine.
    checked(program("shellcheck"), "--exclude=SC1090,SC1091", path)


@pytest.mark.train
def test_slurm_runs_it_where_a_node_is_played_by_this_machine(for_cpu, tmp_path):
    """The batch file itself, with `srun` standing for one node; the environment is this Python's."""
    path = written(tmp_path, "job.sh", rendered(for_cpu, "slurm"))
    tools = tmp_path / "tools"
    tools.mkdir()
    written(tools, "srun", '#!/bin/sh\nexec "$@"\n').chmod(0o755)
    beside = tmp_path / "fft-env" / "bin"
    beside.mkdir(parents=True)
    written(beside, "torchrun", "#!/bin/sh\nexit 1\n").chmod(0o755)
    written(beside, "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n').chmod(0o755)
    env = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    checked("bash", path, env=env, cwd=tmp_path)
    assert json.loads((tmp_path / "fft-output" / "audit.json").read_text())["verdict"] == "full"


# --- Hugging Face Jobs ---


def test_the_hf_command_line_accepts_the_job(three, tmp_path):
    """`hf jobs uv run --dry-run` resolves the job without sending it; `mktemp` and everything else run as written."""
    hf = Path(sys.executable).with_name("hf")
    if not hf.exists():
        pytest.skip("the hf command is not installed here")
    params = json.loads(three["one-card"].read_text())
    path = written(tmp_path, "job.sh", rendered(write_parameters(tmp_path / "p.json", params), "hf-jobs"))
    env = {
        **os.environ, "PATH": f"{hf.parent}:{os.environ['PATH']}", "FFT_PUSH_TO": "me/model", "HF_TOKEN": "hf_test",
        "HOME": str(tmp_path),
    }  # fmt: skip
    finished = subprocess.run(
        ["bash", str(path), "--dry-run", "--namespace", "me"], capture_output=True, text=True, env=env, timeout=120
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "a100-large" in finished.stdout and "hf_test" not in finished.stdout


def test_flavours_are_those_of_the_installed_client():
    jobs = pytest.importorskip("huggingface_hub._jobs_api")
    from unsloth_fft.rendering import provider_cards

    known = {hardware.value for hardware in jobs.JobHardware}
    assert {flavour for counts in provider_cards.HF_JOBS.values() for flavour in counts.values()} <= known


def test_the_job_asks_for_its_variables_before_anything_else(three, tmp_path):
    path = written(tmp_path, "job.sh", rendered(three["one-card"], "hf-jobs"))
    env = {key: value for key, value in os.environ.items() if key not in ("HF_TOKEN", "FFT_PUSH_TO")}
    finished = subprocess.run(["bash", str(path)], capture_output=True, text=True, env=env)
    assert finished.returncode != 0 and "FFT_PUSH_TO" in finished.stderr


# --- Docker ---


@pytest.mark.parametrize("name", ["offload", "pretrain", "eight-cards"])
def test_hadolint_accepts_the_dockerfile(three, name, tmp_path):
    path = written(tmp_path, "Dockerfile", rendered(three[name], "docker"))
    checked(program("hadolint"), path)


def test_the_dockerfile_holds_the_script(three, tmp_path):
    python = consumer("dockerfile_parse")
    path = written(tmp_path, "Dockerfile", rendered(three["one-card"], "docker"))
    probe = (
        "import json, sys\nfrom dockerfile_parse import DockerfileParser\n"
        "parser = DockerfileParser(fileobj=open(sys.argv[1], 'rb+'))\n"
        "print(json.dumps([entry['instruction'] for entry in parser.structure]))\n"
    )
    instructions = json.loads(checked(python, "-c", probe, path).stdout)
    assert {"FROM", "RUN", "COPY", "ENTRYPOINT", "CMD"} <= set(instructions)
    assert rendered(three["one-card"], "script") in path.read_text()


# --- notebook ---


@pytest.mark.parametrize("name", ["offload", "pretrain", "one-card"])
def test_nbformat_accepts_the_notebook(three, name, tmp_path):
    python = consumer("nbformat")
    path = written(tmp_path, "n.ipynb", rendered(three[name], "notebook"))
    checked(python, "-c", "import nbformat, sys; nbformat.validate(nbformat.read(sys.argv[1], 4))", path)


# --- uv ---


def test_uv_reads_the_scripts_header(three, tmp_path):
    """PEP 723 as the specification's own regular expression and tomllib read it."""
    import re
    import tomllib

    text = rendered(three["one-card"], "script")
    pattern = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    found = re.search(pattern, text)
    assert found is not None and found.group("type") == "script"
    content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in found["content"].splitlines(True))
    metadata = tomllib.loads(content)
    assert "unsloth==2026.10.9" in metadata["dependencies"]
    assert sum(wanted.startswith("flashoptim>=0.1.4") for wanted in metadata["dependencies"]) == 1
    assert metadata["tool"]["uv"]["override-dependencies"]


def test_parameters_without_a_plan_render_for_places_that_rent_nothing(tmp_path):
    params = write_parameters(tmp_path / "p.json", minimal_parameters("owner/model", "owner/data"))
    for target in ("script", "notebook", "slurm", "docker", "unsloth-cli"):
        assert "nothing is predicted" in " ".join(rendered(params, target).split())
