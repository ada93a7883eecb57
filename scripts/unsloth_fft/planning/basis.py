"""How well founded a plan is: measured, calibrated or extrapolated, and how far an extrapolated speed may be off."""

from __future__ import annotations

import functools
from typing import Any

from ..estimates.calibration import calibration
from ..estimates.kinds import Kind, kind_of
from ..models.shape import ModelShape
from ..settings.recipes import is_nvidia
from ..settings.setting import Setting
from .request import Request
from .row_joining import packs

# Smaller models are bound by how fast the host launches kernels, and say little of larger ones.
LARGE = 10**9
# Factors below and above an extrapolated speed. Judged, not measured: no other card has been tried.
OTHER_CARD = (0.6, 1.2)
NO_BF16 = (0.3, 1.2)
NOT_NVIDIA = (0.35, 1.1)
ONLY_MEMORY_KNOWN = (0.25, 3.0)
CPU = (0.2, 4.0)
NETWORK = (0.5, 1.1)
STREAMED = (0.5, 1.1)


def basis_of(request: Request, setting: Setting) -> str:
    """How well founded the figures are, which are always the memory and speed model's.

    "measured": a row of this very setting exists beside them. "calibrated": a fitted model, card, length and way of
    training. Else "extrapolated".
    """
    if _row_of(request, setting) is not None:
        return "measured"
    fitted = calibration()["scope"]
    within = (
        request.hardware.name in fitted["gpus"]
        and shape_key(request.shape) in fitted["shapes"]
        and fitted["seq_length"][0] <= request.seq_length <= fitted["seq_length"][1]
        and request.gpus <= fitted["max_gpus"]
        and request.hardware.nodes == 1
        and any(_same_way(row, setting) for row in calibration()["rows"])
    )
    return "calibrated" if within else "extrapolated"


def _same_way(row: dict[str, Any], setting: Setting) -> bool:
    """Whether `row` is of a large model that trained in the way of `setting`, whatever its batch and checkpointing."""
    same = all(
        row.get(key, False) == value
        for key, value in {
            "weights": setting.weights,
            "optimizer": setting.optimizer,
            "state_offload": setting.state_offload,
            "gradient_offload": setting.gradient_offload,
            "float8": setting.float8,
            "weight_offload": setting.weight_offload,
        }.items()
    )
    dense = row["weights"] == "float32" and row.get("padding_free", False) and row["micro_batch"] > 1
    return same and dense == setting.dense_mask and int(row["shape"].split("/")[0]) >= LARGE


def measured_sentence(request: Request, setting: Setting) -> list[str]:
    """What was measured for this very setting, in one sentence; empty where nothing was."""
    row = _row_of(request, setting)
    if row is None:
        return []
    return [
        "The figures are those of the memory and speed model; this very setting was measured at"
        f" {row['peak_res_gb']:.1f} GiB and {row['tok_s']:,.0f} tokens/s (row {row['id']})."
    ]


def spread(request: Request) -> tuple[float, float]:
    """Factors below and above an extrapolated speed."""
    low, high = _factors(request)
    if request.pins.weight_offload:
        low, high = low * STREAMED[0], high * STREAMED[1]
    if request.hardware.nodes > 1:
        return low * NETWORK[0], high * NETWORK[1]
    return low, high


def _factors(request: Request) -> tuple[float, float]:
    hardware = request.hardware
    if hardware.is_cpu:
        return CPU
    if hardware.gpu is None:
        return ONLY_MEMORY_KNOWN
    if not is_nvidia(hardware):
        return NOT_NVIDIA
    if not hardware.has_bf16:
        return NO_BF16
    low, high = kind_of_model(request).speed
    if hardware.name in calibration()["scope"]["gpus"]:
        return low, high
    return min(low, OTHER_CARD[0]), max(high, OTHER_CARD[1])


def kind_of_model(request: Request) -> Kind:
    """The kind of the request's model, which says how far its estimates may be off."""
    return _kind_of_shape(request.shape)


@functools.lru_cache(maxsize=8)
def _kind_of_shape(shape: ModelShape) -> Kind:
    return kind_of(shape, fitted=shape_key(shape) in calibration()["scope"]["shapes"])


def shape_key(shape: ModelShape) -> str:
    """What tells one shape from another for calibration, whatever the model is called."""
    return f"{shape.parameters}/{shape.layers}/{shape.hidden_size}/{shape.vocab_size}"


def _row_of(request: Request, setting: Setting) -> dict[str, Any] | None:
    if packs(request, setting):
        return None  # the rows were not packed: `padding_free` there says that they were laid end to end
    wanted = {
        "gpu": request.hardware.name,
        "shape": shape_key(request.shape),
        "weights": setting.weights,
        "optimizer": setting.optimizer,
        "optimizer_args": dict(setting.optimizer_args),
        "state_offload": setting.state_offload,
        "gradient_offload": setting.gradient_offload,
        "padding_free": setting.padding_free,
        "checkpointing": setting.checkpointing,
        "micro_batch": setting.micro_batch,
        "accumulation": setting.accumulation,
        "seq_length": setting.seq_length,
        "gpus": setting.gpus,
        "float8": setting.float8,
        "checkpointed_layers": setting.checkpointed_layers or False,
        "both_ways": setting.state_offload and setting.both_ways,
        "weight_offload": setting.weight_offload,
    }
    rows: list[dict[str, Any]] = calibration()["rows"]
    return next((row for row in rows if all(row.get(key, False) == value for key, value in wanted.items())), None)
