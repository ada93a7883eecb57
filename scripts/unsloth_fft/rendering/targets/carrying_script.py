"""script: one Python file with inline metadata, for `uv run` on the GPU machine."""

from __future__ import annotations

from ...settings.parameters import Parameters
from ..script import script_text
from ..target import Rendered, Target, require_data


def render(parameters: Parameters, file: str) -> Rendered:
    """The self-contained script. It starts one process a GPU by itself; torchrun is not needed, and does no harm."""
    require_data(parameters, "script")
    return Rendered(script_text(parameters, file), run=run_command(parameters, file), variables=("HF_TOKEN",))


def run_command(parameters: Parameters, file: str) -> str:
    """How to start the script on the machine, or the first of the machines, planned for."""
    meeting = " --rendezvous FIRST_MACHINE:29500" if parameters.distributed.nodes > 1 else ""
    others = " (on the others with --follow)" if meeting else ""
    return f"uv run {file} --output fft-output{meeting}{others}"


TARGET = Target("script", "train_fft.py", "one self-contained Python file for `uv run`", render)
