"""Reading the machine this runs on, without torch: `nvidia-smi` for the GPUs, the system for host memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from ..core import children
from ..core.errors import BadInput, MissingHere
from . import cards, host_memory
from .cards import Gpu, Hardware

MIB_PER_GIB = 1024
BYTES_PER_GIB = 2**30
# A healthy nvidia-smi answers in well under a second; a wedged driver never does.
QUERY_TIMEOUT_S = 10.0
# Drivers before 2022 do not know the last two fields and refuse the whole query, so there is a second, older one.
FULL_QUERY = ("index", "uuid", "name", "memory.total", "driver_version", "memory.reserved", "compute_cap")
OLD_QUERY = FULL_QUERY[:5]
FREE_QUERY = ("index", "uuid", "memory.free")
# What the driver keeps of nvidia-smi's total when it does not say itself: see references/hardware.md, "Usable memory".
RESERVED_SHARE = 0.03
BF16_FROM_CAPABILITY = 8.0
REMARKS = {
    # unsloth 2026.10.9, __init__.py: Apple chips are trained on through its MLX backend, another trainer.
    "macOS": (
        "a Mac has no CUDA, and Unsloth's own way there (MLX) is not planned here: name another machine's card (--gpu)",
    ),
    "Windows": (
        "Windows has no adamw_flash (flashoptim is for Linux) and trains on one GPU (so is NCCL); WSL 2 has both",
    ),
}


@dataclass(frozen=True)
class Device:
    """One GPU as nvidia-smi describes it; memory in MiB, `reserved_mib` None where an old driver does not tell."""

    index: str
    uuid: str
    name: str
    total_mib: float
    driver: str
    reserved_mib: float | None
    compute_capability: float | None

    @property
    def usable_gib(self) -> float:
        reserved = self.total_mib * RESERVED_SHARE if self.reserved_mib is None else self.reserved_mib
        return (self.total_mib - reserved) / MIB_PER_GIB


def detect() -> Hardware:
    """This machine: its NVIDIA GPUs, or else its CPU. `notes` says whatever could not be read.

    Cards of several kinds are planned for as if all were the one with the least memory.
    """
    host_ram_gib, system = host_memory_gib(), platform_name()
    devices, notes = _devices()
    devices = [device for device in devices if _visible(device)]
    if not devices:
        return _cpu(host_ram_gib, notes)
    smallest = min(devices, key=lambda device: device.usable_gib)
    if len({device.name for device in devices}) > 1:
        notes += (f"several kinds of GPU: planned for {len(devices)} like the smallest, {smallest.name}",)
    gpu = _known(smallest)
    if gpu is None:
        notes += (f"{smallest.name} is not in the GPU table: its speed is not known",)
    return Hardware(
        name=gpu.name if gpu else smallest.name,
        gpu=gpu,
        vram_gib=round(smallest.usable_gib, 2),
        gpus=1 if system == "Windows" else len(devices),
        nodes=1,
        host_ram_gib=host_ram_gib,
        has_bf16=_has_bf16(smallest, gpu),
        notes=(*notes, *_remarks(system)),
        system=system,
    )


def platform_name() -> str:
    """Linux, Windows or macOS; another system by the name that Python has for it."""
    return {"win32": "Windows", "darwin": "macOS"}.get(sys.platform, sys.platform.capitalize())


def _remarks(system: str) -> tuple[str, ...]:
    """What of this project does not run on `system`."""
    return REMARKS.get(system, ())


def host_memory_gib() -> float:
    """Memory of this machine in GiB, or of the container where that is less. Raises MissingHere where nothing tells."""
    size = host_memory.total()
    if size is None:
        raise MissingHere(
            "the memory of this machine could not be read",
            hint="name the machine to plan for: --gpu NAME --host-ram-gib X",
        )
    return round(size / BYTES_PER_GIB, 2)


def free_gib() -> float | None:
    """Memory that nobody holds on the visible GPU with the least of it, or None where nvidia-smi does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        answer = _ask(program, FREE_QUERY)
    except (subprocess.TimeoutExpired, OSError):
        return None
    free = []
    for line in filter(None, map(str.strip, (answer or "").splitlines())):
        index, uuid, size = (part.strip() for part in (line.split(",") + ["", ""])[:3])
        mib = _number(size)
        if mib is not None and _is_visible(index, uuid):
            free.append(mib / MIB_PER_GIB)
    return min(free, default=None)


def free_host_gib() -> float | None:
    """Host memory in GiB that could be given out now, or None where the system does not say."""
    free = host_memory.available()
    return None if free is None else free / BYTES_PER_GIB


def _cpu(host_ram_gib: float, notes: tuple[str, ...]) -> Hardware:
    return Hardware(
        name="cpu",
        gpu=None,
        vram_gib=host_ram_gib,
        gpus=1,
        nodes=1,
        host_ram_gib=host_ram_gib,
        # Unsloth trains in float32 where there is no accelerator (unsloth/_cpu_init.py of 2026.10.9).
        has_bf16=False,
        is_cpu=True,
        notes=(*notes, *_remarks(platform_name())),
        system=platform_name(),
    )


def _devices() -> tuple[list[Device], tuple[str, ...]]:
    """GPUs in nvidia-smi's order, and what went wrong while asking."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], ()
    for query in (FULL_QUERY, OLD_QUERY):
        try:
            answer = _ask(program, query)
        except subprocess.TimeoutExpired:
            return [], (f"nvidia-smi did not answer within {QUERY_TIMEOUT_S:g} s: GPUs, if any, were not seen",)
        except OSError as error:
            return [], (f"nvidia-smi could not be started ({error.strerror}): GPUs, if any, were not seen",)
        if answer is not None:
            return _parse(answer, query)
    return [], ("nvidia-smi failed: GPUs, if any, were not seen; run it by hand to see why",)


def _ask(program: str, query: tuple[str, ...]) -> str | None:
    """nvidia-smi's answer, or None when it exits with an error. Raises TimeoutExpired and leaves nothing running."""
    command = [program, f"--query-gpu={','.join(query)}", "--format=csv,noheader,nounits"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        **children.APART,
    )
    try:
        answer, _ = process.communicate(timeout=QUERY_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # Its children hold the pipe open: end them all, or reading the rest would hang as well.
        children.end(process)
        process.communicate()
        raise
    return answer if process.returncode == 0 else None


def _parse(answer: str, query: tuple[str, ...]) -> tuple[list[Device], tuple[str, ...]]:
    devices: list[Device] = []
    for line in filter(None, map(str.strip, answer.splitlines())):
        fields = dict(zip(query, map(str.strip, line.split(",")), strict=False))
        total = _number(fields.get("memory.total"))
        if len(fields) != len(query) or not total:
            return [], (f"nvidia-smi printed a line that is not a GPU: {line[:80]!r}",)
        devices.append(
            Device(
                index=fields["index"],
                uuid=fields["uuid"],
                name=fields["name"],
                total_mib=total,
                driver=fields["driver_version"],
                reserved_mib=_number(fields.get("memory.reserved")),
                compute_capability=_number(fields.get("compute_cap")),
            )
        )
    return devices, ()


def _number(text: str | None) -> float | None:
    """nvidia-smi prints "[N/A]" or "[Not Supported]" for what a device cannot tell."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _visible(device: Device) -> bool:
    return _is_visible(device.index, device.uuid)


def _is_visible(index: str, uuid: str) -> bool:
    """nvidia-smi lists every GPU; CUDA_VISIBLE_DEVICES may hide some from training."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return True
    wanted = [item.strip() for item in allowed.split(",") if item.strip()]
    return any(item == index or (item.startswith("GPU-") and uuid.startswith(item)) for item in wanted)


def _known(device: Device) -> Gpu | None:
    try:
        return cards.find_gpu(device.name)
    except BadInput:
        return None


def _has_bf16(device: Device, gpu: Gpu | None) -> bool:
    if device.compute_capability is not None:
        return device.compute_capability >= BF16_FROM_CAPABILITY
    return gpu is not None and gpu.has_bf16
