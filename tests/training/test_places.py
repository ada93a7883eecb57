"""Which machine's processes come first, and that all go on from the same step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unsloth_fft.core.errors import BadInput
from unsloth_fft.training import processes, session, starting

torch_distributed = pytest.importorskip("torch.distributed")


class Store(dict[str, str]):
    """torchrun's store, shared by all machines of a test."""

    def set(self, key: str, value: str) -> None:
        self[key] = value


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_machine_that_keeps_the_records_has_the_first_places_wherever_torchrun_put_it(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    monkeypatch.setattr(torch_distributed, "TCPStore", lambda *_, **__: store)
    ranks = {}
    for machine in sorted(range(3), key=lambda number: number != first):
        for local in range(2):
            placed = {"GROUP_RANK": machine, "GROUP_WORLD_SIZE": 3, "LOCAL_WORLD_SIZE": 2, "LOCAL_RANK": local}
            for name, value in {**placed, "RANK": 2 * machine + local, "MASTER_ADDR": "head", "MASTER_PORT": 1}.items():
                monkeypatch.setenv(name, str(value))
            monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
            processes.put_first_machine_first(follows=machine != first)
            ranks[machine, local] = processes.rank()
            assert os.environ["ROLE_RANK"] == os.environ["RANK"]
    assert sorted(ranks.values()) == list(range(6))
    assert (ranks[first, 0], ranks[first, 1]) == (0, 1)


def test_one_machine_keeps_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    processes.put_first_machine_first(follows=False)
    assert processes.rank() == 1 and not processes.is_first()


@pytest.mark.parametrize("start", [None, "checkpoint-3"])
def test_machines_with_different_checkpoints_are_refused_on_all_of_them(
    start: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = 3 if start is None else 0
    monkeypatch.setattr(processes, "largest", lambda value: max(value, elsewhere))
    monkeypatch.setattr(processes, "any_of", lambda flag: True)  # here, or on the other machine
    with pytest.raises(BadInput, match="do not have the same checkpoints"):
        starting.refuse_different(session.Folder(tmp_path), None if start is None else tmp_path / start)


def test_one_process_goes_on_from_wherever_it_is(tmp_path: Path) -> None:
    starting.refuse_different(session.Folder(tmp_path), tmp_path / "checkpoint-3")
    starting.refuse_different(session.Folder(tmp_path), None)
