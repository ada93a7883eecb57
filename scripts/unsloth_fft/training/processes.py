"""Which of a run's processes this is, and what they must agree on. One process without torchrun is the usual case."""

from __future__ import annotations

import os


def _told(name: str, usual: int) -> int:
    """The number in a variable of torchrun's. Another launcher's words count as none: foreign_launcher refuses them."""
    value = os.environ.get(name, "").strip()
    return int(value) if value.isdecimal() and len(value) < 10 else usual


# Set by torchrun for each process it starts.
COUNT = _told("WORLD_SIZE", 1)
_FIRST_KEY, _MEETING_S = "unsloth_fft/first_machine", 300.0


def rank() -> int:
    """This process's place among all."""
    return _told("RANK", 0)


def is_first() -> bool:
    """Whether this process writes what a run leaves behind; the others only train."""
    return rank() == 0


def any_of(flag: bool) -> bool:
    """Whether `flag` is set in any process: what one stops for, all must stop for, or they wait for one another."""
    return bool(largest(int(flag)))


def largest(value: int) -> int:
    """The largest of all processes' values."""
    if COUNT == 1:
        return value
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    found = torch.tensor(value, device=device)
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return int(found)


def put_first_machine_first(*, follows: bool) -> None:
    """Give the processes of the machine that keeps the records the first places. Before anything uses a place.

    torchrun numbers machines by their addresses as text (torch 2.14.1, elastic/rendezvous/dynamic_rendezvous.py,
    `sorted(state.participants)`): of 10.0.0.9 and 10.0.0.10 the second would be the first, and write the model.
    """
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    import datetime

    from torch.distributed import TCPStore

    here = int(os.environ["GROUP_RANK"])
    patience = datetime.timedelta(seconds=_MEETING_S)
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=patience)
    if not follows:
        store.set(_FIRST_KEY, str(here))
    first = int(store.get(_FIRST_KEY))
    place = 0 if here == first else first if here == 0 else here
    on_each, local = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    os.environ["GROUP_RANK"] = str(place)
    os.environ["RANK"] = os.environ["ROLE_RANK"] = str(place * on_each + local)


def wait_for_all() -> None:
    """Return once every process is here."""
    if COUNT > 1:
        import torch

        torch.distributed.barrier()
