"""The run that was asked for, as one frozen object: everything the search needs to know and nothing it decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..hardware.cards import Hardware
from ..models.shape import ModelShape
from .data_facts import DataFacts

# Rows held out for evaluation where nothing else is asked for (the parameters file's eval_fraction).
EVAL_FRACTION = 0.1


@dataclass(frozen=True)
class Pins:
    """Knobs the user decided; None leaves one to the search."""

    weights: str | None = None
    optimizer: str | None = None
    state_offload: bool | None = None
    checkpointing: str | None = None
    micro_batch: int | None = None
    accumulation: int | None = None
    gradient_offload: bool | None = None
    checkpointed_layers: int | None = None
    compute: str | None = None
    weight_offload: bool | None = None


class Amount(NamedTuple):
    """How much to train: exactly one is set, in passes over the data, optimizer steps or tokens."""

    epochs: float | None = None
    max_steps: int | None = None
    tokens: int | None = None

    @property
    def in_passes(self) -> bool:
        """Whether passes over the data decide, given here or by default."""
        return self.max_steps is None and self.tokens is None


class Reading(NamedTuple):
    """How the data set is read: which chat template, what a row of a text file is, and the share of rows held out.

    `columns` are (name here, name in the file) of columns named otherwise, `ignored_columns` mean nothing.
    `form` is the format of the rows where it was said, one of data.formats.FORMATS.
    """

    chat_template: str | None = None
    sample_by: str = "line"
    eval_fraction: float = EVAL_FRACTION
    columns: tuple[tuple[str, str], ...] = ()
    ignored_columns: tuple[str, ...] = ()
    allow_cut_ends: bool = False
    form: str | None = None


@dataclass(frozen=True)
class Request:
    """`seq_length` in tokens, `effective_batch` in rows an optimizer step over all GPUs, prices in USD a GPU-hour.

    `given` names the hardware flags that stood on the command line ("--vram-gib"): they stay when a hint is followed.
    `prefer` says what the best of the plans that fit has most of: "speed", or least of: "memory".
    `report_to` is a tracker by its name in Transformers.
    `one_price` says that `price_per_hour` was given once for several cards that are compared.
    `batch_by_default` says that `effective_batch` was not given, and follows the number of GPUs.
    `unread` is the data set whose rows are not known, because it is on the Hub, on another machine or not countable.
    """

    model: str
    shape: ModelShape
    hardware: Hardware
    seq_length: int
    effective_batch: int
    exactness: str
    objective: str
    amount: Amount
    learning_rate: float | None = None
    data: DataFacts | None = None
    price_per_hour: float | None = None
    pins: Pins = Pins()
    given: frozenset[str] = frozenset()
    reading: Reading = Reading()
    unread: str | None = None
    prefer: str = "speed"
    one_price: bool = False
    report_to: str = "none"
    batch_by_default: bool = False

    @property
    def float8(self) -> bool:
        """Whether float8 matrix products were asked for; they are never chosen unasked."""
        return self.pins.compute == "float8"

    @property
    def gpus(self) -> int:
        """GPUs of all nodes together."""
        return self.hardware.gpus * self.hardware.nodes
