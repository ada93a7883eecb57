"""The few constants that were fitted to measured rows, read from calibration.json.

Everything else in the memory and speed models is counted from the model's shape and from what the installed code
allocates: references/memory-model.md says which is which.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

from ..core import files

CALIBRATION = Path(__file__).with_name("calibration.json")


class MemoryConstants(NamedTuple):
    """GiB where the name says so; `units` are activations of one hidden state (tokens x hidden size, 2 bytes)."""

    resident_gib: float
    loss_extra_gib: float
    loss_hidden_units: float
    fragmentation_of_head: float
    fragmentation_of_step: float
    fragmentation_of_layer: float
    fragmentation_at_step: float
    fragmentation_of_checkpoints: float


class SpeedConstants(NamedTuple):
    """Shares are of the card's data-sheet figure; a hidden size of `matmul_half_width` reaches half of the first."""

    matmul_share: float
    matmul_half_width: float
    attention_share: float
    softcapped_attention_share: float
    bandwidth_share: float
    float32_slowdown: float
    layer_launch_s: float
    softcapped_layer_launch_s: float
    bnb_elements_per_byte_of_bandwidth: float
    torchao_tensor_s: float
    flash_tensor_s: float
    host_link_share: float
    paged_extra_share: float
    padding_free_slowdown: float
    dense_attention_share: float
    gradient_copy_share: float


@functools.cache
def calibration() -> dict[str, Any]:
    """The whole file, with the rows the constants came from."""
    value: dict[str, Any] = files.read_json(CALIBRATION, "calibration")
    return value


@functools.cache
def memory_constants() -> MemoryConstants:
    return MemoryConstants(**calibration()["memory"]["constants"])


@functools.cache
def speed_constants() -> SpeedConstants:
    return SpeedConstants(**calibration()["speed"]["constants"])
