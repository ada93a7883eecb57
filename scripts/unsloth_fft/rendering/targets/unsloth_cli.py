"""unsloth-cli: the YAML of `unsloth train`, which has no setting for precision, optimizer or schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core import yaml_text
from ...core.errors import BadInput
from ...settings.parameters import Parameters
from .. import lost_settings, rows_elsewhere
from ..target import Lost, Rendered, Target, commented, is_local_data, plan_comment, require_dataset, wrapped

# What `unsloth train` does and cannot be told otherwise, unsloth 2026.10.9: unsloth_cli/commands/train.py
# (_optimizer_for_host), studio/backend/core/training/trainer.py (optim, lr_scheduler_type), unsloth_cli/config.py.
OPTIMIZER, SCHEDULER = "adamw_8bit", "linear"
FORMATS = {"auto": "auto", "messages": "auto", "sharegpt": "sharegpt", "alpaca": "alpaca", "text": "raw"}


def render(parameters: Parameters, file: str) -> Rendered:
    """The YAML file. Raises BadInput for several GPUs, a revision, or rows of prompt and completion."""
    dataset = require_dataset(parameters, "unsloth-cli")
    refuse(parameters, "unsloth-cli", FORMATS)
    data: dict[str, Any] = {"local_dataset": [dataset]} if is_local_data(dataset) else {"dataset": dataset}
    data["format_type"] = FORMATS[parameters.data.format]
    config = {"model": parameters.model.name, "data": data, "training": _training(parameters)}
    lost = losses(parameters)
    run = f"unsloth train --config {file}"
    if parameters.optimizer.state_offload:
        run = f"UNSLOTH_OFFLOAD_OPTIMIZER_STATE=1 {run}"
    comments = commented(wrapped([*plan_comment(parameters, lost), "", f"Run: {run}"]))
    return Rendered(comments + yaml_text.dump(config), run=run, lost=tuple(lost), variables=("HF_TOKEN",))


def refuse(parameters: Parameters, target: str, formats: Mapping[str, str]) -> None:
    """Raise BadInput for what Unsloth's own trainer takes no setting for: GPUs, a revision, rows of other `formats`."""
    rows_elsewhere.refuse(parameters, target)
    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        raise BadInput(f"{target}: a plan for several GPUs cannot be kept", hint="render --target script or slurm")
    if parameters.model.revision is not None:
        raise BadInput(
            f"{target}: model/revision cannot be kept", hint="download that revision and plan with its folder"
        )
    if parameters.data.format not in formats:
        raise BadInput(
            f"{target}: data/format '{parameters.data.format}' is not known to it",
            hint=f"rewrite the rows as one of: {', '.join(formats)}",
        )


def _training(parameters: Parameters) -> dict[str, Any]:
    batch, schedule = parameters.batch, parameters.schedule
    return {
        "training_type": "full",
        "max_seq_length": parameters.model.max_seq_length,
        "load_in_4bit": False,
        "output_dir": "fft-output",
        "num_epochs": whole_epochs(schedule.num_train_epochs),
        "max_steps": schedule.max_steps or 0,
        "learning_rate": parameters.optimizer.learning_rate,
        "batch_size": batch.per_device_train_batch_size,
        "gradient_accumulation_steps": batch.gradient_accumulation_steps,
        **warmup(parameters),
        "save_steps": schedule.save_steps or 0,
        "weight_decay": parameters.optimizer.weight_decay,
        "random_seed": schedule.seed,
        "packing": parameters.data.packing,
        "train_on_completions": learns_answers_alone(parameters),
        "gradient_checkpointing": checkpointing(parameters),
    }


def learns_answers_alone(parameters: Parameters) -> bool:
    """Both trainers learn every token unless they are told otherwise."""
    return parameters.data.loss_on == "responses" and parameters.data.format != "text"


def whole_epochs(epochs: float | None) -> int:
    """Passes as Unsloth's own trainer counts them."""
    return 1 if epochs is None else max(1, round(epochs))


def checkpointing(parameters: Parameters) -> str:
    """Its name for the plan's checkpointing."""
    mode = parameters.memory.gradient_checkpointing
    return "none" if mode == "off" else mode


def warmup(parameters: Parameters) -> dict[str, int]:
    """The warm-up in whole steps."""
    return {"warmup_steps": _warmup_steps(parameters)}


def _warmup_steps(parameters: Parameters) -> int:
    wanted = parameters.schedule.warmup_steps
    if wanted >= 1 or wanted == 0:
        return int(wanted)
    steps = parameters.schedule.max_steps or (parameters.plan.predicted.steps if parameters.plan else 0)
    return max(1, round(wanted * steps))


def losses(parameters: Parameters) -> list[Lost]:
    """What Unsloth's own trainer cannot be told."""
    optimizer, precision, schedule = parameters.optimizer, parameters.precision, parameters.schedule
    lost = [Lost("audit", "after the run", "yours to run: unsloth_fft_tool.py audit BASE TRAINED")]
    lost += [*lost_settings.layer_losses(parameters), *lost_settings.float8_losses(parameters)]
    lost += lost_settings.tower_losses(parameters)
    if precision.weights == "float32":
        lost.append(Lost("precision/weights", "float32", "bfloat16 on a GPU", breaks=True))
    if precision.exactness != "any":
        lost.append(
            Lost(
                "precision/exactness",
                precision.exactness,
                "any: bfloat16 rounding discards most updates at small learning rates",
                breaks=True,
            )
        )
    if optimizer.name != OPTIMIZER:
        lost.append(Lost("optimizer/name", optimizer.name, OPTIMIZER, breaks=precision.exactness != "any"))
    if schedule.lr_scheduler_type != SCHEDULER:
        lost.append(Lost("schedule/lr_scheduler_type", schedule.lr_scheduler_type, SCHEDULER))
    lost += lost_settings.selection_losses(parameters)
    lost += lost_settings.gradient_losses(parameters)
    if not parameters.data.packing and parameters.batch.per_device_train_batch_size > 1:
        wanted = str(parameters.data.padding_free).lower()
        chosen = "Unsloth's own choice when nothing is said; laid end to end, rows of Qwen3 attend over a dense mask"
        lost.append(Lost("data/padding_free", wanted, chosen))
    if schedule.load_best_model_at_end:
        lost.append(Lost("schedule/load_best_model_at_end", "true", "the last model", breaks=True))
    if schedule.report_to != "none":
        lost.append(Lost("schedule/report_to", schedule.report_to, "the command's own switches"))
    epochs = schedule.num_train_epochs
    if epochs is not None and epochs != max(1, round(epochs)):
        lost.append(Lost("schedule/num_train_epochs", f"{epochs:g}", str(max(1, round(epochs))), breaks=True))
    if parameters.data.eval_fraction > 0:
        lost.append(Lost("data/eval_fraction", f"{parameters.data.eval_fraction:g}", "no held-out rows"))
    for key, default in (("adam_beta1", 0.9), ("adam_beta2", 0.999), ("adam_epsilon", 1e-8), ("max_grad_norm", 1.0)):
        if getattr(optimizer, key) != default:
            lost.append(Lost(f"optimizer/{key}", f"{getattr(optimizer, key):g}", f"{default:g}"))
    if parameters.data.chat_template is not None:
        lost.append(Lost("data/chat_template", parameters.data.chat_template, "the one it chooses by model name"))
    return lost


TARGET = Target("unsloth-cli", "unsloth_train.yaml", "YAML for `unsloth train`, with what is lost", render)
