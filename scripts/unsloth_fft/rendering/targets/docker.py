"""docker: a Dockerfile that holds the script and its packages, and the command that runs it."""

from __future__ import annotations

import json
import shlex

from ...settings.parameters import Parameters
from .. import shell
from ..script import script_text
from ..target import Rendered, Target, commented, plan_comment, require_data, require_one_node, wrapped

TEMPLATE = """# syntax=docker/dockerfile:1
{comments}
# Run: {run}
{stopping}
# HF_TOKEN is passed on from your environment by name; nothing secret is stored in the image.
FROM python:3.12-slim
# Triton compiles small helpers with the C compiler at the first step.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends build-essential \\
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir 'uv>=0.9' \\
    && {install} --no-cache
WORKDIR /fft
COPY <<'{end}' /app/train_fft.py
{script}{end}

ENTRYPOINT {entry}
CMD {command}
"""


def render(parameters: Parameters, file: str) -> Rendered:
    """The Dockerfile. Raises BadInput for several nodes."""
    require_data(parameters, "docker", elsewhere=True)
    require_one_node(parameters, "docker")
    name = shell.job_name(parameters)
    run = f"docker build -t {name} -f {file} . && {_run(parameters, name)}"
    text = TEMPLATE.format(
        comments=commented(wrapped(plan_comment(parameters))),
        run=run,
        stopping=commented(
            wrapped([f"`docker stop` lets it save: within {shell.how_long_to_save(parameters)}."])
        ).rstrip("\n"),
        install=shell.install_command(parameters),
        end=shell.END,
        script=script_text(parameters),
        entry=json.dumps(["python", "/app/train_fft.py"]),
        command=json.dumps(shell.script_arguments(parameters, "/fft/fft-output")),
    )
    return Rendered(text, run=run, variables=("HF_TOKEN",))


def _run(parameters: Parameters, name: str) -> str:
    cpu_plan = parameters.plan is not None and parameters.plan.hardware.name == "cpu"
    # Docker waits 10 s between TERM and KILL by itself, which is too short for a checkpoint.
    words = [f"docker run --rm --stop-timeout {shell.seconds_to_save(parameters)}"]
    if not cpu_plan:
        words.append("--gpus all --ipc=host")
    words.append('-e HF_TOKEN -v "$PWD:/fft" -v "$HOME/.cache/huggingface:/root/.cache/huggingface"')
    data, model = shell.remote_data(parameters), shell.remote_model(parameters)
    for source, place in ((parameters.data.dataset, data), (parameters.model.name, model)):
        if source is not None and place is not None:
            words.append(f"--mount {_mount(source, place)}")
    return " ".join([*words, name])


def _mount(source: str, place: str) -> str:
    """One word: a read-only mount of `source`, whose fields are comma-separated values to docker.

    `-v` could not name a path with a colon. A path that begins with no slash is one of the folder the command runs in.
    """
    if source.startswith("~/"):
        base, rest = '"$HOME"', source[1:]
    elif source.startswith("/"):
        base, rest = "", source
    else:
        base, rest = '"$PWD"', "/" + source.removeprefix("./")
    rest = rest.replace('"', '""')
    return f"""{shlex.quote('type=bind,"source=')}{base}{shlex.quote(f'{rest}",target={place},readonly')}"""


TARGET = Target("docker", "Dockerfile.fft", "a Dockerfile and the command to run it", render)
