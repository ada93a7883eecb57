"""skypilot: a task file for `sky launch` or `sky jobs launch`, on one node or several."""

from __future__ import annotations

import shlex
from typing import Any

from ...core import yaml_text
from ...settings.parameters import Parameters
from .. import provider_cards, shell
from ..target import Rendered, Target, commented, plan_comment, require_data, wrapped

ONE_MACHINE = "python train_fft.py {arguments}\n"
SEVERAL = """head="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"
others=()
if [ "$SKYPILOT_NODE_RANK" != 0 ]; then others=(--follow --nothing-shared); fi
python train_fft.py {arguments} --rendezvous "$head:{port}" "${{others[@]}}"
"""


def render(parameters: Parameters, file: str) -> Rendered:
    """The task file. Raises BadInput when SkyPilot does not know the card."""
    require_data(parameters, "skypilot", elsewhere=True)
    name = shell.job_name(parameters)
    task: dict[str, Any] = {
        "name": name,
        "num_nodes": parameters.distributed.nodes,
        "resources": _resources(parameters),
        "envs": {"HF_TOKEN": ""},
        "file_mounts": _file_mounts(parameters),
        "setup": (
            "set -e\n"
            "uv venv --seed --python 3.12 ~/fft-env || python3 -m venv ~/fft-env\n"
            "~/fft-env/bin/pip install -q uv\n"
            f"source ~/fft-env/bin/activate\n{shell.install_command(parameters, '~/fft-env/bin/python')}\n"
        ),
        "run": (
            "set -e\nsource ~/fft-env/bin/activate\n"
            + shell.write_script(parameters, "train_fft.py")
            + _start(parameters)
        ),
    }
    if not task["file_mounts"]:
        del task["file_mounts"]
    notes = [
        "",
        f"Run: sky launch -c {name} {file} --env HF_TOKEN",
        "The result stays in ~/sky_workdir/fft-output on the head node: fetch it before `sky down`.",
        "HF_TOKEN is empty here; --env HF_TOKEN takes it from your environment.",
    ]
    text = commented(wrapped([*plan_comment(parameters), *notes])) + yaml_text.dump(task)
    return Rendered(text, run=f"sky launch -c {name} {file} --env HF_TOKEN", variables=("HF_TOKEN",))


def _resources(parameters: Parameters) -> dict[str, Any]:
    card = provider_cards.planned_card(parameters, "skypilot", provider_cards.SKYPILOT)
    resources: dict[str, Any] = {}
    if card is not None:
        resources["accelerators"] = f"{provider_cards.SKYPILOT[card]}:{parameters.distributed.gpus}"
    if parameters.plan is not None:
        resources["memory"] = f"{max(8, int(parameters.plan.predicted.host_ram_gib * 1.2) + 1)}+"
    resources["disk_size"] = max(100, int((parameters.model.parameters or 0) * 20 / 2**30) + 50)
    return resources


def _file_mounts(parameters: Parameters) -> dict[str, str]:
    mounts = {}
    data, model = shell.remote_data(parameters), shell.remote_model(parameters)
    if data is not None:
        mounts[data] = str(parameters.data.dataset)
    if model is not None:
        mounts[model] = parameters.model.name
    return mounts


def _start(parameters: Parameters) -> str:
    arguments = shlex.join(shell.script_arguments(parameters, "fft-output"))
    if parameters.distributed.nodes == 1:
        return ONE_MACHINE.format(arguments=arguments)
    return SEVERAL.format(port=shell.PORT, arguments=arguments)


TARGET = Target("skypilot", "skypilot_train_fft.yaml", "a task file for `sky launch`", render)
