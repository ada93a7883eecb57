"""Ways to fine-tune one pretrained model, each at several learning rates: what they learn, forget and move.

    python -m tools.measurements.methods_and_rates --model DIR --texts DIR --output rows.jsonl --seconds 270

`--texts` holds train.jsonl, held.jsonl and general.jsonl, rows of {"text": ...}. A second kind of data are the shipped
questions. Every method is the same plain PyTorch loop (linear rate, clipped at 1.0, no weight decay) in a process of
its own, all on one GPU at once, so that seconds are not comparable; only optimizer and stored type differ:

    recipe     bfloat16 weights, bitsandbytes' AdamW8bit: what most guides show
    stochastic bfloat16 weights, torchao's AdamW8bit with stochastic rounding
    flash      bfloat16 weights with flashoptim's 32-bit master; evaluated as stored, and as the master
    float32    float32 weights under bfloat16 autocast, torch's AdamW
    float32_8  the same with bitsandbytes' AdamW8bit
    lora16, lora64   peft, all linear layers, alpha = rank; only for comparison

A loss is the mean over tokens of a float32 forward of the stored weights. A row is written as soon as a run ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import ROOT

METHODS = ("recipe", "stochastic", "flash", "float32", "float32_8", "lora16", "lora64")
RATES = (5e-5, 2e-4, 1e-5, 5e-4, 1e-3)
SEEDS = (1, 2, 3)
QUESTIONS = ROOT / "scripts" / "unsloth_fft" / "demo"
LENGTH, ROWS = 512, 16
IGNORED = -100


@dataclass(frozen=True)
class Rows:
    """Token ids and labels of one kind of data: to train on, held out, and how many steps a run takes."""

    kind: str
    train: list[tuple[list[int], list[int]]]
    held: list[tuple[list[int], list[int]]]
    steps: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=270.0, help="no run is begun after this")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps on the texts")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--only", choices=METHODS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure(args)
        return
    running = [
        subprocess.Popen([sys.executable, "-m", "tools.measurements.methods_and_rates", *sys.argv[1:], "--only", name])
        for name in args.methods
    ]
    for process in running:
        process.wait()


def measure(args: argparse.Namespace) -> None:
    """All runs of one method: every seed, rate and kind of data, a row each."""
    end = time.monotonic() + args.seconds
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    general = texts(args.texts / "general.jsonl", tokenizer)
    kinds = (
        Rows("texts", texts(args.texts / "train.jsonl", tokenizer), texts(args.texts / "held.jsonl", tokenizer)[:64],
             args.steps),
        instructions(tokenizer),
    )  # fmt: skip
    method = Method(args.only, args.model)
    if args.only == "float32":
        for rows in kinds:
            add(args.output, {"method": "base", "data": rows.kind, **method.base_losses(rows, general)})
    for seed in SEEDS:
        for rate in RATES:
            for rows in kinds:
                if time.monotonic() > end:
                    return
                row = {"method": args.only, "data": rows.kind, "learning_rate": rate, "seed": seed, "steps": rows.steps}
                try:
                    row |= method.run(rows, general, rate, seed)
                except Exception as error:  # one run that fails is a row, too
                    row |= {"error": f"{type(error).__name__}: {error}"[:300]}
                add(args.output, row)


def add(file: Path, row: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")


def texts(path: Path, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Rows of LENGTH tokens at most; every token is learned."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        ids = tokenizer(json.loads(line)["text"], truncation=True, max_length=LENGTH)["input_ids"]
        found.append((ids, ids))
    return found


def instructions(tokenizer: Any) -> Rows:
    """The shipped questions: answers are learned, a tenth of the rows is held out, two passes."""
    rows = []
    for path in sorted(QUESTIONS.glob("questions_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            turns = json.loads(line)["messages"]
            before = tokenizer.apply_chat_template(turns[:-1], tokenize=True, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(turns, tokenize=True)
            before, whole = (getattr(ids, "input_ids", ids) for ids in (before, whole))
            rows.append((whole[:LENGTH], ([IGNORED] * len(before) + whole[len(before) :])[:LENGTH]))
    random.Random(0).shuffle(rows)
    held = len(rows) // 10
    return Rows("instructions", rows[held:], rows[:held], steps=2 * (len(rows) - held) // ROWS)


class Method:
    """One way to train: the model on the GPU, put back to its base before each run."""

    def __init__(self, name: str, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.name = name
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.wide = name.startswith("float32")
        dtype = torch.float32 if self.wide else torch.bfloat16
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(self.device)
        if name.startswith("lora"):
            from peft import LoraConfig, get_peft_model

            rank = int(name.removeprefix("lora"))
            model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear"))
            for _, weight in trained(model):
                weight.data = weight.data.float()
        self.model = model
        self.base = {key: weight.detach().clone() for key, weight in trained(model)}

    def run(self, rows: Rows, general: Any, rate: float, seed: int) -> dict[str, Any]:
        import torch

        self._restore(seed)
        optimizer = self._optimizer(rate)
        began = time.monotonic()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        last = [self._step(optimizer, batch, rate * (1 - step / rows.steps)) for step, batch in batches(rows, seed)]
        found: dict[str, Any] = {"seconds": round(time.monotonic() - began, 2), "train_loss": round(last[-1], 4)}
        if self.device == "cuda":
            found["peak_allocated_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        found |= {"moved": self._moved()} if not self.name.startswith("lora") else {}
        found |= {"held": self._loss(rows.held), "general": self._loss(general)}
        if self.name == "flash":
            with self._as_master(optimizer):
                found |= {"held_master": self._loss(rows.held), "general_master": self._loss(general)}
        return found

    def base_losses(self, rows: Rows, general: Any) -> dict[str, float]:
        self._restore(0)
        return {"held": self._loss(rows.held), "general": self._loss(general)}

    def _restore(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        for key, weight in trained(self.model):
            if "lora_A" in key:
                torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            else:
                weight.data.copy_(self.base[key])
            weight.grad = None

    def _optimizer(self, rate: float) -> Any:
        import torch

        weights = [weight for _, weight in trained(self.model)]
        if self.name in ("recipe", "float32_8"):
            import bitsandbytes

            return bitsandbytes.optim.AdamW8bit(weights, lr=rate, weight_decay=0.0)
        if self.name == "stochastic":
            from torchao.optim import AdamW8bit

            return AdamW8bit(weights, lr=rate, weight_decay=0.0, bf16_stochastic_round=True)
        if self.name == "flash":
            from flashoptim.optimizers import FlashAdamW

            return FlashAdamW(weights, lr=rate, weight_decay=0.0, quantize=False, master_weight_bits=32)
        return torch.optim.AdamW(weights, lr=rate, weight_decay=0.0, fused=self.device == "cuda")

    def _step(self, optimizer: Any, batch: Any, rate: float) -> float:
        import torch

        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        ids, labels, mask = (part.to(self.device) for part in batch)
        with self._computing():
            total, count = loss_of(self.model, ids, labels, mask)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_([weight for _, weight in trained(self.model)], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(total / count)

    def _computing(self) -> Any:
        import torch

        mixed = self.wide or self.name.startswith("lora")
        return torch.autocast(self.device, dtype=torch.bfloat16) if mixed else contextlib.nullcontext()

    def _moved(self) -> float:
        """Share of elements whose stored value differs from the base."""
        pairs = [(weight, self.base[key]) for key, weight in trained(self.model)]
        moved = sum(int((weight != base).sum()) for weight, base in pairs)
        return round(moved / sum(base.numel() for _, base in pairs), 6)

    def _loss(self, rows: Any) -> float:
        """Mean loss a token of a float32 forward."""
        import torch

        narrow = [(weight, weight.data) for weight in self.model.parameters()]
        for weight, data in narrow:
            weight.data = data.float()
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(rows), ROWS):
                ids, labels, mask = (part.to(self.device) for part in padded(rows[start : start + ROWS]))
                one, tokens = loss_of(self.model, ids, labels, mask)
                total, count = total + float(one), count + int(tokens)
        for weight, data in narrow:
            weight.data = data
        return round(total / count, 5)

    @contextlib.contextmanager
    def _as_master(self, optimizer: Any) -> Iterator[None]:
        """The weights as flashoptim's float32 master has them."""
        from flashoptim.optimizers import reconstruct_fp32_param

        stored = [(weight, weight.data) for _, weight in trained(self.model)]
        for weight, data in stored:
            if "error_bits" in optimizer.state.get(weight, {}):
                weight.data = reconstruct_fp32_param(data, optimizer.state[weight]["error_bits"])
        yield
        for weight, data in stored:
            weight.data = data


def trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def batches(rows: Rows, seed: int) -> Iterator[tuple[int, Any]]:
    """The steps of a run: rows in an order that the seed decides, again from the start where they end."""
    order: list[int] = []
    draw = random.Random(seed)
    for step in range(rows.steps):
        while len(order) < ROWS:
            order += draw.sample(range(len(rows.train)), len(rows.train))
        taken, order = order[:ROWS], order[ROWS:]
        yield step, padded([rows.train[index] for index in taken])


def padded(rows: list[tuple[list[int], list[int]]]) -> Any:
    """Tensors of ids, labels and attention, each (rows, longest)."""
    import torch

    longest = max(len(ids) for ids, _ in rows)
    fill: Callable[[list[int], int], list[int]] = lambda values, with_: values + [with_] * (longest - len(values))  # noqa: E731
    return (
        torch.tensor([fill(ids, 0) for ids, _ in rows]),
        torch.tensor([fill(labels, IGNORED) for _, labels in rows]),
        torch.tensor([fill([1] * len(ids), 0) for ids, _ in rows]),
    )


def loss_of(model: Any, ids: Any, labels: Any, mask: Any) -> Any:
    """Sum of the losses of learned tokens, and their number."""
    import torch

    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    targets = labels[:, 1:]
    total = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return total, (targets != IGNORED).sum()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
