"""The parameters file as typed, frozen objects: what the planner writes and everything after it reads.

The keys are those of schemas/parameters.schema.json; a test holds the two equal. Defaults live in the schema.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import control, files, schema
from ..core.errors import BadInput
from .recipes import RANK, keeping_of, optimizer_of

# Sections that a person may edit in the file. Memory, speed and exactness were predicted from the others.
BY_HAND = ("data", "schedule")


@dataclass(frozen=True)
class Model:
    name: str
    revision: str | None
    trust_remote_code: bool
    max_seq_length: int
    parameters: int | None


@dataclass(frozen=True)
class Data:
    dataset: str | None
    format: str
    objective: str
    loss_on: str
    packing: bool
    eval_fraction: float
    rows: int | None
    tokens_per_row: float | None
    chat_template: str | None
    seed: int
    sources: list[dict[str, Any]] = field(default_factory=list)
    sample_by: str = "line"
    padding_free: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    ignored_columns: list[str] = field(default_factory=list)
    allow_cut_ends: bool = False

    @property
    def named(self) -> list[str]:
        """Every data set that is read, by its path or name."""
        return [name for name in (self.dataset, *(source["dataset"] for source in self.sources)) if name is not None]


@dataclass(frozen=True)
class Precision:
    exactness: str
    weights: str
    master: str
    compute: str


@dataclass(frozen=True)
class Optimizer:
    name: str
    args: dict[str, bool]
    learning_rate: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    state_offload: bool
    learning_rate_from: str | None = None
    tuning: str | None = None


@dataclass(frozen=True)
class Memory:
    gradient_checkpointing: str
    gradient_offload: bool = False
    checkpointed_layers: int | None = None
    weight_offload: bool = False


@dataclass(frozen=True)
class Batch:
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    effective_batch_size: int


@dataclass(frozen=True)
class Schedule:
    num_train_epochs: float | None
    max_steps: int | None
    lr_scheduler_type: str
    warmup_steps: float
    logging_steps: int
    eval_steps: int | None
    save_steps: int | None
    save_total_limit: int
    seed: int
    load_best_model_at_end: bool = False
    metric_for_best_model: str = "eval_loss"
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0
    report_to: str = "none"


@dataclass(frozen=True)
class Distributed:
    gpus: int
    nodes: int
    strategy: str


@dataclass(frozen=True)
class PlannedHardware:
    name: str
    vram_gib: float
    safety_margin_gib: float
    gpus: int
    nodes: int
    host_ram_gib: float | None
    price_per_hour: float | None
    network_gbs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Predicted:
    peak_vram_gib: float
    vram_breakdown_gib: dict[str, float]
    host_ram_gib: float
    tokens_per_second: float
    tokens_per_second_range: list[float] | None
    unpadded_tokens_per_second: float | None = None
    steps: int
    tokens: int
    hours: float
    hours_range: list[float] | None = None
    hours_breakdown: dict[str, float] | None = None
    cost_usd: float | None
    cost_usd_range: list[float] | None = None
    update_survival: float
    update_survival_range: list[float] | None = None
    disk_gib: float | None = None

    @property
    def cost_ends(self) -> tuple[float, float]:
        """USD at the fast and the slow end of the speed's range; infinite where no price is known."""
        if self.cost_usd_range is not None:
            low, high = self.cost_usd_range
            return low, high
        cost = math.inf if self.cost_usd is None else self.cost_usd
        return cost, cost

    def may_cost_less_than(self, other: Predicted) -> bool:
        return self.cost_ends[0] < other.cost_ends[1]


@dataclass(frozen=True)
class Alternative:
    weights: str
    optimizer: str
    state_offload: bool
    gradient_checkpointing: str
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    strategy: str
    exactness: str
    peak_vram_gib: float
    host_ram_gib: float
    tokens_per_second: float
    unpadded_tokens_per_second: float | None = None
    gradient_offload: bool = False
    checkpointed_layers: int | None = None
    weight_offload: bool = False


@dataclass(frozen=True)
class Plan:
    hardware: PlannedHardware
    predicted: Predicted
    basis: str
    why: list[str]
    warnings: list[str]
    alternatives: list[Alternative]


@dataclass(frozen=True)
class Parameters:
    schema_version: str
    model: Model
    data: Data
    precision: Precision
    optimizer: Optimizer
    memory: Memory
    batch: Batch
    schedule: Schedule
    distributed: Distributed
    plan: Plan | None

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against the schema; `plan` is left out when there is none."""
        value = dataclasses.asdict(self)
        _leave_out(value["memory"], "checkpointed_layers", "weight_offload")
        _leave_out(value["optimizer"], "learning_rate_from", "tuning")
        if value["plan"] is None:
            del value["plan"]
        else:
            _leave_out(value["plan"]["hardware"], "network_gbs")
            for entry in value["plan"]["alternatives"]:
                _leave_out(entry, "checkpointed_layers", "weight_offload")
        schema.check(value, "parameters", "the parameters")
        return value


def _leave_out(section: dict[str, Any], *keys: str) -> None:
    """Remove each of `keys` where it says nothing: most plans recompute every layer or none, and stream no weights."""
    for key in keys:
        if section[key] is None or section[key] is False:
            del section[key]


def from_json(value: Any, where: str) -> Parameters:
    """Validate `value`, which came from `where`, fill the schema's defaults, and check what no schema can say.

    Raises BadInput naming the offending key.
    """
    schema.check(value, "parameters", where)
    filled = with_defaults(whole_numbers(value, schema.load("parameters")), schema.load("parameters"))
    parameters = Parameters(
        schema_version=filled["schema_version"],
        model=Model(**filled["model"]),
        data=Data(**filled["data"]),
        precision=Precision(**filled["precision"]),
        optimizer=Optimizer(**filled["optimizer"]),
        memory=Memory(**filled["memory"]),
        batch=Batch(**filled["batch"]),
        schedule=Schedule(**filled["schedule"]),
        distributed=Distributed(**filled["distributed"]),
        plan=_plan(filled["plan"]) if "plan" in filled else None,
    )
    problems = contradictions(parameters)
    if problems:
        ways_out = dict.fromkeys(_way_out(problem) for problem in problems)
        raise BadInput(f"{where}: {'; '.join(problems)}", hint="; ".join(ways_out))
    return parameters


def _way_out(problem: str) -> str:
    """What to do about a contradiction: by hand where nothing was predicted from it, else by planning anew."""
    if problem.startswith(BY_HAND):
        return "mend that key: data and schedule may be edited by hand"
    return "plan anew with generate_fft_params.py: only data and schedule may be edited by hand"


def load(path: Path) -> Parameters:
    """Read and check a parameters file."""
    return from_json(files.read_json(path, "parameters file", keys_once=True), f"parameters file {path}")


def with_defaults(value: dict[str, Any], object_schema: dict[str, Any]) -> dict[str, Any]:
    """`value` with every absent key that has a default in `object_schema` filled in, at every depth."""
    filled = dict(value)
    for key, child in object_schema["properties"].items():
        if key not in filled:
            if "default" in child:
                filled[key] = child["default"]
        elif "properties" in child and isinstance(filled[key], dict) and key != "args":
            filled[key] = with_defaults(filled[key], child)
    return filled


def whole_numbers(value: Any, value_schema: dict[str, Any]) -> Any:
    """`value` with 4.0 as 4 wherever the schema wants an integer: JSON Schema calls both one, Python does not."""
    kinds = value_schema.get("type", [])
    if isinstance(value, float) and "integer" in kinds and "number" not in kinds:
        return int(value)
    if isinstance(value, dict):
        children = value_schema.get("properties", {})
        return {key: whole_numbers(part, children.get(key, {})) for key, part in value.items()}
    if isinstance(value, list):
        return [whole_numbers(part, value_schema.get("items", {})) for part in value]
    return value


def contradictions(parameters: Parameters) -> list[str]:
    """What is wrong between keys that are each fine alone."""
    return [
        *_name_problems(parameters),
        *_data_problems(parameters.data),
        *_schedule_problems(parameters.schedule),
        *_selection_problems(parameters.schedule, parameters.data),
        *_batch_problems(parameters.batch, parameters.distributed),
        *_precision_problems(parameters.precision, parameters.optimizer),
        *_offload_problems(parameters),
        *_checkpointing_problems(parameters),
        *_streaming_problems(parameters),
        *_float8_problems(parameters),
    ]


def _name_problems(parameters: Parameters) -> Iterator[str]:
    """Names are handed on to shells, job files and other programs, which cannot carry every character."""
    model, data = parameters.model, parameters.data
    named = [("model/name", model.name), ("model/revision", model.revision), ("data/chat_template", data.chat_template)]
    named += [("data/dataset", name) for name in data.named]
    named += [(f"data/sources/{key}", source.get(key)) for source in data.sources for key in ("subset", "split")]
    if parameters.plan is not None:
        named.append(("plan/hardware/name", parameters.plan.hardware.name))
    for key, name in named:
        if name is not None and (found := control.first_control(name)) is not None:
            yield f"{key}: holds {found}, a line break, control character or byte that is not UTF-8; rename it"


def _data_problems(data: Data) -> list[str]:
    if data.dataset is not None and data.sources:
        return ["data: give either dataset or sources, not both; name the first data set in sources as well"]
    if data.packing and data.padding_free:
        return ["data/padding_free: is true, but packing is, too; packed rows have no padding to leave out"]
    return []


def _schedule_problems(schedule: Schedule) -> list[str]:
    if (schedule.num_train_epochs is None) == (schedule.max_steps is None):
        return ["schedule: exactly one of num_train_epochs and max_steps must be a number, the other null"]
    if schedule.warmup_steps >= 1 and schedule.warmup_steps != int(schedule.warmup_steps):
        return [
            f"schedule/warmup_steps: is {schedule.warmup_steps}; from 1 on it counts whole steps, below it is a share"
        ]
    return []


def _selection_problems(schedule: Schedule, data: Data) -> list[str]:
    """What early stopping and best-checkpoint selection need (the same rules as Transformers' Trainer has)."""
    wanted = []
    if schedule.load_best_model_at_end:
        wanted.append("load_best_model_at_end")
    if schedule.early_stopping_patience is not None:
        wanted.append("early_stopping_patience")
    if not wanted:
        return []
    problems = []
    if schedule.eval_steps is None:
        problems.append(f"schedule/eval_steps: must be a number, because {wanted[0]} compares evaluations")
    if data.eval_fraction == 0 and (data.dataset is None or not os.path.isdir(data.dataset)):
        problems.append(f"data/eval_fraction: is 0, but {wanted[0]} needs held-out rows")
    if schedule.load_best_model_at_end and not _is_multiple(schedule.save_steps, schedule.eval_steps):
        problems.append(
            f"schedule/save_steps: is {schedule.save_steps}, but load_best_model_at_end wants a multiple of"
            f" eval_steps ({schedule.eval_steps}), so that every checkpoint has its loss"
        )
    return problems


def _is_multiple(number: int | None, of: int | None) -> bool:
    return number is not None and of is not None and number % of == 0


def _batch_problems(batch: Batch, distributed: Distributed) -> list[str]:
    product = (
        batch.per_device_train_batch_size * batch.gradient_accumulation_steps * distributed.gpus * distributed.nodes
    )
    if product != batch.effective_batch_size:
        return [
            f"batch/effective_batch_size: is {batch.effective_batch_size},"
            f" but micro-batch x accumulation x GPUs x nodes is {product}"
        ]
    return []


def _precision_problems(precision: Precision, optimizer: Optimizer) -> list[str]:
    problems = []
    kept = master_kept_by(precision.weights, optimizer)
    if precision.master != kept:
        problems.append(
            f"precision/master: is '{precision.master}',"
            f" but {precision.weights} weights with {optimizer.name} keep '{kept}'"
        )
    promised = exactness_of(precision.weights, optimizer)
    if RANK[precision.exactness] > RANK[promised]:
        problems.append(
            f"precision/exactness: '{precision.exactness}' cannot be kept by {precision.weights} weights with"
            f" {optimizer.name} (they give '{promised}')"
        )
    if optimizer_of(optimizer.name, optimizer.args).corrects and precision.weights != "bfloat16":
        problems.append(
            f"optimizer/name: {optimizer.name} corrects bfloat16 weights; float32 weights need no correction"
        )
    return problems


def _offload_problems(parameters: Parameters) -> list[str]:
    if not parameters.memory.gradient_offload:
        return []
    problems = []
    if not parameters.optimizer.state_offload:
        problems.append("memory/gradient_offload: is true, which needs optimizer/state_offload true as well")
    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        problems.append("memory/gradient_offload: is true, which works on one GPU only")
    if parameters.precision.compute == "float16":
        problems.append("memory/gradient_offload: is true, but float16's loss scaling looks for gradients on the GPU")
    return problems


def _checkpointing_problems(parameters: Parameters) -> list[str]:
    memory = parameters.memory
    if memory.checkpointed_layers is None:
        return []
    problems = []
    if memory.gradient_checkpointing == "off":
        problems.append("memory/checkpointed_layers: is a number, but gradient_checkpointing is off")
    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        problems.append("memory/checkpointed_layers: is a number, which works on one GPU only")
    return problems


def _streaming_problems(parameters: Parameters) -> list[str]:
    memory, key = parameters.memory, "memory/weight_offload: is true, "
    if not memory.weight_offload:
        return []
    problems = []
    if not memory.gradient_offload:
        problems.append(f"{key}which needs gradient_offload true as well")
    if memory.gradient_checkpointing == "off" or memory.checkpointed_layers is not None:
        problems.append(f"{key}which needs every layer recomputed (gradient_checkpointing unsloth or true)")
    if parameters.precision.compute == "float8":
        problems.append(f"{key}which was never tried with float8 products")
    on_cpu = parameters.precision.compute == "float32"
    if not on_cpu and not optimizer_of(parameters.optimizer.name, parameters.optimizer.args).streams:
        problems.append(f"{key}which on a GPU is for adamw_flash, not {parameters.optimizer.name}")
    return problems


def _float8_problems(parameters: Parameters) -> list[str]:
    if parameters.precision.compute == "float8" and parameters.precision.weights != "bfloat16":
        return ["precision/compute: is 'float8', which needs bfloat16 weights"]
    return []


def master_kept_by(weights: str, optimizer: Optimizer) -> str:
    """Where the precise weight lives under these settings: "float32", "error_correction" or "none"."""
    return keeping_of(weights, optimizer.name, optimizer.args).master


def exactness_of(weights: str, optimizer: Optimizer) -> str:
    """The most these settings can promise about weight updates (measured: references/evidence.json)."""
    return keeping_of(weights, optimizer.name, optimizer.args).exactness


def _plan(value: dict[str, Any]) -> Plan:
    return Plan(
        hardware=PlannedHardware(**value["hardware"]),
        predicted=Predicted(**value["predicted"]),
        basis=value["basis"],
        why=value["why"],
        warnings=value["warnings"],
        alternatives=[Alternative(**entry) for entry in value["alternatives"]],
    )


def optim_args_text(optimizer: Optimizer) -> str | None:
    """`optim_args` as TrainingArguments wants it: "key=value,key=value", or None without any."""
    if not optimizer.args:
        return None
    return ",".join(f"{key}={value}" for key, value in sorted(optimizer.args.items()))
