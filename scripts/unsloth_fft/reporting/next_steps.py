"""What a person can do with a finished run: commands for this very session, and what each is for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.markup import fill

if TYPE_CHECKING:
    from markupsafe import Markup

_STEPS = """<p class="soft">From the folder that holds <code>scripts/</code>.</p>\
{% for step in steps %}<p>To {{ step.purpose }}:</p><pre><code>{{ step.command }}</code></pre>{% endfor %}"""
TOOL = "python scripts/unsloth_fft_tool.py"


@dataclass(frozen=True)
class Step:
    """A command, and what it is for as the end of "To ..."."""

    purpose: str
    command: str


def steps(root: Path, verdict: str) -> list[Step]:
    """The next commands, the most useful first; where weights stood still, finding out why comes before all."""
    session = shlex.quote(str(root))
    why = Step("see which weights did not move, and the likely cause", f"{TOOL} audit --session {session}")
    ordinary = [
        Step(
            "compare the trained model with its base on the held-out rows, and see what chance alone could do",
            f"{TOOL} eval {session}",
        ),
        Step(
            "get a folder for transformers, vLLM or the Hub, with a model card",
            f"{TOOL} export {session} --to my-model",
        ),
        Step("also get files for llama.cpp and Ollama", f"{TOOL} export {session} --to my-model --gguf Q8_0"),
        Step("read the whole audit again, tensor by tensor", f"{TOOL} audit --session {session} --json"),
    ]
    return ordinary if verdict == "full" else [why, *ordinary]


def section_body(root: Path, verdict: str) -> Markup:
    """The steps as HTML. They are run in the folder of the bundle, where scripts/ is."""
    return fill(_STEPS, steps=steps(root, verdict))
