"""The traces that bfloat16 rounding and a float32 master leave in a checkpoint, by size of weight.

    python -m tools.measurements.movement_traces --output references/measurements/movement-traces-cpu.jsonl

trains a small random Llama on the bytes of the Python standard library with plain torch AdamW on a CPU, with bfloat16
weights and with float32 weights stored as bfloat16, and writes the share of weights that moved by exponent: one JSON
line a run. The thresholds in scripts/unsloth_fft/auditing/signature.py rest on these rows.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import math
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

EXPONENTS = range(-13, -3)
SEQUENCE, BATCH = 128, 8


def base_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=SEQUENCE,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


def batches() -> Iterator[torch.Tensor]:
    """The same batches of source text on every call."""
    text = torch.tensor(list(inspect.getsource(argparse).encode() + inspect.getsource(tarfile).encode()))
    generator = torch.Generator().manual_seed(1)
    while True:
        starts = torch.randint(0, len(text) - SEQUENCE, (BATCH,), generator=generator).tolist()
        yield torch.stack([text[start : start + SEQUENCE] for start in starts])


def factor(schedule: str, step: int, steps: int) -> float:
    """Share of the peak learning rate; cosine with a tenth of the steps as warm-up."""
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, (step + 1) / max(1.0, 0.1 * steps))


def trained(base: LlamaForCausalLM, dtype: torch.dtype, rate: float, steps: int, schedule: str) -> LlamaForCausalLM:
    model = copy.deepcopy(base).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(schedule, step, steps))
    for _, tokens in zip(range(steps), batches(), strict=False):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        plan.step()
        optimizer.zero_grad()
    return model


def matrices(model: LlamaForCausalLM) -> torch.Tensor:
    """All matrices of the layers as bfloat16 stores them, in float32."""
    parts = [
        p.detach().bfloat16().float().flatten() for n, p in model.named_parameters() if p.ndim > 1 and ".layers." in n
    ]
    return torch.cat(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=(1, 5, 20, 100))
    parser.add_argument("--learning-rates", type=float, nargs="+", default=(1e-5, 1e-4))
    args = parser.parse_args()
    base = base_model()
    before = matrices(base)
    exponents = torch.frexp(before)[1] - 1
    lines = []
    for rate in args.learning_rates:
        for steps in args.steps:
            for schedule in ("constant", "cosine"):
                for dtype in (torch.bfloat16, torch.float32):
                    moved = matrices(trained(base, dtype, rate, steps, schedule)) != before
                    by_exponent = {str(e): round(float(moved[exponents == e].float().mean()), 4) for e in EXPONENTS}
                    row = {
                        "weights": str(dtype).removeprefix("torch."),
                        "learning_rate": rate,
                        "steps": steps,
                        "schedule": schedule,
                        "moved": round(float(moved.float().mean()), 4),
                        "moved_by_exponent": by_exponent,
                        "torch": torch.__version__,
                    }
                    lines.append(json.dumps(row) + "\n")
                    print(lines[-1], end="", flush=True)
    args.output.write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
