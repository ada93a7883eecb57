"""The measured rows of references/measurements as the planner sees them: shape, setting, machine, and what came out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tools.pages import evidence
from unsloth_fft.estimates import memory, speed
from unsloth_fft.hardware import cards
from unsloth_fft.models import catalogue
from unsloth_fft.models.shape import ModelShape
from unsloth_fft.settings.setting import Setting


@dataclass(frozen=True)
class Row:
    """One measured run as the planner sees it. GiB, tokens/s over all GPUs; no speed where it ran out of memory."""

    id: str
    shape: ModelShape
    setting: Setting
    machine: cards.Hardware
    cap_gib: float
    peak_alloc: float
    peak_reserved: float
    tokens_per_second: float | None
    beside: bool

    @property
    def ran_out(self) -> bool:
        return self.tokens_per_second is None

    @property
    def times(self) -> bool:
        """Whether the row's speed says something: it ran, and nothing else ran beside it."""
        return not self.ran_out and not self.beside

    @property
    def is_large(self) -> bool:
        """A billion weights and more; the speed of smaller models is that of launching kernels."""
        return self.shape.parameters >= 10**9

    def memory(self) -> memory.MemoryEstimate:
        return memory.estimate(self.shape, self.setting, self.machine.vram_gib)

    def speed(self) -> float:
        return speed.estimate(self.shape, self.setting, self.machine).tokens_per_second

    def memory_error(self) -> float:
        return self.memory().peak / self.peak_reserved - 1

    def alloc_error(self) -> float:
        estimate = self.memory()
        return (estimate.peak - estimate.components.get("fragmentation", 0.0)) / self.peak_alloc - 1

    def speed_error(self) -> float:
        assert self.tokens_per_second is not None
        return self.speed() / self.tokens_per_second - 1


def read_rows() -> list[Row]:
    """Every Unsloth row that was measured, in order of file and line."""
    return [_row(record) for record in evidence.measured_rows().values() if record["stack"] == "unsloth"]


def _row(record: dict[str, Any]) -> Row:
    gpus = record.get("world") or 1
    gpu = cards.find_gpu(record["gpu"]["name"])
    machine = dataclasses.replace(cards.on_gpu(gpu, gpus=gpus), vram_gib=record["gpu"]["memory_gib"])
    return Row(
        id=record["id"],
        shape=catalogue.find(record["model"]),
        setting=Setting(
            weights="float32" if record["precision"] == "fp32mp" else "bfloat16",
            optimizer=record["optim"],
            optimizer_args=tuple(_optimizer_args(record.get("optim_args"))),
            state_offload=record["state_offload"],
            checkpointing={"false": "off"}.get(record["gc"], record["gc"]),
            micro_batch=record["bs"],
            accumulation=record["ga"],
            seq_length=record["seq"],
            gpus=gpus,
            gradient_offload=record.get("gradient_offload", False),
            checkpointed_layers=record.get("checkpointed_layers"),
            float8=record.get("compute") == "float8",
            both_ways=record.get("both_ways", False),
            weight_offload=record.get("weight_offload", False),
            # A row alone in its micro-batch shares a sequence with none.
            padding_free=record.get("padding_free", True) and record["bs"] > 1,
        ),
        machine=machine,
        cap_gib=record["cap_gb"],
        peak_alloc=record["peak_alloc_gb"],
        peak_reserved=record["peak_res_gb"],
        tokens_per_second=None if "oom" in record else record["tok_s"],
        beside="beside" in record,
    )


def _optimizer_args(text: str | None) -> Iterator[tuple[str, bool | int]]:
    for part in filter(None, (text or "").split(",")):
        name, value = part.split("=")
        yield name, value == "True" if value in ("True", "False") else int(value)
