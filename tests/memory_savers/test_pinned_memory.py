"""Page-locked host memory takes what it holds; the CUDA runtime is a stand-in here."""

from __future__ import annotations

import gc

import pytest

from unsloth_fft.memory_savers import pinned_memory


class Cudart:
    """Notes what is registered, and refuses what overlaps, as the real one does."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.refuses = False

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        if self.refuses or any(address < end and begin < address + size for begin, end in self.pages()):
            return 712
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        del self.registered[address]
        return 0

    def pages(self) -> list[tuple[int, int]]:
        return [(begin // 4096 * 4096, -(-(begin + size) // 4096) * 4096) for begin, size in self.registered.items()]


@pytest.fixture
def cudart(monkeypatch):
    pytest.importorskip("torch")
    stand_in = Cudart()
    monkeypatch.setattr(pinned_memory, "_cudart", lambda: stand_in)
    return stand_in


def test_a_large_tensor_takes_its_own_size_and_gives_it_back(cudart):
    import torch

    tensors = [pinned_memory.host_tensor((1100, 1000), torch.bfloat16, page_locked=True) for _ in range(3)]
    assert list(cudart.registered.values()) == [2_200_000] * 3
    assert [tensor.shape for tensor in tensors] == [(1100, 1000)] * 3
    tensors[0].fill_(1.5)
    assert float(tensors[1].sum()) == 0
    view = tensors[0][5:7]
    del tensors
    gc.collect()
    assert len(cudart.registered) == 1 and float(view.float().sum()) == 3000
    del view
    gc.collect()
    assert not cudart.registered


def test_unsloths_state_offload_finds_such_buffers_and_makes_its_own_where_there_are_none(cudart):
    import torch

    class Offloader:
        """As much of Unsloth's as matters here."""

        def __init__(self) -> None:
            self.buffers, self.pin_memory, self.made = {}, True, 0

        def _host_buffer(self, param, key, source):
            if (param, key) not in self.buffers:
                self.made += 1
                self.buffers[(param, key)] = torch.empty_like(source)
            return self.buffers[(param, key)].copy_(source)

    pinned_memory.lend_buffers_to(Offloader)
    pinned_memory.lend_buffers_to(Offloader)
    offloader, state = Offloader(), torch.full((600, 1000), 2.0)
    held = offloader._host_buffer("w", "exp_avg", state)
    assert list(cudart.registered) == [held.data_ptr()] and torch.equal(held, state) and not offloader.made
    assert offloader._host_buffer("w", "exp_avg", state) is held and len(cudart.registered) == 1
    cudart.refuses = True
    assert torch.equal(offloader._host_buffer("w", "exp_avg_sq", state), state) and offloader.made == 1


def test_the_offloader_of_the_installed_unsloth_is_the_one_that_is_meant():
    state_offload = pytest.importorskip("unsloth.optimizers.state_offload")
    import inspect

    arguments = list(inspect.signature(state_offload._StateOffloader._host_buffer).parameters)
    assert len(arguments) == 4 and "self.buffers.get((param, key))" in inspect.getsource(state_offload._StateOffloader)


def test_state_that_was_loaded_onto_the_host_comes_to_its_parameter(monkeypatch):
    """As flashoptim loads it: new tensors that Unsloth's state offload has not seen. "meta" stands for a GPU."""
    torch = pytest.importorskip("torch")
    state_offload = pytest.importorskip("unsloth.optimizers.state_offload")
    from unsloth_fft.memory_savers import outward

    class Offloader(state_offload._StateOffloader):
        pass

    class Moment:
        def __init__(self) -> None:
            self._data, self._scales = torch.zeros(4), None

    monkeypatch.setattr(outward.Outward, "__init__", lambda self, device: setattr(self, "_leaving", []))
    outward.overlaps_copies(Offloader)
    parameter = torch.nn.Parameter(torch.zeros(4, device="meta"))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    optimizer.state[parameter] = {"exp_avg": Moment(), "error_bits": torch.zeros(4), "step": torch.tensor(3)}
    Offloader(optimizer, pin_memory=False).restore([parameter])
    state = optimizer.state[parameter]
    assert state["exp_avg"]._data.device.type == state["error_bits"].device.type == "meta"
    assert state["step"].device.type == "cpu"
