"""trl: the YAML of `trl sft`, for those who train without Unsloth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...core import yaml_text
from ...core.errors import BadInput
from ...core.files import expanded
from ...settings.parameters import Parameters
from ...training.arguments import training_arguments
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

BUILDERS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
# TRL reads these forms itself (trl 1.15.0, docs: dataset formats); ShareGPT and Alpaca rows it does not.
KNOWN = ("messages", "prompt-completion", "text")
# UnslothTrainingArguments has these beyond TRL's SFTConfig, or they are decided below. TRL's own padding_free (trl
# 1.15.0, sft_trainer.py: "`max_length` is not enforced") stays off, as it is when nothing is said.
DECIDED_HERE = ("optim", "optim_args", "gradient_checkpointing", "padding_free")


def render(parameters: Parameters, file: str) -> Rendered:
    """The YAML file. Raises BadInput for several nodes, rows TRL cannot read, or a plan that fits only with Unsloth."""
    require_one_node(parameters, "trl")
    form = first_rows_format(parameters, "trl")
    if form not in KNOWN:
        raise BadInput(f"trl: it does not read {form} rows", hint='rewrite them as {"messages": [{"role", "content"}]}')
    weights, optimizer, lost = lost_settings.replaced_optimizer(parameters, "TRL")
    lost = [*lost_settings.unsloth_losses(parameters, "TRL"), *lost]
    lost += lost_settings.selection_losses(parameters)
    if parameters.data.chat_template is not None:
        lost.append(Lost("data/chat_template", parameters.data.chat_template, "the tokenizer's own", breaks=True))
    marked = _marks_answers(parameters) if form == "messages" and parameters.data.loss_on == "responses" else None
    lost += _template_losses(marked)
    config = {
        "model_name_or_path": parameters.model.name,
        "model_revision": parameters.model.revision or "main",
        "trust_remote_code": parameters.model.trust_remote_code,
        "dtype": weights,
        "datasets": [_dataset(parameters)],
        **_held_out(parameters),
        **_arguments(parameters, form, optimizer),
        **({} if marked is not False else {"assistant_only_loss": False}),
    }
    run = f"trl sft --config {file}{_launch(parameters)}"
    comments = commented(wrapped([*plan_comment(parameters, lost), "", f"Run: {run}"]))
    return Rendered(comments + yaml_text.dump(config), run=run, lost=tuple(lost), variables=("HF_TOKEN",))


def _marks_answers(parameters: Parameters) -> bool | str:
    """Whether the chat template says where answers stand, which TRL's assistant_only_loss needs (trl 1.15.0); a name
    where the template is not here to be read."""
    folder = expanded(parameters.model.name)
    if not folder.is_dir():
        return parameters.model.name
    files = [folder / name for name in ("chat_template.jinja", "tokenizer_config.json")]
    text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())
    return re.search(r"\{%-?\s*generation\b", text) is not None


def _template_losses(marked: bool | str | None) -> list[Lost]:
    if marked is False:
        becomes = "all: the chat template has no generation markers, without which TRL's assistant_only_loss fails"
        return [Lost("data/loss_on", "responses", becomes, breaks=True)]
    if isinstance(marked, str):
        becomes = f"responses, if the template of {marked} has generation markers or TRL knows it; else TRL refuses"
        return [Lost("data/loss_on", "responses", becomes)]
    return []


def _dataset(parameters: Parameters) -> dict[str, Any]:
    name = str(parameters.data.dataset)
    if not is_local_data(name):
        return {"path": name, "split": "train"}
    return {"path": BUILDERS.get(Path(name).suffix, "text"), "data_files": name, "split": "train"}


def _held_out(parameters: Parameters) -> dict[str, Any]:
    fraction = parameters.data.eval_fraction
    return {"test_split_size": fraction} if fraction > 0 else {}


def _arguments(parameters: Parameters, form: str, optimizer: str) -> dict[str, Any]:
    arguments = training_arguments(parameters, Path("fft-output"))
    arguments = {key: value for key, value in arguments.items() if key not in DECIDED_HERE and value is not None}
    arguments["optim"] = optimizer
    arguments["include_num_input_tokens_seen"] = True  # TRL's parser takes yes or no, not "non_padding"
    if optimizer == parameters.optimizer.name and parameters.optimizer.args:
        arguments["optim_args"] = training_arguments(parameters, Path())["optim_args"]
    arguments["gradient_checkpointing"] = parameters.memory.gradient_checkpointing != "off"
    if parameters.data.eval_fraction > 0 and arguments["eval_strategy"] == "no":
        arguments["eval_strategy"] = "epoch" if parameters.schedule.max_steps is None else "steps"
        if parameters.schedule.max_steps is not None:
            arguments["eval_steps"] = parameters.schedule.max_steps
    if form == "messages":
        arguments["assistant_only_loss"] = parameters.data.loss_on == "responses"
    if form == "prompt-completion":
        arguments["completion_only_loss"] = parameters.data.loss_on == "responses"
    return arguments


def _launch(parameters: Parameters) -> str:
    gpus = parameters.distributed.gpus
    return f" --accelerate_config fsdp2 --num_processes {gpus}" if gpus > 1 else ""


TARGET = Target("trl", "trl_sft.yaml", "YAML for `trl sft`, with what is lost", render)
