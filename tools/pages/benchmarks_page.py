"""Renders references/benchmarks.md: the measured rows that belong side by side, a table a comparison.

`python -m tools.pages.benchmarks_page` writes the page; with `--check` it only fails when it is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tools.pages import evidence, markdown
from tools.pages.evidence import Row
from unsloth_fft.core.files import BUNDLE_ROOT, write_text

PAGE = BUNDLE_ROOT / "references" / "benchmarks.md"
HEAD = """# Benchmarks: plans beside the usual recipe and plain TRL

What exact plans, the usual recipe and transformers+TRL did: memory, speed, loss, weights moved. Rendered from
`measurements/`, which has more rows; do not edit by hand. Every line is one run with random weights of the published
shape and real text in rows of full length (2,048 tokens unless said). `gc` is checkpointing, batch micro-batch x
accumulation, "share" model arithmetic over a bfloat16 matrix product of the same process, "loss" the last step's,
comparable only at equal model, steps and tokens a step, "moved" the share of weights that differ from the start in the
type they are stored in (an exact run with bfloat16 weights keeps the rest of each update in its correction).

"""
COLUMNS = (
    "row", "plan", "batch", "GiB peak", "tokens/s", "share %", "loss", "moved %",
)  # fmt: skip
AGAIN = """## Measure your own

```bash
python scripts/generate_fft_params.py --model meta-llama/Llama-3.1-8B --gpu H200 --max-steps 8 --output plan.json
python scripts/unsloth_fft_tool.py benchmark plan.json --output rows.jsonl
```

`--trl PLAN` runs a plan through plain transformers and TRL, `--hold-to-plan` limits memory to the card it was planned
for, `--profile` says where the GPU's time went.
"""


@dataclass(frozen=True)
class Group:
    """One table: its title, a sentence before it, and the ids of its rows."""

    title: str
    lead: str
    ids: tuple[str, ...]


LAST, NEW, H100, OLD = "h200-2026-11-27-", "h200-2026-11-25-", "h100-2026-11-25-", "h200-2026-11-22-"
THIRD = LAST + "third-"
GROUPS = (
    Group(
        "Llama-3.1-8B on one H200, the same hour and data",
        "The planner's exact plan, the same with rows laid end to end, exact float32 weights, the usual recipe, and"
        " that recipe through transformers and TRL. 32,768 tokens a step, four steps.",
        tuple(NEW + n for n in ("04", "01", "07", "08", "03")),
    ),
    Group(
        "The same two days later, without padding-free batches",
        "On a host of two H200 with another plan on the second GPU. Float32 weights gain most from leaving rows apart.",
        tuple(LAST + n for n in ("02", "01", "06", "03")),
    ),
    Group(
        "Llama-3.1-8B on one H200, other settings of one day",
        "2026-11-22, four steps of 32,768 tokens, with a program of its own that measured no share.",
        tuple(OLD + n for n in ("27", "18", "19", "20", "21", "22", "23", "24", "28", "31")),
    ),
    Group(
        "Llama-3.1-8B: float8 products, and checkpointing of some layers",
        "One H200, 2026-12-01; 32,768 tokens a step.",
        tuple(f"h200-2026-12-01-speed-0{n}" for n in (1, 2, 4, 3)),
    ),
    Group(
        "The planner's exact plan for other models on one H200",
        "Not a flag set by hand; 32,768 tokens a step, four steps.",
        tuple(LAST + n for n in ("24", "25", "26", "15", "13")),
    ),
    Group(
        "Exact in little memory",
        "The planner's own plans with torch held to the limit shown: state, or state and gradients, in host memory"
        " where that is needed. Lines marked * ran beside a run on the same GPUs, so their speed says little; those of"
        " 2026-11-27 beside another plan on the host's second GPU. The line without a limit is for comparison.",
        (
            *(LAST + n for n in ("05", "04", "07")),
            H100 + "11",
            *(LAST + n for n in ("14", "11", "12")),
            *(LAST + n for n in ("17", "16", "29")),
            *(H100 + n for n in ("15", "18", "19", "20", "16", "12")),
            *(LAST + n for n in ("30", "28", "18")),
        ),
    ),
    Group(
        "Several GPUs of one host",
        "Native FSDP2 under torchrun; one GPU for comparison. Tokens a second over all.",
        (
            *(H100 + n for n in ("13", "12", "14")),
            *(OLD + n for n in ("26", "25", "24")),
            *(THIRD + n for n in ("37", "38", "32", "35")),
            LAST + "02",
            *(THIRD + n for n in ("36", "34")),
            LAST + "25",
            THIRD + "33",
        ),
    ),
    Group(
        "Half a billion weights",
        "Qwen2.5-0.5B. Speed here depends on how fast the host launches kernels; memory does not. With float32 weights,"
        " padding-free rows are what Unsloth does when nothing is said.",
        (
            *(H100 + f"{n:02d}" for n in (1, 2, 3, 4, 6, 7, 8, 9, 10, 17)),
            *(NEW + n for n in ("05", "02")),
            LAST + "27",
        ),
    ),
)


def page() -> str:
    """The whole page as Markdown. Raises KeyError for a row that measurements/ does not have."""
    rows = evidence.measured_rows()
    contents = "".join(f"- [{group.title}](#{_anchor(group.title)})\n" for group in GROUPS)
    contents += "- [Measure your own](#measure-your-own)\n\n"
    return HEAD + contents + "\n".join(_section(group, rows) for group in GROUPS) + "\n" + AGAIN


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -").replace(" ", "-")


def _section(group: Group, rows: dict[str, Row]) -> str:
    lines = markdown.table(COLUMNS, [_cells(rows[name]) for name in group.ids])
    return f"## {group.title}\n\n{group.lead}\n\n{lines}\n"


def _cells(row: Row) -> tuple[str, ...]:
    world = row.get("world", 1)
    gpus = f" x {world} GPUs" if world > 1 else ""
    out = "oom" in row
    beside = " *" if "beside" in row else ""
    return (
        row["id"],
        f"{row['model'].split('/')[-1]} {_setting(row)}",
        f"{row['bs']}x{row['ga']}{gpus}",
        f"out of memory at {row['peak_res_gb']:.2f}" if out else f"{row['peak_res_gb']:.2f}",
        "" if out else f"{row['tok_s']:,.0f}{beside}",
        f"{100 * row['matmul_share']:.1f}" if "matmul_share" in row and not beside else "",
        f"{row['loss'][-1]:.3f}" if row.get("loss") else "",
        f"{100 * row['moved']:.1f}" if isinstance(row.get("moved"), float) else "",
    )


def _setting(row: Row) -> str:
    weights = {"fp32mp": "float32", "bf16": "bfloat16", "default": "bfloat16"}[row["precision"]]
    parts = [f"{weights} {row['optim']}"]
    if row.get("optim_args"):
        parts.append(f"`{row['optim_args']}`")
    parts += [f"{row['compute']} products"] if "compute" in row else []
    layers = f" of {row['checkpointed_layers']} layers" if "checkpointed_layers" in row else ""
    parts.append(f"gc {'off' if row['gc'] == 'false' else row['gc']}{layers}")
    if row["stack"] == "hf":
        parts.insert(0, "transformers+TRL")
    if row["state_offload"]:
        parts.append("state+gradients offloaded" if row.get("gradient_offload") else "state offloaded")
    if row.get("weight_offload"):
        parts.append("weights streamed")
    if row.get("padding_free"):
        parts.append("padding-free")
    if row["seq"] != 2048:
        parts.append(f"rows of {row['seq']:,} tokens")
    if row["cap_gb"]:
        parts.append(f"under {row['cap_gb']:g} GiB")
    if row["gpu"]["name"] != "NVIDIA H200":
        parts.append(row["gpu"]["name"].removeprefix("NVIDIA ").split()[0])
    return ", ".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page; 1 when it is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only fail when the page is stale")
    args = parser.parse_args(arguments)
    text = page()
    if args.check:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    write_text(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
