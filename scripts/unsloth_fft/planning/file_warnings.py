"""What the planner would warn of in a parameters file that somebody wrote or changed by hand."""

from __future__ import annotations

from ..core.errors import FFTError
from ..models import catalogue
from ..settings.parameters import Parameters
from . import words


def warnings(parameters: Parameters) -> list[str]:
    """Sentences about a rate, or a number of passes, that full fine-tuning does not use; empty where all is usual."""
    size = parameters.model.parameters or _size(parameters.model.name)
    data, schedule = parameters.data, parameters.schedule
    found = [] if size is None else words.rate_warnings(parameters.optimizer.learning_rate, data.objective, size)
    passes = schedule.num_train_epochs
    if passes is None and schedule.max_steps is not None and data.rows and not data.packing:
        learned = data.rows * (1 - data.eval_fraction)
        passes = schedule.max_steps * parameters.batch.effective_batch_size / learned
        if passes < words.NEARLY_A_PASS and data.format != "text" and data.objective == "sft":
            found.append(
                f"{schedule.max_steps:,} steps end after {passes:.2f} of a pass: the rest of the {data.rows:,} rows is"
                " never learned; num_train_epochs counts passes."
            )
    return [*found, *words.passes_warnings(passes)]


def _size(name: str) -> int | None:
    """Weights of a model whose shape can be read here."""
    try:
        return catalogue.load_shape(name).parameters
    except FFTError:
        return None
