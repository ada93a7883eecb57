"""The same plan through plain transformers and TRL, without Unsloth: what Unsloth is compared with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..settings.parameters import Parameters
from ..settings.recipes import OPTIMIZERS
from ..training import trial
from ..training.arguments import training_arguments
from ..training.trial import Trial
from ..weights import loading

# What only Unsloth's trainer has.
UNSLOTH_ONLY = tuple(name for name, optimizer in OPTIMIZERS.items() if optimizer.only_unsloth)


def measure(
    parameters: Parameters, model: Path, rows: Any, steps: int, profile: Path | None = None
) -> tuple[Trial, Any]:
    """Take `steps` optimizer steps as `trial.measure` does; returns the trial and the trained model.

    Checkpointing "unsloth" becomes the plain one. Raises BadInput for what only Unsloth has.
    """
    if parameters.optimizer.name in UNSLOTH_ONLY or parameters.optimizer.state_offload:
        raise BadInput(
            f"plain TRL has neither {', '.join(UNSLOTH_ONLY)} nor state offload",
            hint="benchmark this plan without --stack trl",
        )
    import torch
    from trl import SFTConfig, SFTTrainer

    float32 = parameters.precision.weights == "float32"
    base = loading.model(
        model, dtype=torch.float32 if float32 else torch.bfloat16, attn_implementation="sdpa", device_map={"": 0}
    )
    clock = trial.Clock(profile, steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(parameters, Path(folder))
        arguments.update(
            max_steps=steps,
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            bf16=float32,
            gradient_checkpointing=parameters.memory.gradient_checkpointing != "off",
            train_sampling_strategy="sequential",
        )
        trainer = SFTTrainer(
            model=base,
            processing_class=loading.tokenizer(model),
            train_dataset=rows,
            args=SFTConfig(**arguments),
            callbacks=[clock.callback()],
        )
        trial.reset_peak()
        trainer.train()
    tokens = parameters.batch.effective_batch_size * parameters.model.max_seq_length
    return trial.summary(clock, tokens, trainer), trainer.model
