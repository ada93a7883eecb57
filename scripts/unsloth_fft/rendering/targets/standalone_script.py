"""script: one Python file with inline metadata, for `uv run` on the GPU machine."""

from __future__ import annotations

from ...settings.parameters import Parameters
from ..script import script_text
from ..target import Rendered, Target, require_dataset


def render(parameters: Parameters, file: str) -> Rendered:
    """The self-contained script."""
    require_dataset(parameters, "script")
    processes = parameters.distributed.gpus * parameters.distributed.nodes
    return Rendered(script_text(parameters), run=run_command(parameters, file), variables=_variables(processes))


def run_command(parameters: Parameters, file: str) -> str:
    """How to start the script on the machine planned for."""
    gpus, nodes = parameters.distributed.gpus, parameters.distributed.nodes
    if gpus * nodes == 1:
        return f"uv run {file} --output fft-output"
    launcher = f"torchrun --nproc-per-node {gpus}"
    if nodes > 1:
        launcher += f" --nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint HEAD_NODE:29500"
    return f"uv sync --script {file} && {launcher} {file} --output fft-output   (in that environment)"


def _variables(processes: int) -> tuple[str, ...]:
    return ("HF_TOKEN",) if processes == 1 else ("HF_TOKEN", "RANK", "WORLD_SIZE")


TARGET = Target("script", "train_fft.py", "one self-contained Python file for `uv run`", render)
