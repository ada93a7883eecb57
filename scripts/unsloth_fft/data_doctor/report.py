"""What the data doctor found, as typed objects whose keys are those of schemas/data-report.schema.json."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..core import schema
from . import duplicates
from .lengths import Bin, Recommended, Tokens


@dataclass(frozen=True)
class SourceSummary:
    dataset: str
    format: str
    rows: int
    weight: float


@dataclass(frozen=True)
class Truncation:
    at: int
    rows: int
    share: float
    tokens_lost_share: float
    rows_without_answer: int
    rows_without_end: int
    rows_with_end: int
    ends_refused: bool


@dataclass(frozen=True)
class Packing:
    micro_batch: int
    padding_waste: float
    packed_waste: float
    packed_sequences: int


@dataclass(frozen=True)
class Supervision:
    loss_on: str
    tokens: int
    share: float
    rows_with_unexpected_turns: int


@dataclass(frozen=True)
class Duplicates:
    empty_rows: int
    exact_rows: int
    near_rows: int
    near_method: str = duplicates.METHOD


@dataclass(frozen=True)
class Leakage:
    held_out_rows: int
    leaked_rows: int


@dataclass(frozen=True)
class Template:
    has_template: bool
    marks_answers: bool
    end_of_turn: str | None
    end_is_one_token: bool | None
    end_stops_generation: bool | None
    every_turn_ends: bool | None
    tokenizer_adds_begin: bool
    rows_begun_twice: int


@dataclass(frozen=True)
class Epoch:
    examples: int
    effective_batch: int
    steps: int
    tokens: int


@dataclass(frozen=True)
class ShownFault:
    file: str
    line: int
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Faults:
    count: int
    shown: list[ShownFault]


@dataclass(frozen=True)
class UnusedKey:
    """A key that was not looked at, and in how many rows it stood."""

    key: str
    rows: int


@dataclass(frozen=True)
class Stretch:
    """A part of a row as the model reads it, and whether it is learned; `shortened`: its middle is left out."""

    text: str
    learned: bool
    shortened: bool = False


@dataclass(frozen=True)
class Oddities:
    """Rows of which something deserves a look, counted.

    `templated_text` is raw text that holds this chat template's markers, `placeholders` are answers with {{...}} in
    them, `unlearned_turns` counts answers that are context only.
    """

    templated_text: int = 0
    placeholders: int = 0
    unlearned_turns: int = 0


@dataclass(frozen=True)
class Report:
    """The whole finding. `rows` counts faulty rows too; `usable_rows` keep a token to learn at `max_seq_length`."""

    model: str
    max_seq_length: int
    sources: list[SourceSummary]
    format: str
    rows: int
    usable_rows: int
    tokens: Tokens
    truncation: Truncation
    padding: Packing
    supervision: Supervision
    duplicates: Duplicates
    leakage: Leakage
    template: Template
    epoch: Epoch
    recommended: Recommended
    faults: Faults
    warnings: list[str]
    seconds: float
    unused_keys: list[UnusedKey]
    skipped_files: list[str]
    samples: list[list[Stretch]]
    oddities: Oddities
    schema_version: str = schema.SCHEMA_VERSION

    @property
    def is_refused(self) -> bool:
        """Whether training would refuse this data."""
        return self.faults.count > 0 or self.epoch.examples == 0 or self.truncation.ends_refused

    def with_warnings(self, warnings: list[str]) -> Report:
        """A copy that carries `warnings`."""
        return dataclasses.replace(self, warnings=warnings)

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against the schema."""
        value = {"verdict": "refused" if self.is_refused else "usable", **dataclasses.asdict(self)}
        schema.check(value, "data-report", "the data report")
        return value


def from_json(value: Any, where: str) -> Report:
    """The report that `value`, which came from `where`, is. Raises BadInput when it is none."""
    schema.check(value, "data-report", where)
    known = {key: part for key, part in value.items() if key != "verdict"}
    nested = {
        "truncation": Truncation,
        "padding": Packing,
        "supervision": Supervision,
        "duplicates": Duplicates,
        "leakage": Leakage,
        "template": Template,
        "epoch": Epoch,
        "recommended": Recommended,
        "oddities": Oddities,
    }
    known |= {key: kind(**value[key]) for key, kind in nested.items()}
    known["unused_keys"] = [UnusedKey(**part) for part in value["unused_keys"]]
    known["samples"] = [[Stretch(**stretch) for stretch in sample] for sample in value["samples"]]
    known["sources"] = [SourceSummary(**part) for part in value["sources"]]
    known["tokens"] = Tokens(**{**value["tokens"], "histogram": [Bin(**part) for part in value["tokens"]["histogram"]]})
    faults = value["faults"]
    known["faults"] = Faults(faults["count"], [ShownFault(**fault) for fault in faults["shown"]])
    return Report(**known)
