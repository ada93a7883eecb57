"""hf-jobs: a shell file that starts the script on Hugging Face Jobs and keeps the model in a private repository."""

from __future__ import annotations

import shlex

from ...core.errors import BadInput
from ...settings.parameters import Parameters
from .. import provider_cards, shell
from ..target import (
    Rendered,
    Target,
    commented,
    is_local_data,
    is_local_model,
    plan_comment,
    require_data,
    require_one_node,
    wrapped,
)

TEMPLATE = """#!/usr/bin/env bash
{comments}
# A job's disk is gone when it ends: FFT_PUSH_TO names the private repository that receives the model.
# Needs: pip install huggingface_hub, HF_TOKEN in the environment (only its name is written here).
set -euo pipefail
: "${{FFT_PUSH_TO:?name the private repository for the model, as OWNER/NAME}}"
: "${{HF_TOKEN:?set it to a token that may write to $FFT_PUSH_TO}}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

{write_script}
hf jobs uv run --flavor {flavor} --timeout {hours}h --secrets HF_TOKEN "$@" \\
  {extra}"$folder/train_fft.py" {arguments} --push-to-hub "$FFT_PUSH_TO"
"""


def render(parameters: Parameters, file: str) -> Rendered:
    """The shell file. Raises BadInput for local files, or a card that is not there."""
    require_data(parameters, "hf-jobs", elsewhere=True)
    dataset = parameters.data.dataset
    require_one_node(parameters, "hf-jobs")
    if dataset is not None and is_local_data(dataset):
        raise BadInput(
            f"data/dataset is {dataset} on this machine, which a job cannot read",
            hint=f"hf upload OWNER/NAME {shlex.quote(dataset)} --repo-type dataset --private,"
            " then plan with --dataset OWNER/NAME",
        )
    if is_local_model(parameters.model.name):
        raise BadInput(
            f"model/name is {parameters.model.name} on this machine, which a job cannot read",
            hint="hf upload OWNER/NAME FOLDER --private, then plan with --model OWNER/NAME",
        )
    text = TEMPLATE.format(
        comments=commented(wrapped(plan_comment(parameters))),
        write_script=shell.write_script(parameters, '"$folder/train_fft.py"'),
        flavor=_flavor(parameters),
        hours=shell.hours_allowed(parameters),
        extra="",
        arguments=shlex.join(shell.script_arguments(parameters, "fft-output")),
    )
    return Rendered(text, run=f"FFT_PUSH_TO=OWNER/NAME bash {file} --detach", variables=("HF_TOKEN", "FFT_PUSH_TO"))


def _flavor(parameters: Parameters) -> str:
    card = provider_cards.planned_card(parameters, "hf-jobs", provider_cards.HF_JOBS)
    count = 0 if card is None else parameters.distributed.gpus
    flavors = provider_cards.HF_JOBS[card or "cpu"]
    if count not in flavors:
        raise BadInput(
            f"distributed/gpus is {count}; Hugging Face Jobs has {card} by {', '.join(map(str, flavors))}",
            hint="plan with --gpus of one of these numbers, or render --target skypilot, modal or slurm",
        )
    return flavors[count]


TARGET = Target("hf-jobs", "hf_jobs_train_fft.sh", "a shell file for Hugging Face Jobs", render)
