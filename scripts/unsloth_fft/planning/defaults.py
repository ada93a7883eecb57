"""Learning rate, schedule, warm-up, clipping and weight decay for full fine-tuning, by objective and model size.

Every value follows published recipes for training all weights; references/hyperparameters.md quotes each of them
under the ids in `source_ids`, says why this value was chosen among them, and what was not followed.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.errors import BadInput

BILLION = 1_000_000_000


class TrainingDefaults(NamedTuple):
    """Where to start. `warmup_steps` below 1 is a share of all steps, as transformers 5.17 reads it."""

    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: float
    max_grad_norm: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    num_train_epochs: float
    source_ids: tuple[str, ...]


class _Rate(NamedTuple):
    """The peak learning rate of models with fewer than `below` parameters."""

    below: float
    learning_rate: float
    source_ids: tuple[str, ...]


class _Recipe(NamedTuple):
    """What does not depend on size, and the rates that do, smallest models first."""

    lr_scheduler_type: str
    warmup_steps: float
    max_grad_norm: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    num_train_epochs: float
    source_ids: tuple[str, ...]
    rates: tuple[_Rate, ...]


_RECIPES = {
    "sft": _Recipe(
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        max_grad_norm=1.0,
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        num_train_epochs=2,
        source_ids=("tulu3-8b", "olmo2-7b", "zephyr-7b", "transformers-5.17"),
        rates=(
            _Rate(2 * BILLION, 3e-5, ("olmo2-1b", "torchtune-0.5b", "axolotl-lfm2-350m")),
            _Rate(5 * BILLION, 2e-5, ("smollm3-3b", "torchtune-3b")),
            _Rate(10 * BILLION, 1e-5, ("tulu3-8b", "olmo2-7b", "zephyr-7b", "torchtune-8b-single")),
            _Rate(20 * BILLION, 5e-6, ("olmo2-13b", "torchtune-phi4-14b")),
            _Rate(50 * BILLION, 4e-6, ("olmo2-32b", "axolotl-qwen3-30b")),
            _Rate(float("inf"), 2e-6, ("tulu3-70b",)),
        ),
    ),
    "pretrain": _Recipe(
        lr_scheduler_type="linear",
        warmup_steps=0.02,
        max_grad_norm=1.0,
        weight_decay=0.1,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        num_train_epochs=1,
        source_ids=("olmo2-7b-stage2", "finemath-3b", "smollm3-long"),
        rates=(
            _Rate(5 * BILLION, 5e-5, ("finemath-3b", "olmo2-1b-stage2")),
            _Rate(10 * BILLION, 3e-5, ("olmo2-7b-stage2", "finemath-3b")),
            _Rate(20 * BILLION, 2e-5, ("olmo2-13b-stage2", "smollm3-long")),
            _Rate(float("inf"), 1e-5, ("smollm3-long",)),
        ),
    ),
}

OBJECTIVES = tuple(_RECIPES)


def defaults_for(objective: str, parameters: int) -> TrainingDefaults:
    """Defaults for training all `parameters` weights (total, for a mixture of experts too).

    `objective` is "sft" (instruction data) or "pretrain" (continued pretraining on text). Raises BadInput for
    another objective or a model without parameters.
    """
    recipe = _RECIPES.get(objective)
    if recipe is None:
        raise BadInput(f"--objective {objective} is not one of {', '.join(OBJECTIVES)}", hint="choose one of them")
    if parameters <= 0:
        raise BadInput(f"a model of {parameters} parameters cannot be trained", hint="check the model's config.json")
    rate = next(rate for rate in recipe.rates if parameters < rate.below)
    return TrainingDefaults(
        learning_rate=rate.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.max_grad_norm,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        num_train_epochs=recipe.num_train_epochs,
        source_ids=tuple(dict.fromkeys(rate.source_ids + recipe.source_ids)),
    )
