"""What a render target takes and gives, and what a target cannot keep."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.control import escaped
from ..core.errors import BadInput
from ..core.shell_words import word
from ..data.formats import FORMATS
from ..models import source
from ..planning import duration
from ..settings.parameters import Parameters
from . import made_for, rows_elsewhere

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md")


@dataclass(frozen=True)
class Lost:
    """One setting that a target cannot keep. `breaks` is true when a promise of the plan goes with it."""

    setting: str
    wanted: str
    becomes: str
    breaks: bool = False

    @property
    def sentence(self) -> str:
        return f"{self.setting}: {self.wanted} becomes {self.becomes}"


FIRST_LINES = 30  # the lines within which a file says how it is run


@dataclass(frozen=True)
class Rendered:
    """A finished file: its text, how to run it, what is lost, and the environment variables it reads."""

    text: str
    run: str
    lost: tuple[Lost, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One way to hand a plan over. `file_name` is a good name for the file.

    `write` gets the parameters and the file's name as a shell word, for commands that name it; it may raise BadInput.
    """

    name: str
    file_name: str
    summary: str
    write: Callable[[Parameters, str], Rendered]

    def render(self, parameters: Parameters, file: str | None = None) -> Rendered:
        """The finished file, which will be called `file` (default: `file_name`). Raises BadInput where it cannot be.

        Its first lines say how it is run: the file may be all that its reader has.
        """
        require_model(parameters)
        rendered = self.write(parameters, word(file or self.file_name))
        return dataclasses.replace(rendered, text=_saying_how(rendered))


def _saying_how(rendered: Rendered) -> str:
    """The text with its command in a comment at the top (below a line that must be the first) unless it is there."""
    said = " ".join(rendered.run.split())
    lines = rendered.text.split("\n")
    if not lines[0].startswith("#") or any(said in line for line in lines[:FIRST_LINES]):
        return rendered.text  # JSON takes no comments: a notebook says it in its first cell
    below = 1 if lines[0].startswith(("#!", "# syntax=")) else 0
    return "\n".join([*lines[:below], f"# Run it with: {said}", *lines[below:]])


def plan_comment(parameters: Parameters, lost: Sequence[Lost] = ()) -> list[str]:
    """The plan in lines of plain text: the choice, what is predicted, why, versions, and what is lost."""
    lines = [f"Full fine-tuning of {parameters.model.name}, rendered by unsloth-fft."]
    lines += _settings_lines(parameters)
    lines += _prediction_lines(parameters)
    versions = ", ".join(f"{name} {version}" for name, version in made_for.versions(parameters).items())
    lines += ["", f"Made for: {versions}."]
    if lost:
        lines += ["", "Lost here, compared with the plan:"]
        lines += [f"- {loss.sentence}{' (BREAKS A PROMISE OF THE PLAN)' if loss.breaks else ''}" for loss in lost]
        if any(loss.breaks for loss in lost):
            lines += ["Memory and time above are those of the plan as it was, not of what runs here."]
    return [_one_line(line) for line in lines]


def wrapped(lines: Sequence[str], width: int = 110) -> list[str]:
    """The same lines, none longer than `width` where it can be broken."""
    return [piece for line in lines for piece in (textwrap.wrap(line, width, subsequent_indent="  ") or [""])]


def commented(lines: Sequence[str], mark: str = "#") -> str:
    """Lines as comments, each ended by a newline."""
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in lines)


def _settings_lines(parameters: Parameters) -> list[str]:
    optimizer, batch, precision = parameters.optimizer, parameters.batch, parameters.precision
    where = " with its state in host memory" if optimizer.state_offload else ""
    count = parameters.memory.checkpointed_layers
    layers = "" if count is None else f" of {count} layers"
    gradients = "; gradients wait in host memory for the step" if parameters.memory.gradient_offload else ""
    gradients += "; the layers' weights are streamed from there" if parameters.memory.weight_offload else ""
    return [
        f"Precision: {precision.weights} weights, master: {precision.master}, exactness: {precision.exactness}"
        f"{', float8 products' if precision.compute == 'float8' else ''}.",
        f"Optimizer: {optimizer.name}{where}, learning rate {optimizer.learning_rate:g}.",
        f"Batch: {batch.per_device_train_batch_size} rows x {batch.gradient_accumulation_steps} accumulation steps x "
        f"{parameters.distributed.gpus * parameters.distributed.nodes} GPUs = {batch.effective_batch_size} rows a step"
        f" of at most {parameters.model.max_seq_length} tokens; gradient checkpointing "
        f"{parameters.memory.gradient_checkpointing}{layers}{gradients}.",
    ]


def _prediction_lines(parameters: Parameters) -> list[str]:
    plan = parameters.plan
    if plan is None:
        return ["", "The parameters carried no plan, so nothing is predicted."]
    hardware, predicted = plan.hardware, plan.predicted
    cost = "not known (no price was given)" if predicted.cost_usd is None else f"{predicted.cost_usd:.2f} USD"
    speed, hours, costs = predicted.tokens_per_second_range, predicted.hours_range, predicted.cost_usd_range
    around = "" if speed is None else f" ({speed[0]:,.0f} to {speed[1]:,.0f})"
    lasting = "" if hours is None else f" ({duration.in_words(hours[0])} to {duration.in_words(hours[1])})"
    cost += "" if costs is None else f" ({costs[0]:.2f} to {costs[1]:.2f})"
    nodes = f" on each of {hardware.nodes} nodes" if hardware.nodes > 1 else ""
    return [
        "",
        f"Planned for {hardware.gpus} x {hardware.name} with {hardware.vram_gib:.1f} GiB{nodes}; {plan.basis}.",
        f"Predicted peak: {predicted.peak_vram_gib:.1f} GiB a GPU; host memory: {predicted.host_ram_gib:.1f} GiB.",
        f"Predicted time: {duration.in_words(predicted.hours)}{lasting} for {predicted.steps:,} steps and"
        f" {predicted.tokens:,} tokens, at {predicted.tokens_per_second:,.0f} tokens/s{around} on full rows."
        f" Cost: {cost}.",
        *(f"Why: {sentence}" for sentence in plan.why),
        # The range of time stands above.
        *(f"Warning: {sentence}" for sentence in plan.warnings if not sentence.startswith("The time is an estimate")),
    ]


def _one_line(text: str) -> str:
    return escaped(" ".join(text.split()))


def is_local_data(name: str) -> bool:
    """Whether a data set is a file or folder on some disk rather than a name on the Hub."""
    return os.path.exists(name) or name.startswith((".", "/", "~")) or Path(name).suffix in DATA_SUFFIXES


def is_local_model(name: str) -> bool:
    """Whether a model is a folder rather than a name on the Hub."""
    return os.path.exists(name) or name.startswith((".", "/", "~"))


def require_model(parameters: Parameters) -> None:
    """Raise BadInput for a model's name that nothing can be loaded by."""
    reason = source.unloadable(parameters.model.name)
    if reason is not None:
        raise BadInput(
            f"model/name cannot be loaded: {reason}",
            hint="plan with --model-name OWNER/MODEL, or --model FOLDER with the weights",
        )


def require_data(parameters: Parameters, target: str, *, elsewhere: bool = False) -> None:
    """Raise BadInput when the parameters name no data, or, `elsewhere`, several sources of which some are here."""
    data = parameters.data
    if data.dataset is None and not data.sources:
        raise _no_data(target)
    here = [entry["dataset"] for entry in data.sources if is_local_data(entry["dataset"])]
    if elsewhere and here:
        raise BadInput(
            f"data/sources names {here[0]} on this machine, and a {target} file takes one local file or folder along",
            hint="put the files into one folder and plan with --dataset FOLDER, or upload them to the Hub",
        )


def _no_data(target: str) -> BadInput:
    return BadInput(
        f"data/dataset is null: a {target} file would have nothing to train on",
        hint="set it in the parameters file, or generate the file with --dataset PATH",
    )


def require_dataset(parameters: Parameters, target: str) -> str:
    """The data set's name. Raises BadInput when there is none, or more than a rendered file can read."""
    if parameters.data.sources or parameters.data.sample_by != "line":
        raise BadInput(
            f"data/sources and data/sample_by cannot be kept by a {target} file, which reads one data set by lines",
            hint="write the mix into one JSONL file, or train where this bundle is, with init and train",
        )
    if parameters.data.dataset is not None and os.path.isdir(parameters.data.dataset):
        raise BadInput(
            f"data/dataset is the folder {parameters.data.dataset}; a {target} file reads one file or a Hub data set",
            hint="name one file, or train where this bundle is, with init and train",
        )
    if parameters.data.dataset is None:
        raise _no_data(target)
    return parameters.data.dataset


def require_one_node(parameters: Parameters, target: str) -> None:
    """Raise BadInput for a plan over several nodes."""
    if parameters.distributed.nodes > 1:
        raise BadInput(
            f"distributed/nodes is {parameters.distributed.nodes}: {target} runs one node here",
            hint="render --target slurm or skypilot, or plan with --nodes 1",
        )


def first_rows_format(parameters: Parameters, target: str) -> str:
    """The row format, recognised from a local file where it is `auto`. Raises BadInput when it stays unknown."""
    form, dataset = parameters.data.format, require_dataset(parameters, target)
    rows_elsewhere.refuse(parameters, target)
    if form == "auto" and os.path.isfile(dataset):
        from ..data import json_rows, opening, row_format
        from ..data.row_problems import RowProblem

        if opening.kind(Path(dataset)) in json_rows.SUFFIXES:
            try:
                form = row_format.recognise(next(iter(json_rows.read_json_rows(Path(dataset)))))
            except RowProblem as problem:
                raise row_format.describe_problem(problem, 1, dataset) from None
    if form == "auto":
        raise BadInput(
            f"data/format is auto, and {target} must be told the format of {dataset}",
            hint=f"set data/format to one of: {', '.join(FORMATS)}",
        )
    return form
