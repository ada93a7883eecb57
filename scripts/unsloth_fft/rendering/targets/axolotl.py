"""axolotl: the YAML of `axolotl train`, for those who stay there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core import yaml_text
from ...settings.parameters import Parameters
from ...training.arguments import SCHEDULER_ARGUMENTS
from .. import lost_settings
from ..target import (
    Lost,
    Rendered,
    Target,
    commented,
    first_rows_format,
    is_local_data,
    plan_comment,
    require_one_node,
    wrapped,
)

# The formats by Axolotl's names (axolotl 0.19.0, utils/schemas/datasets.py).
TYPES: dict[str, dict[str, Any]] = {
    "messages": {"type": "chat_template", "field_messages": "messages"},
    "sharegpt": {
        "type": "chat_template",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    },
    "alpaca": {"type": "alpaca"},
    "prompt-completion": {
        "type": {
            "field_instruction": "prompt",
            "field_output": "completion",
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
    },
    "text": {"type": "completion", "field": "text"},
}
FILE_TYPES = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}


def render(parameters: Parameters, file: str) -> Rendered:
    """The YAML file. Raises BadInput for several nodes, or a plan that cannot fit without Unsloth."""
    require_one_node(parameters, "axolotl")
    form = first_rows_format(parameters, "axolotl")
    weights, optimizer, lost = lost_settings.replaced_optimizer(parameters, "Axolotl")
    lost = [*lost_settings.unsloth_losses(parameters, "Axolotl"), *lost, *_precision_lost(parameters, weights)]
    if form == "alpaca":
        lost.append(Lost("data/format", "the tokenizer's chat template", "Axolotl's own Alpaca prompt", breaks=True))
    if parameters.data.chat_template is not None:
        lost.append(Lost("data/chat_template", parameters.data.chat_template, "the tokenizer's own", breaks=True))
    config = {
        **_model(parameters, form),
        **_precision(parameters, weights),
        **_optimizer(parameters, optimizer),
        **_schedule(parameters),
        **_distributed(parameters),
    }
    run = f"axolotl train {file}"
    comments = commented(wrapped([*plan_comment(parameters, lost), "", f"Run: {run}"]))
    return Rendered(comments + yaml_text.dump(config), run=run, lost=tuple(lost), variables=("HF_TOKEN",))


def _model(parameters: Parameters, form: str) -> dict[str, Any]:
    name, data = str(parameters.data.dataset), parameters.data
    dataset: dict[str, Any] = {"path": name, **TYPES[form]}
    if is_local_data(name):
        dataset["ds_type"] = FILE_TYPES.get(Path(name).suffix, "json")
    else:
        dataset["split"] = "train"
    model: dict[str, Any] = {
        "base_model": parameters.model.name,
        "trust_remote_code": parameters.model.trust_remote_code,
        "sequence_len": parameters.model.max_seq_length,
        "sample_packing": data.packing,
        "pad_to_sequence_len": False,
        "train_on_inputs": data.loss_on == "all",
        "datasets": [dataset],
        "val_set_size": data.eval_fraction,
        "dataset_prepared_path": "fft-prepared",
        "output_dir": "fft-output",
    }
    if parameters.model.revision is not None:
        model["revision_of_model"] = parameters.model.revision
    if form in ("messages", "sharegpt"):
        model["chat_template"] = "tokenizer_default"
    return model


def _precision(parameters: Parameters, weights: str) -> dict[str, Any]:
    """bf16 makes Axolotl load bfloat16 weights (utils/config, resolve_dtype), so float32 weights turn it off."""
    if weights == "bfloat16":
        return {"bf16": True, "fp16": False, "tf32": True}
    return {"bf16": False, "fp16": False, "tf32": parameters.precision.compute in ("bfloat16", "float8")}


def _precision_lost(parameters: Parameters, weights: str) -> list[Lost]:
    if weights == "float32" and parameters.precision.compute in ("bfloat16", "float8"):
        return [
            Lost(
                "precision/compute",
                "bfloat16",
                "TF32, because Axolotl's bf16 would make the weights bfloat16 too; slower, more memory",
                breaks=True,
            )
        ]
    return []


def _optimizer(parameters: Parameters, name: str) -> dict[str, Any]:
    optimizer = parameters.optimizer
    chosen: dict[str, Any] = {"optimizer": name}
    if name == optimizer.name and optimizer.args:
        chosen["optim_args"] = dict(optimizer.args)
    return {
        **chosen,
        "learning_rate": optimizer.learning_rate,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.adam_beta1,
        "adam_beta2": optimizer.adam_beta2,
        "adam_epsilon": optimizer.adam_epsilon,
        "max_grad_norm": optimizer.max_grad_norm,
        "micro_batch_size": parameters.batch.per_device_train_batch_size,
        "gradient_accumulation_steps": parameters.batch.gradient_accumulation_steps,
        "gradient_checkpointing": parameters.memory.gradient_checkpointing != "off",
    }


def _scheduler(name: str) -> dict[str, Any]:
    """Axolotl's cosine has its own key for where it ends (axolotl 0.19.0, utils/schemas/training.py)."""
    if name != "cosine_with_min_lr":
        return {"lr_scheduler": name}
    return {"lr_scheduler": "cosine", "cosine_min_lr_ratio": SCHEDULER_ARGUMENTS[name]["min_lr_rate"]}


def _schedule(parameters: Parameters) -> dict[str, Any]:
    schedule = parameters.schedule
    length: dict[str, Any] = (
        {"num_epochs": schedule.num_train_epochs} if schedule.max_steps is None else {"max_steps": schedule.max_steps}
    )
    warmup = schedule.warmup_steps
    return {
        **length,
        **_scheduler(schedule.lr_scheduler_type),
        **({"warmup_ratio": warmup} if warmup < 1 else {"warmup_steps": int(warmup)}),
        "logging_steps": schedule.logging_steps,
        **({} if schedule.eval_steps is None else {"eval_steps": schedule.eval_steps}),
        **({"save_strategy": "no"} if schedule.save_steps is None else {"save_steps": schedule.save_steps}),
        "save_total_limit": schedule.save_total_limit,
        **({} if schedule.early_stopping_patience is None else _selection(schedule.early_stopping_patience)),
        "seed": schedule.seed,
    }


def _selection(patience: int) -> dict[str, Any]:
    return {"early_stopping_patience": patience, "metric_for_best_model": "eval_loss", "greater_is_better": False}


def _distributed(parameters: Parameters) -> dict[str, Any]:
    if parameters.distributed.gpus == 1:
        return {}
    return {
        "fsdp_version": 2,
        "fsdp_config": {
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "state_dict_type": "FULL_STATE_DICT",
            "reshard_after_forward": True,
        },
    }


TARGET = Target("axolotl", "axolotl_train.yaml", "YAML for `axolotl train`, with what is lost", render)
