"""notebook: an .ipynb for Colab, Kaggle or Jupyter, with the audit and the loss plot inline.

Its cells write the script of the target `script` and run that, so that the notebook trains as everything else does,
and the kernel keeps no memory of the GPU.
"""

from __future__ import annotations

import json
from typing import Any

from ...settings.parameters import Parameters
from .. import carried, made_for, script
from ..target import Rendered, Target, plan_comment, require_data, require_one_node

SCRIPT = "train_fft.py"

INSTALL = """import subprocess, sys

# Puts these versions where others are; the training runs in a process of its own, so no restart is needed.
WANTED = {wanted}
OVERRIDES = {overrides}
with open("fft-overrides.txt", "w") as file:
    file.write("\\n".join(OVERRIDES) + "\\n")
subprocess.run([sys.executable, "-m", "pip", "install", "-q", "uv"], check=True)
install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable]
subprocess.run([*install, "--overrides", "fft-overrides.txt", *WANTED], check=True)"""

RUN = """import json, os, signal
from pathlib import Path

OUTPUT = Path("fft-output")


def run(*arguments):
    \"\"\"Run the script, show what it says, and raise when it fails. Interrupting lets it save a checkpoint.\"\"\"
    command = [sys.executable, "-u", "{script}", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1, start_new_session=True
    )
    for asked in range(2):
        try:
            for line in process.stdout:
                print(line, end="")
            break
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
    if process.wait() != 0:
        raise SystemExit(f"the script ended with exit code {{process.returncode}}")"""

TRY = """# Three steps on the longest rows, in a folder of their own that is gone afterwards; may be skipped.
run("--trial-steps", 3)"""

TRAIN = """run("--output", OUTPUT, "--resume")"""

SHOW = """from IPython.display import HTML, Image, display

moved = json.loads((OUTPUT / "audit.json").read_text())
rows = "".join(
    f"<tr><td>{row['name']}</td><td>{row['elements']:,}</td><td>{row['changed']:,}</td></tr>"
    for row in moved["tensors"]
)
display(HTML(
    f"<p>Verdict: <b>{moved['verdict']}</b>. {moved['changed']:,} of {moved['elements']:,} weights changed.</p>"
    f"<table><tr><th>tensor</th><th>weights</th><th>changed</th></tr>{rows}</table>"
))
display(Image(filename=str(OUTPUT / "loss.png")))"""

ASK = """# Answers of the base model and of the trained one, and the loss on the rows that were held out.
run("tool", "eval", OUTPUT)"""


def render(parameters: Parameters, file: str) -> Rendered:
    """The notebook. Raises BadInput for several nodes."""
    require_data(parameters, "notebook")
    require_one_node(parameters, "notebook")
    text = json.dumps(_notebook(parameters), indent=1, ensure_ascii=False) + "\n"
    return Rendered(text, run=f"open {file} in Jupyter, Colab or Kaggle with a GPU, and run all cells")


def _notebook(parameters: Parameters) -> dict[str, Any]:
    plan = "\n".join(f"{line}  " if line else "" for line in plan_comment(parameters))
    readable = script.readable(parameters, SCRIPT)
    cells = [
        _markdown(
            "# Full fine-tuning with Unsloth\n\nOpen this in Jupyter, Colab or Kaggle with a GPU, and run all cells."
            f"\n\n{plan}"
        ),
        _markdown("## Install"),
        _code(_install(parameters)),
        _markdown(
            "## Settings\n\nThis cell and the next write the script that trains. Change the data set in SETTINGS here;"
            " plan anew to change the rest."
        ),
        _code(f"%%writefile {SCRIPT}\n{readable}"),
        _markdown("The package that the script brings along; nothing to read here."),
        _hidden(f"%%writefile -a {SCRIPT}\n{script.CARRIED.format(package=carried.text())}"),
        _markdown("## Run it" if script.is_for_several(parameters) else "## Try it"),
        _code(RUN.format(script=SCRIPT)),
        *([] if script.is_for_several(parameters) else [_code(TRY)]),
        _markdown("## Train\n\nInterrupting saves a checkpoint; running the cell again goes on from it."),
        _code(TRAIN),
        _markdown("## Which weights moved, and how the loss fell"),
        _code(SHOW),
        _markdown("## Before and after"),
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
    overrides = made_for.uv_settings().get("override-dependencies", [])
    return INSTALL.format(wanted=json.dumps(made_for.requirements(parameters)), overrides=json.dumps(overrides))


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": text.rstrip("\n")}


def _hidden(text: str) -> dict[str, Any]:
    """A code cell that Jupyter and Colab show folded."""
    return {**_code(text), "metadata": {"jupyter": {"source_hidden": True}, "cellView": "form"}}


TARGET = Target("notebook", "train_fft.ipynb", "Colab, Kaggle or Jupyter, audit and plot inline", render)
