"""A rendered job that is told to stop is given the time to save, whoever of its processes gets the signal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import conversation_rows, write_jsonl
from render_helpers import rendered, tiny_parameters
from tools.measurements.kill_and_resume import steps_logged
from unsloth_fft.commands import plan
from unsloth_fft.estimates import disk
from unsloth_fft.settings import parameters
from unsloth_fft.training import checkpoints, manifest

STEPS = 40
TWO = {
    "distributed": {"gpus": 2, "nodes": 1, "strategy": "fsdp2"},
    "batch": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "effective_batch_size": 4},
    "schedule": {"max_steps": STEPS},
}


def planned(folder: Path, *flags: str) -> Path:
    path = folder / "params.json"
    fixed = ("--gpu", "H200", "--host-ram-gib", "1500", "--max-steps", "100", "--gpus", "8")
    given = (*fixed, "--dataset", "rows.jsonl", "--dataset-elsewhere", "--output", str(path), *flags)
    assert plan.main(given) == 0
    return path


def without_marks(text: str) -> str:
    """Comments as running text."""
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines())


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"])
def test_the_time_to_save_follows_the_checkpoint_and_is_given_by_every_target(tmp_path: Path, model: str) -> None:
    path = planned(tmp_path, "--model", model)
    found = parameters.load(path)
    assert found.plan is not None and found.plan.predicted.hours_breakdown is not None
    predicted = found.plan.predicted
    needed = disk.save_seconds(found.model.parameters or 0, found.precision.weights)
    needed += 3600 * predicted.hours_breakdown["steps"] / predicted.steps
    slurm = rendered(path, "slurm")
    given = re.search(r"^#SBATCH --signal=TERM@(\d+)$", slurm, re.MULTILINE)
    hours = re.search(r"^#SBATCH --time=(\d+):00:00$", slurm, re.MULTILINE)
    assert given and hours
    seconds = int(given[1])
    assert seconds >= 2 * needed
    assert 3600 * int(hours[1]) > seconds + 3600 * predicted.hours
    assert f"It is given {seconds} s: twice what" in without_marks(slurm)
    assert f"--stop-timeout {seconds} " in rendered(path, "docker")
    assert f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={seconds} accelerate launch" in without_marks(rendered(path, "accelerate"))


def cluster(folder: Path) -> dict[str, str]:
    """The environment of a batch job in `folder`, with what Slurm and the installed environment bring."""
    tools, beside = folder / "tools", folder / "fft-env" / "bin"
    for made in (tools, beside):
        made.mkdir(parents=True)
    for path, text in (
        (tools / "srun", '#!/bin/sh\nexec "$@"\n'),
        (beside / "torchrun", "#!/bin/sh\n"),
        (beside / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'),
    ):
        path.write_text(text)
        path.chmod(0o755)
    calm = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "SLURM_SUBMIT_DIR": str(folder)}
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, **calm, "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}


def send_to_every_process_of_the_step(job: subprocess.Popen[str]) -> None:
    """As Slurm does, which spares the batch shell alone."""
    for process in psutil.Process(job.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


@pytest.mark.train
def test_slurms_warning_to_every_process_ends_in_a_whole_checkpoint_and_the_script_goes_on_under_torchrun_too(
    tmp_path: Path, tiny_model: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))
    text = rendered(tiny_parameters(tmp_path, tiny_model, rows, **TWO), "slurm")
    (tmp_path / "job.sh").write_text(text)
    output, env = tmp_path / "fft-output", cluster(tmp_path)
    given_s = int(re.findall(r"--signal=TERM@(\d+)", text)[0])

    job = started(["bash", "job.sh"], tmp_path, env)
    while job.poll() is None and not steps_logged(output):
        time.sleep(0.01)
    assert job.poll() is None, job.communicate()[0]
    began = time.monotonic()
    send_to_every_process_of_the_step(job)
    said, _ = job.communicate(timeout=given_s)
    assert job.returncode == 130, said
    assert time.monotonic() - began < given_s
    state = json.loads((output / "session.json").read_text())
    assert state["state"] == "interrupted" and 0 < state["step"] < STEPS
    saved = checkpoints.newest(output / "checkpoints")
    assert saved is not None and checkpoints.step_of(saved) == state["step"]
    assert manifest.problem(saved, state["step"]) is None
    assert "; saved" in said and "Traceback" not in said

    # What the same sbatch would run; the plan starts its own two processes, so of torchrun's two one has nothing to do.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    again = started([*launcher, "train_fft-7.py", "--output", "fft-output", "--resume"], tmp_path, env)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert f"resuming at step {state['step']}" in said
    assert json.loads((output / "audit.json").read_text())["verdict"] == "full"


def started(command: list[str], folder: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
