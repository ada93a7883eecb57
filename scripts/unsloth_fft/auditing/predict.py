"""What share of a model's weights a step will move, before anything is trained.

From a checkpoint's real weights, streamed and counted by exponent; or from a normal distribution of the published
initial scale where only the model's shape is known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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

REMEDY: Final = f"plan again: generate_fft_params.py {survival.REMEDY}"
"""What keeps the updates that rounding would lose."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Weights:
    """The sizes of a model's weights by group, and where they came from: "checkpoint" or "typical"."""

    model: str
    source: str
    std: float | None
    groups: Mapping[str, ExponentCounts]

    @property
    def note(self) -> str | None:
        """How far an assumption can be trusted; None where real weights were counted."""
        if self.source == "checkpoint":
            return None
        return (
            f"no checkpoint was read: typical weights, drawn from N(0, {self.std:g}), were assumed and not measured;"
            " a model folder gives the share of its own weights"
        )

    @property
    def elements(self) -> int | None:
        """Weights counted; None where they were only assumed."""
        return int(sum(counts.total for counts in self.groups.values())) if self.source == "checkpoint" else None


@dataclass(frozen=True)
class Prediction:
    """What survives at one learning rate, at others, and from which learning rate on 99% do."""

    weights: Weights
    learning_rate: float
    precision: str
    optimizer: str
    update: Update

    def survival_at(self, learning_rate: float) -> float:
        """Share of all weights that a step of this size moves."""
        return survival.survival(self._all, learning_rate, unbiased=self.update.unbiased)

    @property
    def smallest_lr(self) -> float:
        """Smallest learning rate at which survival.WANTED_SHARE moves; 0 where every rate will do."""
        return survival.smallest_lr(self._all, survival.WANTED_SHARE, unbiased=self.update.unbiased)

    @property
    def _all(self) -> ExponentCounts:
        return merged(self.weights.groups.values())

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against schemas/prediction.schema.json."""
        share = self.survival_at(self.learning_rate)
        value = {
            "schema_version": schema.SCHEMA_VERSION,
            "model": self.weights.model,
            "source": self.weights.source,
            "weight_std": self.weights.std,
            "note": self.weights.note,
            "elements": self.weights.elements,
            "learning_rate": self.learning_rate,
            "precision": self.precision,
            "optimizer": self.optimizer,
            "rounds_to": self.update.rounds_to,
            "unbiased": self.update.unbiased,
            "explanation": self.update.explanation,
            "survival": share,
            "wanted": survival.WANTED_SHARE,
            "smallest_learning_rate": self.smallest_lr,
            "groups": {
                name: {
                    "elements": int(counts.total) if self.weights.source == "checkpoint" else None,
                    "survival": survival.survival(counts, self.learning_rate, unbiased=self.update.unbiased),
                }
                for name, counts in self.weights.groups.items()
            },
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
    """The sizes of a model's weights as `dtype` holds them; counted where there is a checkpoint, else typical."""
    found = hub_cache.find(model)
    if found is None:
        return _typical(_catalogue_name(model), dtype, survival.TYPICAL_WEIGHT_STD)
    if found.is_file() and found.name == "config.json" or found.is_dir() and not _has_weights(found):
        return _from_config(found if found.is_file() else found / "config.json", dtype)
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
    return Weights(str(path), "checkpoint", None, {name: merged(parts) for name, parts in groups.items()})


def merged(parts: Any) -> ExponentCounts:
    """Several counts of one type as one."""
    found = list(parts)
    powers: Counter[int] = Counter()
    others: Counter[int] = Counter()
    for counts in found:
        powers.update(counts.powers)
        others.update(counts.others)
    return ExponentCounts(found[0].dtype, sum(counts.zeros for counts in found), powers, others)


def _has_weights(folder: Path) -> bool:
    return (
        (folder / "snapshots").is_dir() or any(folder.glob("*.safetensors*")) or not (folder / "config.json").exists()
    )


def _from_config(file: Path, dtype: str) -> Weights:
    """A shape without weights: the scale that its config.json says they are drawn with."""
    from ..core import files

    config = files.read_json(file, "model configuration")
    parts = [config, config.get("text_config")] if isinstance(config, dict) else []
    for part in parts:
        std = part.get("initializer_range") if isinstance(part, dict) else None
        if isinstance(std, (int, float)) and 0 < std < 100:
            return _typical(str(file), dtype, float(std))
    return _typical(str(file), dtype, survival.TYPICAL_WEIGHT_STD)


def _typical(model: str, dtype: str, std: float) -> Weights:
    return Weights(model, "typical", std, {"other": survival.normal_counts(dtype, std)})


def _catalogue_name(model: str) -> str:
    from ..models import catalogue

    return str(catalogue.find_entry(model).name)
