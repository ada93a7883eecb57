"""Peak memory of whole runs through `train` beside what the planner says: packed or padded rows of real text.

    python -m tools.measurements.whole_runs            print the table
    python -m tools.measurements.whole_runs --write    put it into references/predicted-and-measured.md

Reads `shapes` and `caps` of references/measurements/sessions-*.json. The allocator's holes are fitted to these as well
as to rows (fit_calibration.py); "planned" is what the plan of a run said before it.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import Any

from tools import ROOT
from tools.pages import markdown
from tools.pages.marked_block import Block, print_or_write
from unsloth_fft.estimates import memory
from unsloth_fft.models import catalogue
from unsloth_fft.settings.setting import Setting

MEASUREMENTS = ROOT / "references" / "measurements"
TABLE = Block(
    ROOT / "references" / "predicted-and-measured.md",
    "<!-- table: written by tools/measurements/whole_runs.py -->",
    "<!-- end of whole runs -->",
)
GROUPS = ("shapes", "caps")
SEQ_LENGTH = 2048  # tokens, of every run
WHOLE_CARD_GIB = 139.8


@dataclass(frozen=True)
class WholeRun:
    """One run of the planner's own plan; `planned_gib` is the plan's peak, `measured_gib` torch's peak reserved.

    `key` is its file and name. `verdict` is the audit's, "dry run" where nothing was saved that could be audited.
    """

    key: str
    model: str
    cap_gib: float
    setting: Setting
    planned_gib: float
    measured_gib: float
    verdict: str

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def predicted_gib(self) -> float:
        """What the memory model says now."""
        return memory.estimate(catalogue.find(self.model), self.setting, WHOLE_CARD_GIB).peak

    def error(self) -> float:
        return self.predicted_gib() / self.measured_gib - 1


def read_runs() -> list[WholeRun]:
    """Every run that is kept, in order of file and key."""
    found = []
    for path in sorted(MEASUREMENTS.glob("sessions-*.json")):
        sessions = json.loads(path.read_text(encoding="utf-8"))
        for group in GROUPS:
            entries = sessions.get(group, {}).items()
            found += [_run(f"{path.stem}/{name}", entry) for name, entry in entries if isinstance(entry, dict)]
    return found


def _run(key: str, entry: dict[str, Any]) -> WholeRun:
    micro_batch, accumulation = map(int, entry["batch"].split(" x "))
    return WholeRun(
        key=key,
        model=entry["model"],
        cap_gib=entry.get("vram_gib", WHOLE_CARD_GIB),
        setting=Setting(
            weights=entry["weights"],
            optimizer=entry["optimizer"],
            optimizer_args=(),
            state_offload=entry.get("state_offload", False),
            checkpointing=entry["gradient_checkpointing"],
            micro_batch=micro_batch,
            accumulation=accumulation,
            seq_length=SEQ_LENGTH,
            gradient_offload=entry.get("gradient_offload", False),
            padding_free=entry["packed"],
        ),
        planned_gib=entry["predicted_peak_gib"],
        measured_gib=entry["peak_gib"],
        verdict=entry.get("verdict", "dry run"),
    )


def table(runs: list[WholeRun]) -> str:
    """The runs as Markdown, the figures that decide first."""
    errors = [run.error() for run in runs]
    middle = statistics.median(abs(error) for error in errors)
    lines = [
        f"- {len(runs)} runs, none out of memory: median error {middle:.1%}, from {min(errors):+.1%} to"
        f" {max(errors):+.1%}",
        "",
    ]
    head = ("limit, GiB", "plan", "planned, GiB", "measured", "predicted now", "audit")
    cells = [_cells(run) for run in sorted(runs, key=lambda run: (run.cap_gib, run.planned_gib))]
    return "\n".join([*lines, markdown.table(head, cells)])


def _cells(run: WholeRun) -> list[str]:
    setting = run.setting
    offload = ", state and gradients offloaded" if setting.gradient_offload else ", state offloaded"
    plan = f"{run.model.split('/')[-1]} {setting.weights} {setting.optimizer}, gc {setting.checkpointing}"
    plan += f", {setting.micro_batch}x{setting.accumulation}" + (offload if setting.state_offload else "")
    return [
        f"{run.cap_gib:g}",
        plan + (", packed" if setting.padding_free else ", padded"),
        f"{run.planned_gib:.2f}",
        f"{run.measured_gib:.2f}",
        f"{run.error():+.1%}",
        run.verdict,
    ]


if __name__ == "__main__":
    sys.exit(print_or_write(__doc__, lambda: table(read_runs()), TABLE))
