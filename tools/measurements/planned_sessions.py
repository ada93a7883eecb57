"""Whole runs on a GPU through `generate` and `train`: what the audit says of the planner's own plans and of the recipe.

    python -m tools.measurements.planned_sessions --set shapes --gpu H200 --folder SCRATCH --output sessions.json

Sets: `shapes`, the planner's exact plan for three families, no flag set by hand; `recipe`, bf16 weights with adamw_8bit
beside the exact plan for the same rows; `caps`, plans for smaller cards, held to their memory; `full`, a plan that
cannot fit because its batch was changed by hand. Random weights of the published shape; the rows are the source of
Python's standard library, packed. Reports stay in SCRATCH/NAME; checkpoints and models do not. `--only` takes some of
a set; `--dry-run-steps` takes steps and saves nothing, for models whose files would fill the disk. Each entry has what
tools/measurements/whole_runs.py reads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools import ROOT
from unsloth_fft.benchmarking import random_model

SCRIPTS = ROOT / "scripts"

TOOL, PLANNER = (SCRIPTS / name for name in ("unsloth_fft_tool.py", "generate_fft_params.py"))
RECIPE = "--exactness any --precision bfloat16 --optimizer adamw_8bit --state-offload off --micro-batch 1"
SETS: dict[str, dict[str, tuple[str, str]]] = {
    "shapes": {
        "qwen3-1.7b": ("Qwen/Qwen3-1.7B", ""),
        "llama-3b": ("meta-llama/Llama-3.2-3B", ""),
        "gemma-2b": ("google/gemma-2-2b", ""),
    },
    "recipe": {
        "partial": ("Qwen/Qwen2.5-0.5B", f"{RECIPE} --gradient-checkpointing unsloth --learning-rate 1e-5"),
        "full": ("Qwen/Qwen2.5-0.5B", "--learning-rate 1e-5"),
    },
    "caps": {
        f"{name}-under-{cap}" if cap else f"{name}-whole": (model, f"--vram-gib {cap}" if cap else "")
        for name, model, caps in (
            ("0.5b", "Qwen/Qwen2.5-0.5B", (16,)),
            ("1b", "meta-llama/Llama-3.2-1B", (16, 24, 40)),
            ("3b", "meta-llama/Llama-3.2-3B", (16, 24, 40, 48, 80)),
            ("4b", "Qwen/Qwen3-4B", (24, 40, 48, 80, 0)),
            ("8b", "meta-llama/Llama-3.1-8B", (24, 40, 48, 80, 0)),
        )
        for cap in caps
    },
    "full": {"out-of-memory": ("Qwen/Qwen2.5-0.5B", "--vram-gib 24")},
}
LARGE_BATCH = 96
TEXT_BYTES, SHORTEST = 5_000_000, 200  # characters


def made(model: str, folder: Path) -> Path:
    """The random model of shape `model` under `folder`."""
    place = folder / model.replace("/", "--")
    if not place.exists():
        random_model.make_apart(model, place)
    return place


def rows_in(folder: Path) -> Path:
    """A JSONL file of library source, one file a row."""
    file, taken = folder / "rows.jsonl", 0
    with file.open("w", encoding="utf-8") as out:
        for text in random_model.library_source():
            if len(text) > SHORTEST and taken < TEXT_BYTES:
                out.write(json.dumps({"text": text}) + "\n")
                taken += len(text)
    return file


def planned(model: Path, rows: Path, flags: str, args: argparse.Namespace, file: Path) -> dict[str, Any]:
    command = [sys.executable, str(PLANNER), "--model", str(model), "--dataset", str(rows), "--objective", "pretrain"]
    command += ["--gpu", args.gpu, "--host-ram-gib", args.host_ram_gib, "--max-steps", str(args.steps), *flags.split()]
    subprocess.run([*command, "--output", str(file)], check=True, capture_output=True)
    plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if args.set == "caps":  # many of them run on one machine: its disk holds their models, not also their checkpoints
        plan["schedule"]["save_steps"] = None
    if args.set == "full":
        batch = {"per_device_train_batch_size": LARGE_BATCH, "gradient_accumulation_steps": 1}
        plan["batch"] = {**batch, "effective_batch_size": LARGE_BATCH}
    file.write_text(json.dumps(plan), encoding="utf-8")
    return plan


def run(name: str, model: Path, rows: Path, flags: str, args: argparse.Namespace) -> dict[str, Any]:
    """Plan, train and audit one case; keeps its report."""
    kept, session = args.folder / name, args.folder / f"{name}-session"
    kept.mkdir(exist_ok=True)
    plan = planned(model, rows, flags, args, kept / "params.json")
    hold = ["--hold-to-plan"] if args.set == "caps" else []
    hold += ["--dry-run-steps", str(args.dry_run_steps)] if args.dry_run_steps else []
    command = [sys.executable, str(TOOL), "train", "--params", str(kept / "params.json"), "--session", str(session)]
    began = time.perf_counter()
    finished = subprocess.run([*command, *hold, "--json"], capture_output=True, text=True)
    found: dict[str, Any] = {
        "model": model.name.replace("--", "/"),
        "flags": flags,
        "exit": finished.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "vram_gib": plan["plan"]["hardware"]["vram_gib"],
        "packed": plan["data"]["packing"],
        "weights": plan["precision"]["weights"],
        "optimizer": plan["optimizer"]["name"],
        "gradient_checkpointing": plan["memory"]["gradient_checkpointing"],
        "state_offload": plan["optimizer"]["state_offload"],
        "gradient_offload": plan["memory"]["gradient_offload"],
        "batch": "{per_device_train_batch_size} x {gradient_accumulation_steps}".format(**plan["batch"]),
        "learning_rate": plan["optimizer"]["learning_rate"],
        "predicted_peak_gib": plan["plan"]["predicted"]["peak_vram_gib"],
        "predicted_survival": plan["plan"]["predicted"]["update_survival"],
    }
    if finished.returncode:
        found["words"] = [line for line in finished.stderr.splitlines() if line.startswith(("error", "hint"))]
    elif args.dry_run_steps:
        measured = json.loads(finished.stdout)["measured"]
        found.update(dry_run_steps=args.dry_run_steps, peak_gib=measured["peak_reserved_gib"])
        found.update({key: measured[key] for key in ("losses", "allocation_retries")})
    else:
        answer = json.loads(finished.stdout)
        result, audit = answer["session"]["result"], answer["audit"]
        found.update({key: result[key] for key in ("peak_gib", "eval_loss_before", "eval_loss_after")})
        found.update({key: audit[key] for key in ("verdict", "moved_fraction", "elements")})
        found["causes"] = [cause["cause"] for cause in audit["causes"]]
        for file in ("report.html", "audit.json", "metrics.jsonl"):
            shutil.copy(session / file, kept / file)
    shutil.rmtree(session, ignore_errors=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=tuple(SETS), required=True)
    parser.add_argument("--gpu", required=True, metavar="NAME")
    parser.add_argument("--host-ram-gib", default="128", metavar="X")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", metavar="NAME,...", help="these of the set")
    parser.add_argument("--dry-run-steps", type=int, metavar="N", help="dry runs of N steps in place of whole ones")
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    args.folder = args.folder.resolve()
    rows = rows_in(args.folder)
    found: dict[str, Any] = {}
    wanted = args.only.split(",") if args.only else list(SETS[args.set])
    for name in wanted:
        model, flags = SETS[args.set][name]
        found[name] = run(name, made(model, args.folder), rows, flags, args)
        args.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(name, json.dumps(found[name]), flush=True)


if __name__ == "__main__":
    main()
