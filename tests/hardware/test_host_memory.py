"""Host memory is found on every system, with the training stack and without it."""

from __future__ import annotations

import ctypes
import os
import sys
import types
from pathlib import Path

import pytest

from unsloth_fft.core.errors import MissingHere
from unsloth_fft.hardware import detection, host_memory

GIB = 2**30


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Neither Linux nor POSIX."""
    monkeypatch.setattr(host_memory, "MEMINFO", Path("nowhere"))
    monkeypatch.setattr(host_memory, "CGROUP_LIMITS", ())
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setitem(sys.modules, "resource", None)
    return monkeypatch


def test_linux_is_read_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    total, free, peak = host_memory.total(), host_memory.available(), host_memory.peak_resident()
    assert total and free and peak and peak < total and free < 4096 * GIB


def test_elsewhere_psutil_tells(elsewhere: pytest.MonkeyPatch) -> None:
    told = types.SimpleNamespace(total=32 * GIB, available=20 * GIB, peak_wset=3 * GIB, rss=2 * GIB)
    psutil = types.SimpleNamespace(
        virtual_memory=lambda: told, Process=lambda: types.SimpleNamespace(memory_info=lambda: told)
    )
    elsewhere.setitem(sys.modules, "psutil", psutil)
    assert (host_memory.total(), host_memory.available()) == (32 * GIB, 20 * GIB)
    assert host_memory.peak_resident() == 3 * GIB


def test_windows_tells_without_a_package(elsewhere: pytest.MonkeyPatch) -> None:
    class Kernel:
        @staticmethod
        def GlobalMemoryStatusEx(reference: object) -> int:  # noqa: N802 - Windows' name
            status = reference._obj  # type: ignore[attr-defined]
            assert status.dwLength == ctypes.sizeof(status) == 64
            status.ullTotalPhys, status.ullAvailPhys = 64 * GIB, 40 * GIB
            return 1

    elsewhere.setitem(sys.modules, "psutil", None)
    elsewhere.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=Kernel), raising=False)
    assert host_memory.total() == 64 * GIB and host_memory.available() == 40 * GIB
    assert host_memory.peak_resident() is None


def test_where_nothing_tells_the_machine_is_to_be_named(elsewhere: pytest.MonkeyPatch) -> None:
    elsewhere.setitem(sys.modules, "psutil", None)
    assert detection.free_host_gib() is None
    with pytest.raises(MissingHere, match="could not be read") as error:
        detection.host_memory_gib()
    assert "--host-ram-gib" in error.value.hint


def test_macos_counts_its_peak_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    on_linux = host_memory.peak_resident()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert on_linux is not None and host_memory.peak_resident() in range(on_linux // 1024, on_linux // 512)
