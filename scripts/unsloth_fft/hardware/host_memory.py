"""Host memory in bytes, by whatever the system has: Linux's /proc, else psutil (of the training stack), else a call.

/proc comes first because it costs nothing: a plan for this machine asks.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

MEMINFO = Path("/proc/meminfo")
# The cgroup's limit: version 2 says "max" where there is none, version 1 a number larger than any machine.
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total() -> int | None:
    """Memory of this machine, or of the container where that is less; None where nothing tells."""
    known = [size for size in (_physical(), _container_limit()) if size]
    return min(known, default=None)


def available() -> int | None:
    """What could be given out now, or None where nothing tells."""
    found = _from_proc("MemAvailable:")
    if found is not None:
        return found
    psutil = _psutil()
    if psutil is not None:
        return int(psutil.virtual_memory().available)
    return _windows("ullAvailPhys")


def peak_resident() -> int | None:
    """The most that this process has held so far, or None where nothing tells."""
    with contextlib.suppress(ImportError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024  # getrusage(2): bytes on macOS, KiB on Linux
    psutil = _psutil()
    if psutil is None:
        return None
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))  # Windows keeps the peak itself


def _physical() -> int | None:
    found = _from_proc("MemTotal:")
    if found is not None:
        return found
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    psutil = _psutil()
    if psutil is not None:
        return int(psutil.virtual_memory().total)
    return _windows("ullTotalPhys")


def _from_proc(name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return None


def _container_limit() -> int | None:
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_text(encoding="ascii"))
    return None


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def _windows(field: str) -> int | None:
    """A field of MEMORYSTATUSEX (Microsoft, sysinfoapi.h: GlobalMemoryStatusEx)."""
    import ctypes

    windll = getattr(ctypes, "windll", None)
    if windll is None:
        return None

    class Status(ctypes.Structure):
        _fields_ = [("dwLength", ctypes.c_uint32), ("dwMemoryLoad", ctypes.c_uint32)] + [
            (name, ctypes.c_uint64)
            for name in ("ullTotalPhys", "ullAvailPhys", "ullTotalPageFile", "ullAvailPageFile", "ullTotalVirtual",
                         "ullAvailVirtual", "ullAvailExtendedVirtual")
        ]  # fmt: skip

    status = Status(dwLength=ctypes.sizeof(Status))
    if not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(getattr(status, field))
