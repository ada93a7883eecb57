"""Two GPUs, one rank killed in mid-run: do both end, with what words, and does a resumed run end in the same weights?

    python -m tools.measurements.killed_rank --model DIR --folder SCRATCH --output NAME.json

Trains twice through `train` from one parameters file: once undisturbed, once with SIGKILL for rank 1 after --kill-after
steps, then `--resume`. The saved models are compared element by element, and so are the checkpoints before the kill:
how far two undisturbed runs differ. The resumed model is loaded by plain transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools import ROOT
from training_processes import wait_for_step, workers_of

TOOL, PLANNER = (ROOT / "scripts" / name for name in ("unsloth_fft_tool.py", "generate_fft_params.py"))
TIMEOUT_S = 240


def planned(args: argparse.Namespace) -> Path:
    """A parameters file for two GPUs that saves often, over rows made here."""
    rows = args.folder / "rows.jsonl"
    text = [" ".join(f"{n} times {factor} is {n * factor}." for factor in range(2, 200)) for n in range(2, 402)]
    rows.write_text("".join(json.dumps({"text": line}) + "\n" for line in text), encoding="utf-8")
    file = args.folder / "params.json"
    flags = f"--objective pretrain --gpu {args.gpu} --gpus 2 --host-ram-gib 200 --seq-length 512 --effective-batch 16"
    command = [sys.executable, str(PLANNER), "--model", str(args.model), "--dataset", str(rows), *flags.split()]
    command += ["--max-steps", str(args.steps), "--output", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    given = json.loads(file.read_text(encoding="utf-8"))
    given["schedule"].update(
        save_steps=args.save_steps, save_total_limit=args.steps // args.save_steps, logging_steps=1
    )
    file.write_text(json.dumps(given), encoding="utf-8")
    return file


def begun(session: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOOL), "train", *arguments, "--session", str(session), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Exit code, the last words and the answer of a run."""
    out, words = process.communicate(timeout=TIMEOUT_S)
    answer = json.loads(out) if out.strip() else {}
    return {
        "exit": process.returncode,
        "words": [line for line in words.strip().splitlines() if line.startswith(("error", "hint", "  "))][-3:],
        "state": answer.get("session", {}).get("state"),
        "step": answer.get("session", {}).get("step"),
        "verdict": answer.get("audit", {}).get("verdict"),
    }


def killed(file: Path, session: Path, after: int) -> dict[str, Any]:
    """Start, kill rank 1 once `after` steps are done, and say how the run ended."""
    process = begun(session, "--params", str(file))
    wait_for_step(session, after, process)
    os.kill(workers_of(session)[1], signal.SIGKILL)
    at = time.monotonic()
    answer = ended(process)
    state = json.loads((session / "session.json").read_text(encoding="utf-8"))
    kept = sorted(path.name for path in (session / "checkpoints").glob("checkpoint-*"))
    return {
        **answer,
        "state": state["state"],
        "killed_at_step": after,
        "seconds_until_all_ended": round(time.monotonic() - at, 1),
        "processes_left": len(workers_of(session)),
        "checkpoints": kept,
    }


def compared(first: Path, second: Path) -> dict[str, Any]:
    """How far the weights of two saved models lie apart."""
    import torch
    from safetensors.torch import load_file

    ours, theirs = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert ours.keys() == theirs.keys()
    pairs = [(ours[name].float(), theirs[name].float()) for name in ours]
    elements, differing = sum(a.numel() for a, _ in pairs), sum(int(torch.ne(a, b).sum()) for a, b in pairs)
    return {
        "elements": elements,
        "differing": differing,
        "differing_percent": round(100 * differing / elements, 1),
        "largest_difference": max(float((a - b).abs().max()) for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--gpu", default="H200", metavar="NAME")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--save-steps", type=int, default=8)
    parser.add_argument("--kill-after", type=int, default=13)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    file = planned(args)
    unbroken, broken = args.folder / "unbroken", args.folder / "broken"
    common = f"checkpoint-{args.kill_after // args.save_steps * args.save_steps}"
    result: dict[str, Any] = {"model": args.model.name, "gpus": 2, "save_steps": args.save_steps, "steps": args.steps}
    for name, run in (
        ("killed", lambda: killed(file, broken, args.kill_after)),
        ("resumed", lambda: ended(begun(broken, "--resume"))),
        ("unbroken", lambda: ended(begun(unbroken, "--params", str(file)))),
        ("before_the_kill", lambda: compared(*(run / "checkpoints" / common for run in (broken, unbroken)))),
        ("weights", lambda: compared(broken / "model", unbroken / "model")),
        ("loads_in_transformers", lambda: loads(broken / "model")),
    ):
        result[name] = run()
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def loads(model: Path) -> str:
    """The class that plain transformers makes of the saved model."""
    from transformers import AutoModelForCausalLM

    return type(AutoModelForCausalLM.from_pretrained(str(model))).__name__


if __name__ == "__main__":
    main()
