"""Shows an upstream fault on an NVIDIA GPU: packed rows of Qwen3 attend over a dense mask in bfloat16 full fine-tuning.

    python -m tools.measurements.packed_queries --model DIR --dataset FILE --folder SCRATCH --output FILE

DIR is a Qwen3 model, FILE has raw text. Four packed rows a step through `train --dry-run-steps 3`, as Unsloth runs them
and with the queries and keys cast to bfloat16 after their norms: memory, speed and losses of both (unsloth 2026.10.9).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools import ROOT

SCRIPTS = ROOT / "scripts"
TOOL, PLANNER = (str(SCRIPTS / name) for name in ("unsloth_fft_tool.py", "generate_fft_params.py"))
FLAGS = "--objective pretrain --effective-batch 4 --micro-batch 4 --precision bfloat16 --optimizer adamw_flash"
CAST = "--cast-queries"


def run_tool_with_cast_queries(arguments: list[str]) -> None:
    """The tool itself, after making the norms of queries and keys give back the type that they were given."""
    with contextlib.redirect_stdout(sys.stderr):  # standard output is the tool's
        import unsloth  # noqa: F401  (first: it patches what the others define)

    from unsloth_fft.training import trainer

    build = trainer.build

    def build_with_hooks(parameters: Any, folder: Path, base: Any, *rest: Any, **more: Any) -> Any:
        for name, module in base.named_modules():
            if name.endswith((".q_norm", ".k_norm")):
                module.register_forward_hook(lambda _, given, made: made.to(given[0].dtype))
        return build(parameters, folder, base, *rest, **more)

    trainer.build = build_with_hooks
    sys.argv = [TOOL, *arguments]
    runpy.run_path(TOOL, run_name="__main__")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """What two dry runs of one plan measured."""
    plan = args.folder / "plan.json"
    command = [sys.executable, PLANNER, "--model", str(args.model), "--dataset", str(args.dataset), *FLAGS.split()]
    command += ["--gpu", args.gpu, "--gradient-checkpointing", "off", "--max-steps", "8", "--output", str(plan)]
    subprocess.run(command, check=True, capture_output=True)
    parameters = json.loads(plan.read_text(encoding="utf-8"))
    parameters["data"].update(packing=True, padding_free=False)
    plan.write_text(json.dumps(parameters), encoding="utf-8")
    found = {}
    for name, program in (("as_it_is", [TOOL]), ("queries_cast", [__file__, CAST])):
        dry = ["train", "--params", str(plan), "--session", str(args.folder / name), "--dry-run-steps", "3", "--json"]
        finished = subprocess.run([sys.executable, *program, *dry], check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(finished.stdout)["measured"]
    return found


def main() -> None:
    if CAST in sys.argv:
        run_tool_with_cast_queries([argument for argument in sys.argv[1:] if argument != CAST])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--gpu", default="H200", metavar="NAME")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model": args.model.name, **compare(args)}, indent=2) + "\n"
    args.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
