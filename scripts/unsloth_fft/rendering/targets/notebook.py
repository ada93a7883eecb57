"""notebook: an .ipynb for Colab, Kaggle or Jupyter, with the audit and the loss plot inline."""

from __future__ import annotations

import json
from typing import Any

from ...core.errors import BadInput
from ...settings.parameters import Parameters
from .. import made_for, script, standalone
from ..script_settings import settings_of
from ..target import Rendered, Target, plan_comment, require_dataset

INSTALL = """import importlib.util, subprocess, sys
# Installs only what is missing; restart the kernel afterwards if it asks you to.
wanted = {wanted}
if any(importlib.util.find_spec(name) is None for name in {names}):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)"""

RUN = """OUTPUT = Path("fft-output")
result = run(SETTINGS, {training}, OUTPUT, resume=OUTPUT.exists())
result"""

SHOW = """from IPython.display import HTML, Image, display

moved = json.loads((OUTPUT / "audit.json").read_text())
rows = "".join(
    f"<tr><td>{row['name']}</td><td>{row['elements']:,}</td><td>{row['changed']:,}</td>"
    f"<td>{row['changed_in_bfloat16']:,}</td></tr>" for row in moved["tensors"]
)
display(HTML(
    f"<p>Verdict: <b>{moved['verdict']}</b>. {moved['changed']:,} of {moved['elements']:,} weights moved.</p>"
    f"<table><tr><th>tensor</th><th>weights</th><th>moved</th><th>moved in bfloat16</th></tr>{rows}</table>"
))
display(Image(filename=str(OUTPUT / "loss.png")))"""

ASK = """QUESTION = "What did you learn?"
try:
    print(answer(OUTPUT / "model", QUESTION))
except (ValueError, TypeError) as error:  # a model of raw text has no chat template
    print(f"no answer: {error}")"""


def render(parameters: Parameters, file: str) -> Rendered:
    """The notebook. Raises BadInput for a plan of several GPUs, which one kernel cannot run."""
    require_dataset(parameters, "notebook")
    processes = parameters.distributed.gpus * parameters.distributed.nodes
    if processes > 1:
        raise BadInput(
            f"the plan is for {processes} GPUs, and a notebook kernel is one process",
            hint="plan with --gpus 1, or render --target script, slurm or skypilot",
        )
    text = json.dumps(_notebook(parameters), indent=1, ensure_ascii=False) + "\n"
    return Rendered(text, run=f"open {file} in Jupyter, Colab or Kaggle with a GPU, and run all cells")


def _notebook(parameters: Parameters) -> dict[str, Any]:
    parts = standalone.parts_for(parameters)
    plan = "\n".join(f"{line}  " if line else "" for line in plan_comment(parameters))
    cells = [
        _markdown(f"# Full fine-tuning with Unsloth\n\n{plan}"),
        _markdown("## Install"),
        _code(_install(parameters)),
        _markdown("## Settings\n\nWhat the plan chose. Change the data set here; plan anew to change the rest."),
        _code(f"{script.imports(parts)}\n{script.settings_text(settings_of(parameters))}"),
    ]
    for title, code in script.sections(parts):
        cells += [_markdown(f"### {title}"), _code(code)]
    cells += [
        _markdown("## Train\n\nInterrupting saves a checkpoint; running the cell again goes on from it."),
        _code(RUN.format(training=standalone.training_for(parameters))),
        _markdown("## Which weights moved, and how the loss fell"),
        _code(SHOW),
        _markdown("## Ask it something"),
        _code(ASK),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "accelerator": "GPU",
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _install(parameters: Parameters) -> str:
    names = [name for name in made_for.packages(parameters) if name != "safetensors"]
    return INSTALL.format(wanted=json.dumps(made_for.requirements(parameters)), names=json.dumps(names))


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": text.rstrip("\n")}


TARGET = Target("notebook", "train_fft.ipynb", "Colab, Kaggle or Jupyter, audit and plot inline", render)
