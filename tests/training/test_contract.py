"""Our parameter names, defaults and choices are those of the installed TRL, Transformers and Unsloth."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
from pathlib import Path

import pytest

from conftest import minimal_parameters
from unsloth_fft.core import schema
from unsloth_fft.settings import parameters as params
from unsloth_fft.settings.parameters import Parameters
from unsloth_fft.training.arguments import SCHEDULER_ARGUMENTS
from whole_way import tiny_config

if importlib.util.find_spec("unsloth") is None:
    pytest.skip("unsloth is not installed here", allow_module_level=True)


def loaded(**changes: object) -> Parameters:
    return params.from_json(minimal_parameters("model", "rows.jsonl", **changes), "the test")


def section(name: str) -> dict:
    return schema.load("parameters")["properties"][name]["properties"]


def source_of_unsloth(path: str) -> ast.Module:
    """A file of the installed package, parsed and not imported: importing what is for GPUs needs one."""
    spec = importlib.util.find_spec("unsloth")
    assert spec is not None and spec.origin is not None
    return ast.parse((Path(spec.origin).parent / path).read_text(encoding="utf-8"))


def gpu_from_pretrained_names() -> set[str]:
    """Parameter names of the GPU loader's from_pretrained."""
    for node in source_of_unsloth("models/loader.py").body:
        if isinstance(node, ast.ClassDef) and node.name == "FastLanguageModel":
            for function in node.body:
                if isinstance(function, ast.FunctionDef) and function.name == "from_pretrained":
                    return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    raise AssertionError("FastLanguageModel.from_pretrained not found")


@pytest.mark.parametrize("on_gpu", [True, False])
def test_every_from_pretrained_argument_exists(unsloth, on_gpu):
    from transformers import PreTrainedModel

    from unsloth_fft.training.model import from_pretrained_arguments

    # Unsloth takes this one in its **kwargs, on either side, and hands it to Transformers' from_pretrained.
    for_transformers = {"use_safetensors"}
    assert for_transformers <= set(inspect.signature(PreTrainedModel.from_pretrained).parameters)
    streamed = loaded(
        memory={"gradient_checkpointing": "true", "gradient_offload": True, "weight_offload": True},
        optimizer={"name": "adamw_torch_fused", "learning_rate": 1e-5, "state_offload": True},
    )
    ours = {name for one in (loaded(), streamed) for name in from_pretrained_arguments(one, on_gpu=on_gpu)}
    ours -= for_transformers
    if on_gpu:
        assert ours <= gpu_from_pretrained_names()
    else:
        accepted = set(inspect.signature(unsloth.FastLanguageModel.from_pretrained).parameters)
        # The CPU loader takes and drops this one by name from its **kwargs (unsloth_zoo/cpu/loader.py).
        assert ours - accepted == {"use_exact_model_name"}


def test_full_finetuning_is_asked_for_and_checkpointing_is_given_to_from_pretrained():
    from unsloth_fft.training.model import from_pretrained_arguments

    modes = {"unsloth": "unsloth", "true": True, "off": False}
    for name, value in modes.items():
        arguments = from_pretrained_arguments(loaded(memory={"gradient_checkpointing": name}), on_gpu=True)
        assert arguments["use_gradient_checkpointing"] == value
        assert arguments["full_finetuning"] is True
        assert arguments["load_in_4bit"] is False and arguments["load_in_8bit"] is False


SCHEDULES = [
    {"max_steps": 5},
    {"num_train_epochs": 2.0, "save_steps": 3, "eval_steps": 4},
    {"max_steps": 9, "eval_steps": 2, "save_steps": 4, "load_best_model_at_end": True, "early_stopping_patience": 3},
]


@pytest.mark.usefixtures("unsloth")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("checkpointing", ["unsloth", "true", "off"])
def test_the_real_training_arguments_accept_what_we_pass(tmp_path, schedule, checkpointing):
    from unsloth import UnslothTrainingArguments

    from unsloth_fft.training.arguments import training_arguments

    given = training_arguments(
        loaded(schedule=schedule, memory={"gradient_checkpointing": checkpointing}), tmp_path / "checkpoints"
    )
    built = UnslothTrainingArguments(**given)
    for name in ("learning_rate", "max_length", "adam_beta2", "warmup_steps", "max_grad_norm", "seed"):
        assert getattr(built, name) == given[name]
    assert built.gradient_checkpointing is (checkpointing != "off")
    assert built.load_best_model_at_end is schedule.get("load_best_model_at_end", False)
    assert built.report_to == [] and built.push_to_hub is False
    if "early_stopping_patience" in schedule:
        assert built.metric_for_best_model == "eval_loss" and built.greater_is_better is False


def test_training_argument_names_are_fields_of_sftconfig(tmp_path):
    from trl import SFTConfig

    from unsloth_fft.training.arguments import training_arguments

    names = {field.name for field in dataclasses.fields(SFTConfig)}
    for schedule in SCHEDULES:
        assert set(training_arguments(loaded(schedule=schedule), tmp_path)) <= names


def test_early_stopping_and_trackers_are_those_of_transformers():
    from transformers import EarlyStoppingCallback
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    theirs = inspect.signature(EarlyStoppingCallback).parameters
    ours = section("schedule")
    assert {name for name in ours if name.startswith("early_stopping")} == set(theirs)
    assert ours["early_stopping_threshold"]["default"] == theirs["early_stopping_threshold"].default
    assert set(ours["report_to"]["enum"]) - {"none"} <= set(INTEGRATION_TO_CALLBACK)
    assert ours["report_to"]["default"] == "none"


def test_best_checkpoint_settings_keep_the_names_and_defaults_of_transformers():
    from trl import SFTConfig

    theirs = {field.name: field.default for field in dataclasses.fields(SFTConfig)}
    assert section("schedule")["load_best_model_at_end"]["default"] == theirs["load_best_model_at_end"]
    for name in ("metric_for_best_model", "save_total_limit", "report_to", "eval_steps", "save_steps"):
        assert name in theirs, name


def test_schedules_and_optimizers_offered_are_known_to_transformers():
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert set(section("schedule")["lr_scheduler_type"]["enum"]) <= {kind.value for kind in SchedulerType}
    # adamw_flash is Unsloth's own, on UnslothTrainingArguments (unsloth/optimizers/flash_adamw.py).
    assert set(section("optimizer")["name"]["enum"]) - {kind.value for kind in OptimizerNames} == {"adamw_flash"}


def test_adamw_flash_is_an_optimizer_of_the_installed_unsloth():
    spec = importlib.util.find_spec("unsloth")
    assert spec is not None and spec.origin is not None
    text = (Path(spec.origin).parent / "optimizers" / "flash_adamw.py").read_text(encoding="utf-8")
    assert '"adamw_flash"' in text


def test_defaults_shared_with_transformers_are_equal():
    from trl import SFTConfig

    theirs = {field.name: field.default for field in dataclasses.fields(SFTConfig)}
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "weight_decay"):
        assert section("optimizer")[name]["default"] == theirs[name], name


def test_the_typed_objects_have_exactly_the_keys_of_the_schema():
    for field in dataclasses.fields(Parameters):
        if field.name in ("schema_version", "plan"):
            continue
        kind = inspect.get_annotations(Parameters, eval_str=True)[field.name]
        assert {inner.name for inner in dataclasses.fields(kind)} == set(section(field.name)), field.name


def test_every_schema_field_has_a_description_and_a_unit_and_every_object_is_closed():
    def walk(node: dict, path: str) -> None:
        assert node.get("description") and node.get("unit"), path
        if node.get("type") == "object" and "properties" in node:
            assert node["additionalProperties"] is False, path
        for key, child in node.get("properties", {}).items():
            walk(child, f"{path}/{key}")
        if isinstance(node.get("items"), dict):
            walk(node["items"], f"{path}[]")

    for name in ("parameters", "session", "metrics", "checkpoint"):
        walk(schema.load(name), name)


def test_every_schema_is_itself_valid():
    from jsonschema import Draft202012Validator

    for path in sorted((Path(__file__).resolve().parents[2] / "schemas").glob("*.schema.json")):
        Draft202012Validator.check_schema(schema.load(path.name.removesuffix(".schema.json")))


@pytest.mark.usefixtures("unsloth")
def test_the_chat_templates_are_those_of_the_installed_unsloth():
    from unsloth.chat_templates import CHAT_TEMPLATES

    named = schema.load("parameters")["properties"]["data"]["properties"]["chat_template"]["enum"]
    assert named == [None, *sorted(CHAT_TEMPLATES)]


@pytest.mark.parametrize(
    "name", schema.load("parameters")["properties"]["schedule"]["properties"]["lr_scheduler_type"]["enum"]
)
def test_every_schedule_can_be_built(name):
    """Transformers makes it from its name and what is passed beside the name."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = get_scheduler(name, optimizer, 2, 10, scheduler_specific_kwargs=SCHEDULER_ARGUMENTS.get(name))
    for _ in range(9):
        optimizer.step()
        made.step()
    assert 0 <= made.get_last_lr()[0] <= 1
    if name == "cosine_with_min_lr":
        assert made.get_last_lr()[0] == pytest.approx(0.1, abs=0.05)


def families_that_norm_their_queries() -> list[str]:
    from unsloth_fft.models.families import FAMILIES

    return sorted(name for name, family in FAMILIES.items() if family.qk_norm)


@pytest.mark.parametrize("model_type", families_that_norm_their_queries())
def test_queries_reach_attention_in_the_type_the_planner_knows(model_type, monkeypatch):
    """With norms in float32, as Unsloth keeps them: rows are joined only where queries still end up in bfloat16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from unsloth_fft.models.families import FAMILIES

    seen, attention = set(), ALL_ATTENTION_FUNCTIONS["sdpa"]

    def watched(module, query, *rest, **more):
        seen.add(query.dtype)
        return attention(module, query, *rest, **more)

    values = tiny_config(model_type)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    config._attn_implementation = "sdpa"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    norms = [parameter for name, parameter in model.named_parameters() if "norm." in name]
    for norm in norms:
        norm.data = norm.data.float()
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=torch.randint(1, 200, (1, 12)))
    assert norms and seen == {torch.float32 if FAMILIES[model_type].float32_queries else torch.bfloat16}


def test_families_without_joined_rows_are_those_of_the_installed_unsloth():
    from unsloth_fft.models.families import FAMILIES

    lists = [
        ast.literal_eval(node.value)
        for node in source_of_unsloth("trainer.py").body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PADDING_FREE_BLOCKLIST"
    ]
    assert lists == [{name for name, family in FAMILIES.items() if not family.joins_rows}]
