"""Which of a run's processes this is, and what they must agree on. One process without torchrun is the usual case."""

from __future__ import annotations

import os

# Set by torchrun for each process it starts.
RANK = int(os.environ.get("RANK", "0"))
COUNT = int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes what a run leaves behind; the others only train."""
    return RANK == 0


def any_of(flag: bool) -> bool:
    """Whether `flag` is set in any process: what one stops for, all must stop for, or they wait for one another."""
    if COUNT == 1:
        return flag
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    asked = torch.tensor(int(flag), device=device)
    torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
    return bool(asked)


def wait_for_all() -> None:
    """Return once every process is here."""
    if COUNT > 1:
        import torch

        torch.distributed.barrier()
