"""How fast and in how much memory the audit reads, side by side with `cat` on the same files and cores.

    python -m tools.measurements.audit_speed --gib 4 --folder DIR --output references/measurements/audit-speed-4gib.json

writes two bfloat16 checkpoints of that size into DIR (and removes them), waits until they are on disk, runs both
commands once, so that the files are in the page cache and Python's modules are compiled, then times
`cat BASE TRAINED >/dev/null` and the whole `audit` command in turn, and looks at the audit's memory in one more run.
`--changed all` moves every weight, `few` what a bfloat16 step at 1e-5 moves, `none` nothing. On a machine that others
use too, run it under `chrt -f 1`, which gives both commands the cores while they run; the file says so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools import ROOT

TOOL = ROOT / "scripts" / "unsloth_fft_tool.py"
SHAPE = (4096, 4096)
TENSOR_BYTES = 2 * SHAPE[0] * SHAPE[1]
STEPS = {"all": 3e-4, "few": 1e-5, "none": 0.0}


def bf16(values: Any) -> Any:
    import numpy as np

    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_pair(folder: Path, gib: float, changed: str) -> None:
    """Two checkpoints of `gib` GiB in matrices of 32 MiB, every one with its own random numbers."""
    import numpy as np

    count = round(gib * 2**30 / TENSOR_BYTES)
    header = {
        f"model.layers.{index}.mlp.up_proj.weight": {
            "dtype": "BF16",
            "shape": list(SHAPE),
            "data_offsets": [index * TENSOR_BYTES, (index + 1) * TENSOR_BYTES],
        }
        for index in range(count)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    paths = pair_in(folder)
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(len(text).to_bytes(8, "little") + text)
    random = np.random.default_rng(0)
    pool = random.normal(0, 0.02, SHAPE[0] * SHAPE[1]).astype(np.float32)
    for index in range(count):
        held = (bf16(np.roll(pool, index * 9973)).astype(np.uint32) << 16).view(np.float32)
        signs = random.integers(0, 2, held.size, dtype=np.int8) * 2 - 1
        for path, values in zip(paths, (held, held + np.float32(STEPS[changed]) * signs), strict=True):
            with path.open("ab") as file:
                bf16(values).tofile(file)


def pair_in(folder: Path) -> tuple[Path, Path]:
    return folder / "base" / "model.safetensors", folder / "trained" / "model.safetensors"


def timed(command: list[str], bytecode: Path) -> dict[str, float]:
    """Wall and processor seconds of a command and the processes it started.

    Compiled Python modules are kept in `bytecode`, as an installation keeps them.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{command[0]} failed")
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
    }


def peak_mib_of_all(command: list[str]) -> float:
    """The most resident memory that a command and the processes it started held together, looked at every 5 ms.

    Mapped parts of the files count, once for each process that maps them.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(resident_kib(pid) for pid in family(process.pid)))
        time.sleep(0.005)
    return round(peak / 1024, 1)


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--changed", choices=sorted(STEPS), default="all")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only-write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    home = args.folder / "audit-speed"
    if args.only_write:
        write_pair(home, args.gib, args.changed)
        return 0
    try:
        # In a process of its own: a child's peak memory counts what its parent held when it was forked.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only-write"], check=True)
        base, trained = pair_in(home)
        cat = ["cat", str(base), str(trained)]
        audit = [sys.executable, str(TOOL), "audit", str(base.parent), str(trained.parent), "--json"]
        os.sync()  # or the kernel would go on writing the checkpoints while both are timed
        bytecode = home / "bytecode"
        rows = [{"cat": timed(cat, bytecode), "audit": timed(audit, bytecode)} for _ in range(args.repeats + 1)][1:]
        peak = peak_mib_of_all(audit)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    ratios = [row["audit"]["seconds"] / row["cat"]["seconds"] for row in rows]
    value = {
        "what": "audit of two bfloat16 checkpoints in the page cache against cat of the same files, taken in turn",
        "command": f"python -m tools.measurements.audit_speed --gib {args.gib:g} --changed {args.changed}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "gib_each": args.gib,
        "changed": args.changed,
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "real_time_priority": os.sched_getscheduler(0) == os.SCHED_FIFO,
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "rows": rows,
        "ratio_median": round(statistics.median(ratios), 2),
        "ratio_best": round(min(ratios), 2),
        "cpu_ratio_median": round(
            statistics.median(row["audit"]["cpu_seconds"] / row["cat"]["cpu_seconds"] for row in rows), 2
        ),
        "audit_peak_mib": peak,
    }
    text = json.dumps(value, indent=2) + "\n"
    print(text, end="")
    if args.output:
        args.output.write_text(text)
    return 0


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    sys.exit(main())
