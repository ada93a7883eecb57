"""accelerate: the configuration of `accelerate launch`, for clusters whose jobs are started with it.

It starts the processes and nothing else: Unsloth shards the model itself (UNSLOTH_FSDP2, which the script sets), and
would leave that to accelerate were FSDP named here. Of the processes on a machine the script uses the first, which
starts one a GPU as `train` does.
"""

from __future__ import annotations

from typing import Any

from ...core import yaml_text
from ...settings.parameters import Parameters
from .. import shell
from ..target import Rendered, Target, commented, plan_comment, require_data, wrapped

SCRIPT = "train_fft.py"


def render(parameters: Parameters, file: str) -> Rendered:
    """The YAML file; the script that it starts is another target."""
    require_data(parameters, "accelerate")
    run = _run(parameters, file)
    comments = [
        *plan_comment(parameters),
        "",
        f"It starts {SCRIPT}: unsloth_fft_tool.py render --target script --output {SCRIPT}",
        f"Run: {run}",
    ]
    text = commented(wrapped(comments)) + yaml_text.dump(_config(parameters))
    return Rendered(text, run=run, variables=("HF_TOKEN",))


def _config(parameters: Parameters) -> dict[str, Any]:
    """By the names of accelerate 1.15.0, commands/config/config_args.py."""
    gpus, nodes = parameters.distributed.gpus, parameters.distributed.nodes
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU" if gpus * nodes > 1 else "NO",
        "mixed_precision": "no",  # the script's training arguments say what is computed in which type
        "num_machines": nodes,
        "num_processes": gpus * nodes,
        "machine_rank": 0,
        "use_cpu": parameters.plan is not None and parameters.plan.hardware.name == "cpu",
    }
    if nodes > 1:
        config |= {"rdzv_backend": "c10d", "same_network": True, "main_process_port": shell.PORT}
    return config


def _run(parameters: Parameters, file: str) -> str:
    where = " --machine_rank RANK --main_process_ip FIRST_MACHINE" if parameters.distributed.nodes > 1 else ""
    return f"{_given_time(parameters)}accelerate launch --config_file {file}{where} {SCRIPT} --output fft-output"


def _given_time(parameters: Parameters) -> str:
    """accelerate starts several processes through torchrun, which ends them 30 s after a TERM unless this is set
    (torch 2.14.1, distributed/launcher/api.py; accelerate 1.15.0, commands/launch.py, multi_gpu_launcher)."""
    if parameters.distributed.gpus * parameters.distributed.nodes == 1:
        return ""
    return f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={shell.seconds_to_save(parameters)} "


TARGET = Target("accelerate", "accelerate_fft.yaml", "YAML for `accelerate launch`, which starts the script", render)
