"""One way to run the training: the knobs that the search turns, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

from .recipes import BYTES, OptimizerFacts, correction_bytes, optimizer_of

OFF, TRUE, UNSLOTH = "off", "true", "unsloth"
SINGLE, FSDP2 = "single", "fsdp2"


class Setting(NamedTuple):
    """`weights` is the stored type ("float32" or "bfloat16"), `optimizer` the name that `optim` takes.

    `padding_free` says that rows share a sequence, packed or laid end to end: one kernel serves both.
    `micro_batch` rows of `seq_length` tokens go through one GPU at a time, `accumulation` times before an
    optimizer step; `gpus` counts all GPUs of all nodes. `checkpointed_layers` of the layers are recomputed, None: all
    of them. `float8` says that the layers' matrix products are float8. `weight_offload`: the layers' weights live on
    the host and come to the GPU one layer after another. `both_ways`: what is offloaded goes to the host while other
    things come from there, as it has since 2026-12-01.
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
    checkpointed_layers: int | None = None
    float8: bool = False
    both_ways: bool = True
    weight_offload: bool = False

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

    def recomputed(self, layers: int) -> int:
        """How many of a model's `layers` are recomputed in the backward."""
        if self.checkpointing == OFF:
            return 0
        return layers if self.checkpointed_layers is None else min(self.checkpointed_layers, layers)

    @property
    def weight_bytes(self) -> int:
        return BYTES[self.weights]

    @property
    def dense_mask(self) -> bool:
        """Whether attention runs over a whole mask of tokens x tokens: unsloth 2026.10.9 has no kernel for rows laid
        end to end whose weights are float32 (utils/hf_packed_attention.py wants the queries in half precision)."""
        return self.padding_free and self.weights == "float32" and self.micro_batch > 1

    @property
    def optimizer_facts(self) -> OptimizerFacts:
        """What the table of recipes says of the optimizer. Raises BadInput for one that it lacks."""
        return optimizer_of(self.optimizer, dict(self.optimizer_args))

    @property
    def correction_bytes(self) -> int:
        """Bytes an element of the optimizer's error-correction term, where it has one."""
        return correction_bytes(dict(self.optimizer_args))
