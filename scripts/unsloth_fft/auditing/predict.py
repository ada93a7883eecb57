"""What share of a model's weights a step will move, before anything is trained.

From a checkpoint's real weights, streamed and counted by exponent; where there are none here, from those of the models
known, as a range.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..core import schema
from ..core.errors import BadInput
from ..estimates import survival
from ..estimates.survival import ExponentCounts, Update
from ..models import hub_cache

CURVE_RATES: Final = tuple(
    float(f"{digit}e{power}") for power in range(-8, -2) for digit in (1, 1.5, 2, 3, 5, 7)
)  # fmt: skip
"""Learning rates of the curve, 1e-8 to 7e-3: closer together than a factor of two, where the curve has its steps."""

REMEDY: Final = f"plan again with {survival.REMEDY}"
"""What keeps the updates that rounding would lose."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Weights:
    """The sizes of a model's weights by group ("checkpoint"), or of the models known by name ("known_models")."""

    model: str
    source: str
    groups: Mapping[str, ExponentCounts]

    @property
    def were_seen(self) -> bool:
        """Whether these are the model's own weights."""
        return self.source == "checkpoint"

    @property
    def note(self) -> str | None:
        """How far a share can be trusted; None where real weights were counted."""
        if self.were_seen:
            return None
        return (
            "this model's weights were not seen: the share is the middle one of the models known, which differ;"
            " a folder with weights gives the share of its own"
        )

    @property
    def elements(self) -> int | None:
        """Weights counted; None where they were not seen."""
        return int(sum(counts.total for counts in self.groups.values())) if self.were_seen else None


@dataclass(frozen=True)
class Prediction:
    """What survives at one learning rate, at others, and from which learning rate on 99% do."""

    weights: Weights
    learning_rate: float
    precision: str
    optimizer: str
    update: Update

    def survival_at(self, learning_rate: float) -> float:
        """Share of all weights that a step of this size moves; of weights not seen the middle of `range_at`."""
        if self.weights.were_seen:
            return survival.survival(self._all, learning_rate, unbiased=self.update.unbiased)
        return self._spread_at(learning_rate).middle

    def range_at(self, learning_rate: float) -> list[float] | None:
        """Lowest and highest share over the models known; None where the model's own weights were counted."""
        if self.weights.were_seen:
            return None
        found = self._spread_at(learning_rate)
        return [found.low, found.high]

    @property
    def smallest_lr(self) -> float:
        """Smallest learning rate at which survival.WANTED_SHARE moves; 0 where every rate will do."""
        model = self.smallest_lr_of
        return self._smallest_for(self._all if model is None else self.weights.groups[model])

    @property
    def smallest_lr_of(self) -> str | None:
        """The known model that needs the largest of these rates; None where the model's own weights were counted."""
        if self.weights.were_seen:
            return None
        return max(self.weights.groups, key=lambda name: self._smallest_for(self.weights.groups[name]))

    def _smallest_for(self, counts: ExponentCounts) -> float:
        return survival.smallest_lr(counts, survival.WANTED_SHARE, unbiased=self.update.unbiased)

    @property
    def _all(self) -> ExponentCounts:
        return survival.merged(self.weights.groups.values())

    def _share_of(self, counts: ExponentCounts) -> float:
        return survival.survival(counts, self.learning_rate, unbiased=self.update.unbiased)

    def _spread_at(self, learning_rate: float) -> survival.Spread:
        return survival.over_known_models(learning_rate, self.update.rounds_to, unbiased=self.update.unbiased)

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against schemas/prediction.schema.json."""
        share = self.survival_at(self.learning_rate)
        value = {
            "schema_version": schema.SCHEMA_VERSION,
            "model": self.weights.model,
            "source": self.weights.source,
            "note": self.weights.note,
            "elements": self.weights.elements,
            "learning_rate": self.learning_rate,
            "precision": self.precision,
            "optimizer": self.optimizer,
            "rounds_to": self.update.rounds_to,
            "unbiased": self.update.unbiased,
            "explanation": self.update.explanation,
            "survival": share,
            "survival_of": "checkpoint" if self.weights.were_seen else "middle_known_model",
            "survival_range": self.range_at(self.learning_rate),
            "wanted": survival.WANTED_SHARE,
            "smallest_learning_rate": self.smallest_lr,
            "smallest_learning_rate_of": self.smallest_lr_of,
            "groups": {
                name: {"elements": int(counts.total), "survival": self._share_of(counts)}
                for name, counts in self.weights.groups.items()
                if self.weights.were_seen
            },
            "known_models": None
            if self.weights.were_seen
            else {name: self._share_of(counts) for name, counts in self.weights.groups.items()},
            "curve": [{"learning_rate": rate, "survival": self.survival_at(rate)} for rate in CURVE_RATES],
            "remedy": REMEDY if share < survival.WANTED_SHARE else None,
        }
        schema.check(value, "prediction", "the prediction")
        return value


def predict(
    model: str,
    learning_rate: float,
    precision: str,
    optimizer: str = "adamw_8bit",
    optimizer_args: Mapping[str, bool] | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """The prediction for a checkpoint (folder, file or downloaded Hub name) or a name of the catalogue."""
    if not 0 < learning_rate <= 1:
        raise BadInput(f"learning rate {learning_rate:g} is not above 0 and at most 1", hint="for example 1e-5")
    update = survival.update_of(precision, optimizer, optimizer_args or {})
    return Prediction(weights_of(model, update.rounds_to, progress), learning_rate, precision, optimizer, update)


def weights_of(model: str, dtype: str, progress: Progress | None = None) -> Weights:
    """The sizes of a model's weights as `dtype` holds them; those of the models known where it has none here."""
    found = hub_cache.find(model)
    if found is None:
        return Weights(_catalogue_name(model), "known_models", survival.known_models(dtype))
    if found.is_file() and found.name == "config.json" or found.is_dir() and not _has_weights(found):
        return Weights(str(found), "known_models", survival.known_models(dtype))
    return count_weights(found, dtype, progress)


def count_weights(path: Path, dtype: str, progress: Progress | None = None) -> Weights:
    """Stream a checkpoint and count its weights by group and exponent, rounded to `dtype`; a tied head counts once."""
    from ..weights.checkpoint import open_checkpoint
    from ..weights.exponents import count_exponents
    from ..weights.naming import group_of
    from .alignment import align

    checkpoint = open_checkpoint(path)
    tensors = [pair.base for pair in align(checkpoint, checkpoint).pairs if pair.base.is_weight]
    total, done = sum(tensor.bytes for tensor in tensors), 0
    groups: dict[str, list[ExponentCounts]] = defaultdict(list)
    for tensor in tensors:
        groups[group_of(tensor.name)].append(count_exponents(tensor, dtype))
        done += tensor.bytes
        if progress:
            progress(done, total)
    return Weights(str(path), "checkpoint", {name: survival.merged(parts) for name, parts in groups.items()})


def _has_weights(folder: Path) -> bool:
    return (
        (folder / "snapshots").is_dir() or any(folder.glob("*.safetensors*")) or not (folder / "config.json").exists()
    )


def _catalogue_name(model: str) -> str:
    from ..models import catalogue

    return str(catalogue.find_entry(model).name)
