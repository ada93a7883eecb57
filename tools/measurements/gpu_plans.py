"""Writes the plans whose runs are, or are to be, rows of references/measurements; `benchmark` then runs them on a GPU.

    python -m tools.measurements.gpu_plans --set caps --gpu H100 --folder plans
    python scripts/unsloth_fft_tool.py benchmark plans/*.json --hold-to-plan --steps 4 --output rows.jsonl

Sets: `frozen`, the predictions written down on 2026-11-23 (references/predicted-and-measured.md); `again` and `third`,
those written down after the ones before had been measured; `caps`, the planner's own plan for several models under each
of several limits; `shapes`, its plan for models of other families on the whole card; `compared`, the exact plan,
float32 weights and the usual recipe for 8B; `launches`, one sequence a step of half a billion weights, twice;
`sharded`, plans for two and four GPUs of one machine; `repeated`, rows whose speed was odd, again; `streamed`, weights
that live in host memory, under limits of 6, 12 and 24 GiB, and one plan with and without, whose losses should be equal
(its 14B takes a host of 200 GiB and more: --host-ram-gib 250). Every plan has a constant rate of 1e-5, so that losses
can be compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tools import ROOT

PLANNER = ROOT / "scripts" / "generate_fft_params.py"
B8, B3, B1 = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-1B"
B135, B4, G2, Q05 = "HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen3-4B", "google/gemma-2-2b", "Qwen/Qwen2.5-0.5B"
FLASH = "--optimizer adamw_flash"
IN_PLACE = "--state-offload off"
FUSED32 = f"--precision float32 --optimizer adamw_torch_fused {IN_PLACE}"
ANY = "--exactness any --precision bfloat16"

FROZEN = {
    "135m-flash": f"{B135} {FLASH} {IN_PLACE} --gradient-checkpointing off --micro-batch 16",
    "135m-fused32": f"{B135} {FUSED32} --gradient-checkpointing true --micro-batch 4 --seq-length 512",
    "1b-flash": f"{B1} {FLASH} {IN_PLACE} --gradient-checkpointing off --micro-batch 4",
    "1b-fused32": f"{B1} {FUSED32} --gradient-checkpointing off --micro-batch 4",
    "1b-long": f"{B1} {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 1"
    " --effective-batch 2 --seq-length 32768",
    "4b-flash": f"{B4} {FLASH} {IN_PLACE} --gradient-checkpointing off --micro-batch 2 --effective-batch 4",
    "4b-8bit32": f"{B4} --precision float32 --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing true"
    " --micro-batch 8 --seq-length 1024",
    "4b-paged32": f"{B4} --precision float32 --optimizer paged_adamw_8bit --gradient-checkpointing unsloth"
    " --micro-batch 2 --effective-batch 8 --seq-length 4096",
    "gemma-flash": f"{G2} {FLASH} {IN_PLACE} --gradient-checkpointing true --micro-batch 4",
    "gemma-stochastic": f"{G2} --exactness stochastic --optimizer adamw_torch_8bit --gradient-checkpointing off"
    " --micro-batch 2 --effective-batch 8",
    "8b-offload": f"{B8} {FLASH} --state-offload on --gradient-offload off --gradient-checkpointing true"
    " --micro-batch 16",
    "8b-fused": f"{B8} {ANY} --optimizer adamw_torch_fused {IN_PLACE} --gradient-checkpointing true --micro-batch 16"
    " --seq-length 512",
    "8b-8bit32": f"{B8} --precision float32 --optimizer adamw_8bit --state-offload on --gradient-offload off"
    " --gradient-checkpointing off --micro-batch 1 --effective-batch 4",
    "8b-flash": f"{B8} {FLASH} {IN_PLACE} --gradient-checkpointing off --micro-batch 4",
}
# Written down on 2026-11-27, after the rows of that day were fitted.
AGAIN = {
    "360m-flash": f"HuggingFaceTB/SmolLM2-360M {FLASH} {IN_PLACE} --gradient-checkpointing true --micro-batch 16",
    "0.6b-8bit": f"Qwen/Qwen3-0.6B {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing unsloth"
    " --micro-batch 2 --effective-batch 4 --seq-length 8192",
    "1.5b-fused32": f"Qwen/Qwen2.5-1.5B {FUSED32} --gradient-checkpointing true --micro-batch 8 --seq-length 1024",
    "1.7b-paged32": "Qwen/Qwen3-1.7B --precision float32 --optimizer paged_adamw_8bit --gradient-checkpointing unsloth"
    " --micro-batch 16 --seq-length 1024",
    "1b-long": f"{B1} {FLASH} {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 1 --effective-batch 2"
    " --seq-length 16384",
    "smol-long": f"HuggingFaceTB/SmolLM2-1.7B {FLASH} {IN_PLACE} --gradient-checkpointing off --micro-batch 1"
    " --effective-batch 4 --seq-length 4096",
    "gemma-8bit": f"{G2} {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing off --micro-batch 4"
    " --seq-length 1024",
    "3b-stochastic": f"{B3} --exactness stochastic --optimizer adamw_torch_8bit --gradient-checkpointing true"
    " --micro-batch 4 --effective-batch 8",
    "3b-offload": f"{B3} {FLASH} --state-offload on --gradient-offload off --gradient-checkpointing true"
    " --micro-batch 16",
    "3b-any-off": f"Qwen/Qwen2.5-3B {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing off"
    " --micro-batch 2 --effective-batch 4 --seq-length 4096",
    "4b-gradients": f"{B4} {FLASH} --state-offload on --gradient-offload on --gradient-checkpointing unsloth"
    " --micro-batch 8",
    "7b-long": f"mistralai/Mistral-7B-v0.3 {FLASH} --state-offload on --gradient-offload on"
    " --gradient-checkpointing unsloth --micro-batch 1 --effective-batch 1 --seq-length 32768",
    "8b-short": f"{B8} {ANY} --optimizer paged_adamw_8bit --gradient-checkpointing off --micro-batch 2"
    " --effective-batch 8 --seq-length 512",
    "8b-8bit32-offload": f"{B8} --precision float32 --optimizer adamw_8bit --state-offload on --gradient-offload off"
    " --gradient-checkpointing true --micro-batch 16",
}
# Written down on 2026-11-27 in the evening, after the rows of `again` were fitted.
THIRD = {
    "135m-8bit": f"{B135} {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 8",
    "0.5b-flash": f"{Q05} {FLASH} {IN_PLACE} --gradient-checkpointing true --micro-batch 8 --seq-length 1024",
    "1b-8bit32": f"{B1} --precision float32 --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing true"
    " --micro-batch 8",
    "1b-fused": f"{B1} {ANY} --optimizer adamw_torch_fused {IN_PLACE} --gradient-checkpointing off --micro-batch 2"
    " --effective-batch 4 --seq-length 8192",
    "1.5b-paged": f"Qwen/Qwen2.5-1.5B {ANY} --optimizer paged_adamw_8bit --gradient-checkpointing off --micro-batch 4",
    "smol-flash": f"HuggingFaceTB/SmolLM2-1.7B {FLASH} {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 8",
    "gemma-8bit32": f"{G2} --precision float32 --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing unsloth"
    " --micro-batch 4",
    "3b-flash": f"Qwen/Qwen2.5-3B {FLASH} {IN_PLACE} --gradient-checkpointing true --micro-batch 16",
    "3b-fused32": f"{B3} {FUSED32} --gradient-checkpointing unsloth --micro-batch 4",
    "3b-gradients": f"{B3} {FLASH} --state-offload on --gradient-offload on --gradient-checkpointing unsloth"
    " --micro-batch 2 --effective-batch 8 --seq-length 4096",
    "4b-flash": f"{B4} {FLASH} {IN_PLACE} --gradient-checkpointing true --micro-batch 4 --seq-length 1024",
    "7b-any": f"mistralai/Mistral-7B-v0.3 {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing true"
    " --micro-batch 8 --seq-length 1024",
    "8b-offload": f"{B8} {FLASH} --state-offload on --gradient-offload off --gradient-checkpointing off"
    " --micro-batch 2 --effective-batch 8 --seq-length 1024",
    "8b-paged32": f"{B8} --precision float32 --optimizer paged_adamw_8bit --gradient-checkpointing unsloth"
    " --micro-batch 8",
}
CAPS = {
    f"{name}-under-{cap}": f"{model} --vram-gib {cap}"
    for name, model, caps in (
        ("0.5b", Q05, (16, 24)), ("1b", B1, (16, 24, 40)), ("3b", B3, (12, 16, 24, 40, 48, 80)),
        ("4b", B4, (24, 40, 48, 80)), ("8b", B8, (24, 40, 48, 80)),
    )
    for cap in caps
}  # fmt: skip
SHAPES = {"qwen3-1.7b": "Qwen/Qwen3-1.7B", "llama-3b": B3, "gemma-2b": G2}
COMPARED = {
    "exact": B8,
    "float32": f"{B8} --precision float32 --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing unsloth"
    " --micro-batch 4",
    "usual": f"{B8} {ANY} --optimizer adamw_8bit {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 1",
}
# One short sequence a step: its speed is that of launching kernels, and how far that differs from run to run.
LAUNCHES = {
    f"{name}-{repeat}": f"{Q05} {flags} {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 1 --effective-batch 1"
    for repeat in ("first", "again")
    for name, flags in (
        ("any-8bit", f"{ANY} --optimizer adamw_8bit"),
        ("any-fused", f"{ANY} --optimizer adamw_torch_fused"),
        ("flash", FLASH),
        ("8bit32", "--precision float32 --optimizer adamw_8bit"),
        ("fused32", "--precision float32 --optimizer adamw_torch_fused"),
    )
}
SHARDED = {
    "3b-on-2": f"{B3} --gpus 2",
    "8b-on-2": f"{B8} --gpus 2",
    "4b-on-2": f"{B4} {FLASH} --gradient-checkpointing true --micro-batch 8 --gpus 2",
    "8b-long-on-2": f"{B8} {FLASH} --gradient-checkpointing unsloth --micro-batch 1 --effective-batch 2"
    " --seq-length 16384 --gpus 2",
    "3b-on-4": f"{B3} --gpus 4",
    "8b-on-4": f"{B8} --gpus 4",
    "8b-accumulated-on-4": f"{B8} {FLASH} --gradient-checkpointing true --micro-batch 2 --effective-batch 32 --gpus 4",
}
# again-16 of references/measurements ran 29% slower than predicted; the other is its like with Unsloth's checkpointing.
REPEATED = {
    "again-16": f"{B3} {FLASH} {IN_PLACE} --gradient-checkpointing true --micro-batch 16 --vram-gib 48",
    "like-again-16": f"{B3} {FLASH} {IN_PLACE} --gradient-checkpointing unsloth --micro-batch 16 --vram-gib 48",
}
SAME_STEPS = f"{B3} {FLASH} --state-offload on --gradient-offload on --gradient-checkpointing unsloth --micro-batch 8"
STREAMED = {
    "3b-resident": SAME_STEPS,
    "3b-streamed": f"{SAME_STEPS} --weight-offload on",
    "3b-under-6": f"{B3} {FLASH} --weight-offload on --vram-gib 6 --effective-batch 2",
    "8b-under-12": f"{B8} {FLASH} --weight-offload on --vram-gib 12 --effective-batch 64",
    "8b-under-24": f"{B8} {FLASH} --weight-offload on --vram-gib 24 --effective-batch 64",
    "14b-under-24": f"Qwen/Qwen3-14B {FLASH} --weight-offload on --vram-gib 24 --effective-batch 32",
}
SETS = {
    "frozen": FROZEN,
    "again": AGAIN,
    "third": THIRD,
    "caps": CAPS,
    "shapes": SHAPES,
    "compared": COMPARED,
    "launches": LAUNCHES,
    "sharded": SHARDED,
    "repeated": REPEATED,
    "streamed": STREAMED,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=tuple(SETS), required=True)
    parser.add_argument("--gpu", required=True, metavar="NAME")
    parser.add_argument("--host-ram-gib", default="128", metavar="X")
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, flags in SETS[args.set].items():
        file = args.folder / f"{name}.json"
        machine = ["--gpu", args.gpu, "--host-ram-gib", args.host_ram_gib]
        command = [sys.executable, str(PLANNER), "--model", *flags.split(), *machine, "--max-steps", "8"]
        finished = subprocess.run([*command, "--output", str(file)], capture_output=True, text=True)
        if finished.returncode:
            failed += 1
            print(f"{name}: {finished.stderr.strip().splitlines()[0]}", file=sys.stderr)
            continue
        plan = json.loads(file.read_text(encoding="utf-8"))
        plan["schedule"].update(lr_scheduler_type="constant", warmup_steps=0)
        plan["optimizer"]["learning_rate"] = 1e-5
        file.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
        print(file)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
