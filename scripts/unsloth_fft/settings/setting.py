"""One way to run the training: the knobs that the search turns, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

OFF, TRUE, UNSLOTH = "off", "true", "unsloth"
SINGLE, FSDP2 = "single", "fsdp2"

STOCHASTIC = (("bf16_stochastic_round", True),)
QUANTIZED = (("quantize", True),)


@dataclass(frozen=True)
class Setting:
    """`weights` is the stored type ("float32" or "bfloat16"), `optimizer` the name that `optim` takes.

    `padding_free` says that rows share a sequence, packed or laid end to end: one kernel serves both.
    `micro_batch` rows of `seq_length` tokens go through one GPU at a time, `accumulation` times before an
    optimizer step; `gpus` counts all GPUs of all nodes.
    """

    weights: str
    optimizer: str
    optimizer_args: tuple[tuple[str, bool | int], ...]
    state_offload: bool
    checkpointing: str
    micro_batch: int
    accumulation: int
    seq_length: int
    gpus: int = 1
    nodes: int = 1
    gradient_offload: bool = False
    padding_free: bool = False

    @property
    def strategy(self) -> str:
        return FSDP2 if self.gpus > 1 else SINGLE

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch on one GPU."""
        return self.micro_batch * self.seq_length

    @property
    def tokens_per_step(self) -> int:
        return self.tokens * self.accumulation * self.gpus

    @property
    def weight_bytes(self) -> int:
        return 4 if self.weights == "float32" else 2

    @property
    def dense_mask(self) -> bool:
        """Whether attention runs over a whole mask of tokens x tokens: unsloth 2026.10.9 has no kernel for rows laid
        end to end whose weights are float32 (utils/hf_packed_attention.py wants the queries in half precision)."""
        return self.padding_free and self.weights == "float32" and self.micro_batch > 1

    @property
    def quantized(self) -> bool:
        return bool(dict(self.optimizer_args).get("quantize", False))

    @property
    def correction_bytes(self) -> int:
        """Bytes of adamw_flash's error-correction term an element: 2 for a 32-bit master, 1 for a 24-bit one."""
        return 1 if dict(self.optimizer_args).get("master_weight_bits") == 24 else 2
