"""slurm: a batch file for `sbatch`, one torchrun a node."""

from __future__ import annotations

import shlex

from ...settings.parameters import Parameters
from .. import shell
from ..target import Rendered, Target, commented, plan_comment, require_data, wrapped

TEMPLATE = """#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{gpu_line}#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}G
#SBATCH --time={hours}:00:00
#SBATCH --signal=TERM@{warning}
#SBATCH --output=%x-%j.log
{comments}
# FFT_WORK: a folder that every node sees, for the environment and the result (default: where sbatch was called).
# HF_TOKEN: needed for gated models; sbatch passes it on from your environment.
{stopping}
set -euo pipefail
work="${{FFT_WORK:-$SLURM_SUBMIT_DIR}}"
environment="$work/fft-env"
script="$work/train_fft-$SLURM_JOB_ID.py"

if [ ! -x "$environment/bin/torchrun" ]; then
  command -v uv > /dev/null || {{ echo "error: uv is not on the PATH; see docs.astral.sh/uv" >&2; exit 4; }}
  uv venv --python 3.12 "$environment"
  {install}
fi

{write_script}
{start}
"""

ONE = 'srun "$environment/bin/python" "$script" {arguments}'
SEVERAL = """head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
port=$((10000 + SLURM_JOB_ID % 10000 * 2))  # this and the next are this job's own: another may run on the same node
# The first node keeps the run's records; the others follow it.
# shellcheck disable=SC2016
srun bash -c 'if [ "$SLURM_NODEID" != 0 ]; then set -- "$@" --follow; fi; exec "$@"' fft \\
  "$environment/bin/python" "$script" {arguments} --rendezvous "$head:$port\""""


def render(parameters: Parameters, file: str) -> Rendered:
    """The batch file."""
    require_data(parameters, "slurm")
    gpus, nodes = parameters.distributed.gpus, parameters.distributed.nodes
    cpu_plan = parameters.plan is not None and parameters.plan.hardware.name == "cpu"
    predicted = 8.0 if parameters.plan is None else parameters.plan.predicted.host_ram_gib
    start = ONE if nodes == 1 else SEVERAL
    text = TEMPLATE.format(
        name=shell.job_name(parameters),
        nodes=nodes,
        gpu_line="" if cpu_plan else f"#SBATCH --gpus-per-node={gpus}\n",
        cpus=max(4, 4 * gpus),
        memory=max(8, int(predicted * 1.2) + 1),
        hours=shell.hours_allowed(parameters),
        warning=shell.seconds_to_save(parameters),
        stopping=commented(wrapped([_stopping(parameters)])).rstrip("\n"),
        comments=commented(wrapped(plan_comment(parameters))),
        install=shell.install_command(parameters, '"$environment/bin/python"'),
        write_script=shell.write_script(parameters, '"$script"'),
        start=start.format(arguments=_arguments(parameters)),
    )
    return Rendered(text, run=f"sbatch {file}", variables=("FFT_WORK", "HF_TOKEN"))


def _stopping(parameters: Parameters) -> str:
    """Slurm's manual, sbatch --signal: all job steps get the signal, up to 60 s early; KillWait: slurm.conf."""
    return (
        "Before the time is up Slurm sends TERM to every process; the run finishes its step and saves, and the same"
        f" sbatch goes on from there. It is given {shell.how_long_to_save(parameters)}."
        " The same at any time: scancel --signal=TERM JOB."
        " A plain scancel, or being preempted, leaves what your cluster says (KillWait, GraceTime; often 30 s): where"
        " that is too short, the same sbatch goes on from the last whole checkpoint."
    )


def _arguments(parameters: Parameters) -> str:
    """Paths stay as planned: a cluster's nodes see the same file system."""
    given = [] if parameters.data.dataset is None else [" " + shlex.join(["--dataset", parameters.data.dataset])]
    return '--output "$work/fft-output" --resume' + "".join(given)


TARGET = Target("slurm", "slurm_train_fft.sh", "a batch file for `sbatch`, one node or several", render)
