"""Rendering: what the files say, that they keep the plan, and that they refuse what they cannot keep."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from conftest import SCRIPTS, TOOL, assert_clear_error, minimal_parameters, run_script, write_parameters
from render_helpers import TARGET_NAMES, literal_in, plans, rendered
from unsloth_fft.commands import tool
from unsloth_fft.core import yaml_text
from unsloth_fft.core.errors import BadInput
from unsloth_fft.planning import duration
from unsloth_fft.rendering import carried, lora_script, made_for, targets
from unsloth_fft.settings import parameters

# What each of the plans cannot be handed to: a notebook is one machine, Jobs have no A100 of 40 GB, and so on.
REFUSED = {
    "offload": {"hf-jobs", "axolotl", "trl", "dpo"},
    "pretrain": set(),
    "two-nodes": {"notebook", "modal", "hf-jobs", "docker", "unsloth-cli", "unsloth-studio", "axolotl", "trl", "dpo"},
    "eight-cards": {"hf-jobs", "unsloth-cli", "unsloth-studio", "dpo"},
    "one-card": {"axolotl", "trl", "dpo"},
    "float32": set(),
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return plans(tmp_path_factory.mktemp("plans"))


@pytest.mark.parametrize("name", list(REFUSED))
@pytest.mark.parametrize("target", TARGET_NAMES)
def test_every_target_carries_the_plan_or_refuses_clearly(three, name, target):
    if target in REFUSED[name]:
        with pytest.raises(BadInput) as refusal:
            rendered(three[name], target)
        assert refusal.value.hint
        return
    plan = parameters.load(three[name])
    assert plan.plan is not None
    text = " ".join(rendered(three[name], target).replace("#", " ").split())  # comments are wrapped
    for words in (
        plan.model.name,
        f"{plan.plan.predicted.peak_vram_gib:.1f} GiB",
        f"Predicted time: {duration.in_words(plan.plan.predicted.hours)}",
        "unsloth 2026.10.9",
        "Made for:",
    ):
        assert words in text, words
    cost = plan.plan.predicted.cost_usd
    assert ("Cost: not known" if cost is None else f"Cost: {cost:.2f} USD") in text
    assert "0.00 hours" not in text


@pytest.mark.parametrize("name", list(REFUSED))
def test_the_script_holds_exactly_the_parameters(three, name):
    plan = parameters.load(three[name]).to_json()
    text = rendered(three[name], "script")
    predicted = {**plan.pop("plan"), "alternatives": []}
    assert literal_in(text, "SETTINGS") == plan
    assert literal_in(text, "PLAN") == {"plan": predicted}


def test_secrets_are_named_and_never_written(three, monkeypatch):
    secrets = {"HF_TOKEN": "hf_not_to_be_seen", "WANDB_API_KEY": "wandb_not_to_be_seen", "MODAL_HF_SECRET": "hidden-x"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for target in TARGET_NAMES:
        text = rendered(three["float32"], target)
        assert not any(value in text for value in secrets.values()), target


def test_rendering_imports_nothing_of_the_training_stack(three):
    probe = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from unsloth_fft.commands import tool\n"
        f"code = tool.main(['render', '--params', {str(three['one-card'])!r}, '--target', 'modal'])\n"
        "heavy = {'torch', 'numpy', 'transformers', 'yaml', 'unsloth'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy"
    )
    finished = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_an_unknown_target_lists_the_known_ones(three):
    assert_clear_error(
        run_script(TOOL, "render", "--params", three["float32"], "--target", "colab"), 2, "notebook", "slurm"
    )


def test_json_says_what_is_lost_and_how_to_run(three, tmp_path):
    output = tmp_path / "unsloth.yaml"
    finished = run_script(
        TOOL, "render", "--params", three["one-card"], "--target", "unsloth-cli", "--output", output, "--accept-lost",
        "--json",
    )  # fmt: skip
    value = json.loads(finished.stdout)
    assert value["output"] == str(output) and output.is_file()
    lost = {loss["setting"]: loss for loss in value["lost"]}
    assert lost["precision/exactness"]["breaks"] is True
    assert "UNSLOTH_OFFLOAD_OPTIMIZER_STATE=1" in value["run"]
    text = output.read_text()
    comments = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    for loss in value["lost"]:
        assert f"{loss['setting']}: {loss['wanted']} becomes {loss['becomes']}" in " ".join(comments.split())


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_commands_name_the_file_as_it_is_called_and_never_a_suggested_name(three, target):
    """In what `render` says, and in the file's own comments; a name with a space is quoted for the shell."""
    found = targets.find(target)
    rendered = found.render(parameters.load(three["float32"]), "jobs/my job.x")
    assert "'jobs/my job.x'" in rendered.run
    assert found.file_name not in rendered.run
    if target not in ("script", "slurm", "hf-jobs", "notebook", "dpo"):  # these have no such line
        assert "'jobs/my job.x'" in " ".join(rendered.text.replace("#", " ").split())
    if target != "script":  # targets that carry the script call it train_fft.py inside
        assert found.file_name not in rendered.text


@pytest.mark.slow
def test_render_says_how_to_run_the_file_it_wrote(three, tmp_path):
    arguments = ("render", "--params", three["one-card"], "--target", "slurm")
    named = run_script(TOOL, *arguments, "--output", "job.sh", cwd=tmp_path)
    assert "run it with: sbatch job.sh\n" in named.stderr and "slurm_train_fft" not in named.stderr
    as_json = run_script(TOOL, *arguments, "--output", "job.sh", "--json", cwd=tmp_path)
    assert json.loads(as_json.stdout)["run"] == "sbatch job.sh"
    refused = run_script(TOOL, *arguments, "--output", "job\nrm.sh", cwd=tmp_path)
    assert_clear_error(refused, 2, "--output")
    assert [path.name for path in tmp_path.iterdir()] == ["job.sh"]


def test_a_broken_promise_needs_consent_and_writes_nothing_without(three, tmp_path):
    output = tmp_path / "unsloth.yaml"
    finished = run_script(TOOL, "render", "--params", three["one-card"], "--target", "unsloth-cli", "--output", output)
    assert_clear_error(finished, 2, "exactness", "--accept-lost")
    assert not output.exists()


def test_a_plan_that_only_unsloth_makes_fit_is_refused_elsewhere(three):
    for target in ("trl", "axolotl", "dpo"):
        finished = run_script(TOOL, "render", "--params", three["one-card"], "--target", target, "--accept-lost")
        assert_clear_error(finished, 2, "adamw_flash", "120 GiB")


def test_gradients_in_host_memory_are_kept_by_the_script_and_a_broken_promise_elsewhere(three, tmp_path):
    """The plan fits only with them; a trainer of this bundle keeps them there, and no other program has one."""
    text = rendered(three["offload"], "script")
    assert literal_in(text, "SETTINGS")["memory"]["gradient_offload"] is True
    assert "gradients wait in host memory" in " ".join(text.split())
    small = json.loads(three["float32"].read_text())
    small["optimizer"]["state_offload"] = small["memory"]["gradient_offload"] = True
    params = write_parameters(tmp_path / "p.json", small)
    for target in ("unsloth-cli", "unsloth-studio", "axolotl", "trl", "dpo"):
        lost = {loss.setting: loss for loss in targets.find(target).render(parameters.load(params)).lost}
        assert lost["memory/gradient_offload"].breaks, target
        assert "GiB must fit the GPU" in lost["memory/gradient_offload"].becomes


@pytest.mark.parametrize("loss_on", ["responses", "all"])
def test_other_trainers_of_unsloth_are_told_to_learn_answers_alone(three, tmp_path, loss_on):
    """Both learn the questions, too, unless they are told; Studio was not, and nothing said so."""
    value = json.loads(three["float32"].read_text())
    value["data"].update(loss_on=loss_on, format="messages")
    params = parameters.load(write_parameters(tmp_path / "p.json", value))
    request = json.loads(targets.find("unsloth-studio").render(params).text)
    assert request["start_training"]["config"]["train_on_completions"] == (loss_on == "responses")
    told = targets.find("unsloth-cli").render(params).text
    assert f"train_on_completions: {str(loss_on == 'responses').lower()}" in told


def test_a_file_whose_settings_are_others_says_whose_memory_and_time_it_names(three):
    rendered_elsewhere = targets.find("unsloth-studio").render(parameters.load(three["offload"])).text
    assert "not of what runs here" in rendered_elsewhere
    assert "not of what runs here" not in rendered(three["offload"], "script")


def test_streamed_weights_are_kept_by_the_script_and_a_broken_promise_elsewhere(three, tmp_path):
    value = json.loads(three["offload"].read_text())
    value["memory"].update(gradient_checkpointing="true", weight_offload=True, checkpointed_layers=None)
    params = write_parameters(tmp_path / "p.json", value)
    text = rendered(params, "script")
    assert literal_in(text, "SETTINGS")["memory"]["weight_offload"] is True
    assert "the layers' weights are streamed from there" in " ".join(text.replace("#", "").split())
    small = json.loads(three["float32"].read_text())
    small["precision"]["compute"] = "float32"  # adamw_flash, which a GPU would want, goes to no other program here
    small["optimizer"]["state_offload"] = True
    small["memory"] = {**value["memory"]}
    params = write_parameters(tmp_path / "small.json", small)
    lost = {loss.setting: loss for loss in targets.find("dpo").render(parameters.load(params)).lost}
    assert lost["memory/weight_offload"].breaks and "GiB must fit the GPU" in lost["memory/weight_offload"].becomes


def test_float8_and_a_number_of_layers_are_kept_by_the_script_and_told_lost_elsewhere(three, tmp_path):
    value = json.loads(three["one-card"].read_text())
    value["memory"].update(gradient_checkpointing="true", checkpointed_layers=5)
    value["precision"]["compute"] = "float8"
    params = write_parameters(tmp_path / "p.json", value)
    settings = literal_in(rendered(params, "script"), "SETTINGS")
    assert (settings["memory"]["checkpointed_layers"], settings["precision"]["compute"]) == (5, "float8")
    lost = {loss.setting: loss.becomes for loss in targets.find("unsloth-cli").render(parameters.load(params)).lost}
    assert "all of them" in lost["memory/checkpointed_layers"] and lost["precision/compute"] == "bfloat16"
    assert any("torchao" in requirement for requirement in made_for.requirements(parameters.load(params)))


def test_rows_laid_end_to_end_stay_so_in_the_script_and_are_named_where_they_do_not(three, tmp_path):
    value = json.loads(three["float32"].read_text())
    value["batch"].update(per_device_train_batch_size=8, gradient_accumulation_steps=2, effective_batch_size=16)
    for wanted in (True, False):
        value["data"]["padding_free"] = wanted
        params = write_parameters(tmp_path / "p.json", value)
        assert literal_in(rendered(params, "script"), "SETTINGS")["data"]["padding_free"] is wanted
        for target in ("axolotl", "trl", "dpo"):
            lost = {loss.setting for loss in targets.find(target).render(parameters.load(params)).lost}
            assert ("data/padding_free" in lost) is wanted, target
        lost = {loss.setting: loss for loss in targets.find("unsloth-cli").render(parameters.load(params)).lost}
        assert lost["data/padding_free"].wanted == str(wanted).lower()
    assert "padding_free" not in rendered(params, "trl")
    assert literal_in(rendered(params, "dpo"), "SETTINGS")["data"]["padding_free"] is False


def test_accelerate_starts_as_many_processes_as_planned(three):
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load(rendered(three["two-nodes"], "accelerate"))
    assert (config["distributed_type"], config["num_machines"], config["num_processes"]) == ("MULTI_GPU", 2, 16)
    assert "fsdp_config" not in config  # Unsloth shards by itself, and would leave it to accelerate
    assert yaml.safe_load(rendered(three["offload"], "accelerate"))["distributed_type"] == "NO"


def test_without_data_there_is_nothing_to_render(tmp_path):
    params = write_parameters(tmp_path / "p.json", minimal_parameters("owner/model", None))
    for target in TARGET_NAMES:
        with pytest.raises(BadInput, match="dataset"):
            rendered(params, target)


def test_renting_targets_refuse_without_a_card(tmp_path):
    params = write_parameters(tmp_path / "p.json", minimal_parameters("owner/model", "owner/data"))
    for target in ("modal", "hf-jobs", "skypilot"):
        with pytest.raises(BadInput, match="carry no plan"):
            rendered(params, target)


def test_a_job_cannot_read_a_file_of_this_machine(three, rows_file, tmp_path):
    value = json.loads(three["one-card"].read_text())
    value["data"]["dataset"] = str(rows_file)
    params = write_parameters(tmp_path / "p.json", value)
    assert_clear_error(
        run_script(TOOL, "render", "--params", params, "--target", "hf-jobs"), 2, str(rows_file), "hf upload"
    )
    modal = rendered(params, "modal")
    assert f".add_local_file('{rows_file}', '/data/{rows_file.name}')" in modal
    assert f"'--dataset', '/data/{rows_file.name}'" in modal


def test_an_unwritable_output_is_a_clear_error(three, tmp_path):
    finished = run_script(
        TOOL, "render", "--params", three["float32"], "--target", "script", "--output", tmp_path / "no" / "x.py"
    )
    assert_clear_error(finished, 2, "mkdir -p")


def test_every_registered_target_is_tested():
    assert set(targets.TARGETS) == set(TARGET_NAMES)


def test_what_is_carried_is_the_package_byte_for_byte_and_always_the_same():
    first = carried.archive()
    with tarfile.open(fileobj=io.BytesIO(first), mode="r:xz") as packed:
        held = {name: packed.extractfile(name).read() for name in packed.getnames()}
    assert "scripts/unsloth_fft/training/run.py" in held and "schemas/parameters.schema.json" in held
    assert all(content == (SCRIPTS.parent / name).read_bytes() for name, content in held.items())
    carried.archive.cache_clear()
    assert carried.archive() == first


@pytest.mark.slow
@pytest.mark.parametrize("only", [(), lora_script.USED], ids=["all", "an adapter's"])
def test_what_is_carried_needs_nothing_that_is_left_out(tmp_path, only):
    """Every carried module is imported where only the archive is, without the packages of the training stack."""
    with tarfile.open(fileobj=io.BytesIO(carried.archive(only)), mode="r:xz") as packed:
        packed.extractall(tmp_path, filter="data")
    modules = [
        ".".join(path.relative_to(tmp_path / "scripts").with_suffix("").parts)
        for path in sorted((tmp_path / "scripts" / "unsloth_fft").rglob("*.py"))
        if path.stem != "__init__"
    ]
    probe = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    finished = subprocess.run(
        [sys.executable, "-c", probe, *modules],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "scripts")},
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("name", list(REFUSED))
def test_the_first_hundred_lines_tell_a_reader_everything(three, name):
    """How to run it, the plan, the settings, and that it unpacks the package; then what is packed."""
    lines = rendered(three[name], "script").splitlines()
    head = lines[:100]
    for words in ("uv run train_fft.py", "# Full fine-tuning of", "SETTINGS = {", "def main", "handed_over.main"):
        assert any(words in line for line in head), words
    assert next(number for number, line in enumerate(lines) if "uv run train_fft.py" in line) < 25


def test_only_the_plans_own_optimizer_is_asked_for(three):
    for name, there in (("offload", True), ("float32", False)):
        wanted = [made_for.split(one)[0] for one in made_for.requirements(parameters.load(three[name]))]
        assert ("flashoptim" in wanted) == there, name


@pytest.mark.parametrize("name", list(REFUSED))
def test_no_requirement_is_listed_twice(three, name):
    wanted = made_for.requirements(parameters.load(three[name]))
    names = [made_for.split(requirement)[0].lower() for requirement in wanted]
    assert len(names) == len(set(names))


def test_python_targets_are_valid_python(three):
    for target in ("script", "modal"):
        ast.parse(rendered(three["one-card"], target))


@pytest.mark.parametrize("value", [1e-05, 4e-06, 0.1, 1.0, 3, None, True, "a: b", "# no", "", "multi\nline\n"])
def test_yaml_text_is_read_back_as_it_was(value):
    yaml = pytest.importorskip("yaml")
    original = {"a": {"b": value, "c": [value, {"d": value, "e": 1}] if "\n" not in str(value) else []}, "f": {}}
    assert yaml.safe_load(yaml_text.dump(original)) == original


@pytest.mark.parametrize("marked", [True, False])
def test_trl_is_not_asked_for_answers_alone_where_the_template_does_not_mark_them(tmp_path, marked):
    yaml = pytest.importorskip("yaml")
    model = tmp_path / "model"
    model.mkdir()
    answer = "{% generation %}{{ m.content }}{% endgeneration %}" if marked else "{{ m.content }}"
    (model / "chat_template.jinja").write_text("{% for m in messages %}" + answer + "{% endfor %}")
    value = minimal_parameters(model, "owner/data")
    value["data"]["format"] = "messages"
    found = targets.find("trl").render(parameters.load(write_parameters(tmp_path / "p.json", value)))
    assert yaml.safe_load(found.text)["assistant_only_loss"] is marked
    assert any(loss.setting == "data/loss_on" and loss.breaks for loss in found.lost) is not marked


def test_a_file_for_several_gpus_offers_no_trial_which_takes_one(three) -> None:
    for target in ("script", "notebook", "modal", "skypilot", "slurm", "docker"):
        one, several = (rendered(three[name], target) for name in ("float32", "eight-cards"))
        assert "--trial-steps 3   (memory" in one
        assert "--trial-steps 3   (memory" not in several and '\\"--trial-steps\\", 3' not in several
        assert "plan the same with --max-steps 3 into another file" in several


@pytest.mark.parametrize("target", ["script", "skypilot", "docker"])
def test_what_is_packed_in_a_file_is_said_with_the_command_that_leaves_it_out(three, tmp_path, capsys, target) -> None:
    file = tmp_path / "file"
    assert tool.main(["render", "--params", str(three["float32"]), "--target", target, "--output", str(file)]) == 0
    said = capsys.readouterr().err
    above = int(said.split("head -n ")[1].split()[0])
    lines = file.read_text().split("\n")
    assert lines[above].strip() == carried.BEGIN and carried.BEGIN not in [line.strip() for line in lines[:above]]
