"""modal: a Python file for `modal run`, which rents the planned card and keeps the result in a volume."""

from __future__ import annotations

import os

from ...core.errors import BadInput
from ...settings.parameters import Parameters
from .. import provider_cards, shell
from ..script import script_text
from ..target import Rendered, Target, commented, plan_comment, require_data, require_one_node, wrapped

LONGEST_HOURS = 24  # modal.com/docs/guide/timeouts: a function's timeout is at most 24 hours (read 2026-11-23)

TEMPLATE = """{comments}
# Set up once: pip install modal && modal setup
# Gated or private models: put HF_TOKEN into a Modal secret and name that secret in MODAL_HF_SECRET.
# Run: modal run {file_name}            Fetch: modal volume get {name} /model

import os
import subprocess
import sys
from pathlib import Path

import modal

SCRIPT = {script}
IMAGE = (
    modal.Image.debian_slim(python_version="3.12")
    .apt_install("build-essential")
    .pip_install("uv")
    .run_commands({install})
{files})
RESULTS = modal.Volume.from_name("{name}", create_if_missing=True)
DOWNLOADS = modal.Volume.from_name("fft-hub-cache", create_if_missing=True)
SECRETS = [modal.Secret.from_name(os.environ["MODAL_HF_SECRET"])] if "MODAL_HF_SECRET" in os.environ else []

app = modal.App("{name}")


@app.function(
    image=IMAGE,
    gpu={gpu},
    cpu={cpus},
    memory={memory_mib},  # MiB
    timeout={seconds},  # seconds: half as much again as predicted
    volumes={{"/results": RESULTS, "/root/.cache/huggingface": DOWNLOADS}},
    secrets=SECRETS,
)
def train() -> int:
    Path("/root/train_fft.py").write_text(SCRIPT)
    code = subprocess.run([sys.executable, "/root/train_fft.py", {arguments}]).returncode
    RESULTS.commit()
    if code != 0:
        raise SystemExit(f"training ended with exit code {{code}}; what was saved is in the volume {name}")
    return code


@app.local_entrypoint()
def main() -> None:
    train.remote()
"""


def render(parameters: Parameters, file: str) -> Rendered:
    """The Modal file. Raises BadInput for several nodes, a card Modal lacks, or a run longer than it allows."""
    require_data(parameters, "modal", elsewhere=True)
    require_one_node(parameters, "modal")
    name = shell.job_name(parameters)
    hours = shell.hours_allowed(parameters)
    if hours > LONGEST_HOURS:
        raise BadInput(
            f"the run may take {hours} hours, and a Modal function ends after {LONGEST_HOURS}",
            hint="plan for more or faster GPUs, or fewer steps; or render --target skypilot or slurm",
        )
    arguments = shell.script_arguments(parameters, "/results")
    text = TEMPLATE.format(
        comments=commented(wrapped(plan_comment(parameters))),
        file_name=file,
        name=name,
        script=literal(script_text(parameters)),
        install=repr(shell.install_command(parameters)),
        files=_files(parameters),
        gpu=repr(_gpu(parameters)),
        cpus=max(4, 4 * parameters.distributed.gpus),
        memory_mib=_memory_mib(parameters),
        seconds=hours * 3600,
        arguments=", ".join(map(repr, arguments)),
    )
    return Rendered(text, run=f"modal run {file}", variables=("MODAL_HF_SECRET",))


def _gpu(parameters: Parameters) -> str | None:
    card = provider_cards.planned_card(parameters, "modal", provider_cards.MODAL)
    if card is None:
        return None
    name, count = provider_cards.MODAL[card], parameters.distributed.gpus
    most = provider_cards.MODAL_MOST.get(name, provider_cards.MODAL_MOST_OTHERS)
    if count > most:
        raise BadInput(f"distributed/gpus is {count}; Modal has at most {most} of {name}", hint="plan for fewer")
    return name if count == 1 else f"{name}:{count}"


def _memory_mib(parameters: Parameters) -> int:
    predicted = 8.0 if parameters.plan is None else parameters.plan.predicted.host_ram_gib
    return max(8192, int(predicted * 1.2) * 1024)


def _files(parameters: Parameters) -> str:
    data, model = shell.remote_data(parameters), shell.remote_model(parameters)
    lines = ""
    if data is not None:
        kind = "dir" if os.path.isdir(str(parameters.data.dataset)) else "file"
        lines += f"    .add_local_{kind}({parameters.data.dataset!r}, {data!r})\n"
    if model is not None:
        lines += f"    .add_local_dir({parameters.model.name!r}, {model!r})\n"
    return lines


def literal(text: str) -> str:
    """`text` as a Python string literal, readable where that is safe."""
    return repr(text) if "'''" in text or "\\" in text[-2:] else f"r'''{text}'''"


TARGET = Target("modal", "modal_train_fft.py", "a file for `modal run`", render)
