"""A request to the planner, and its plan, for tests that ask many of them."""

from __future__ import annotations

import dataclasses

from unsloth_fft.hardware import cards
from unsloth_fft.hardware.cards import Hardware
from unsloth_fft.models import catalogue
from unsloth_fft.planning.plan import make_plan
from unsloth_fft.planning.request import Amount, Request

MODELS = ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B")
CPU = Hardware("cpu", None, 64.0, 1, 1, 64.0, has_bf16=False, is_cpu=True)


def request(model: str = MODELS[2], machine: Hardware | None = None, **changes: object) -> Request:
    base = Request(
        model=model,
        shape=catalogue.find(model),
        hardware=machine or cards.on_gpu(cards.find_gpu("H200")),
        seq_length=2048,
        effective_batch=16,
        exactness="exact",
        objective="sft",
        amount=Amount(max_steps=100),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def plan(asked: Request):
    return make_plan(asked, alternatives=3, dataset=None).parameters
