"""Whatever a name holds, every target carries it to where it is read, and nothing in it is taken for code.

Each rendered file is read as its reader would, and the name is found again; each command that is printed is run by a
shell whose programs do nothing, and must neither fail to parse nor do more than call them with the name.
"""

from __future__ import annotations

import ast
import copy
import csv
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from render_helpers import TARGET_NAMES, literal_in, plans
from unsloth_fft.core.control import first_control
from unsloth_fft.core.errors import BadInput
from unsloth_fft.rendering import shell, targets
from unsloth_fft.settings import parameters

MARK = "TAKEN_FOR_CODE"
NAMES = [
    *(f"$(touch {MARK})", f"`touch {MARK}`", f"'; touch {MARK}; '", f'"; touch {MARK}; "', f"&&touch {MARK}", ">x"),
    *(f"'''+__import__('os').system('touch {MARK}')+'''", f'"""+__import__("os").system("touch {MARK}")+"""'),
    *("a: b", "a #b", "a: {x: y}", "- a", "*a", "&a", "!!python/object/apply:os.system ['true']", "? a", "%YAML", "@a"),
    *("\\", "a\\", "a\\'", "{arguments}", "{0}", "%s", "$HOME", "${IFS}", "~", "-rf", "--output", "a b", "a:b", "a,b"),
    *("a=b", 'a"b', "a'b", "null", "true", "1e5", "0x1f", "é", "\U0001f600", "\u200d", "\xa0", "${{x}}", "{{x}}", "!x"),
    *("#!x", "]]>", "<script>alert(1)</script>", "|", ">", "end\u3000of", "\ufeffa"),
]
# Several in one name, which saves time; a revision is the one value that nothing stands before, so there each is alone.
TOGETHER = [" ".join(NAMES[start : start + 20]) for start in range(0, len(NAMES), 20)]
REFUSED = ["a\nb", "a\r\nRUN b", "a\x00b", "a\x85b", "a\u2028b", "a\x1b[2Jb", "a\x7fb", "a\tb", "a\udcffb", "a\x0bb"]
PLACES = {
    "data": lambda value, name: value["data"].update(dataset=f"/d/{name}/rows.jsonl"),
    "data file": lambda value, name: value["data"].update(dataset=f"/d/{name}.jsonl"),
    "data beside": lambda value, name: value["data"].update(dataset=f"./{name}.jsonl"),
    "model": lambda value, name: value["model"].update(name=f"owner/{name}"),
    "model folder": lambda value, name: value["model"].update(name=f"/m/{name}/base"),
    "revision": lambda value, name: value["model"].update(revision=name),
    "why": lambda value, name: value["plan"]["why"].append(f"because {name}"),
}
ALONE = [("revision", target) for target in ("axolotl", "trl", "script")]
YAML = ("skypilot", "accelerate", "unsloth-cli", "axolotl", "trl")
SHELL = ("slurm", "hf-jobs")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Parameters of one card, and of eight."""
    made = plans(tmp_path_factory.mktemp("plans"))
    return [json.loads(made[name].read_text()) for name in ("float32", "eight-cards")]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", TARGET_NAMES)
def test_every_name_is_found_again_where_the_target_reads_it(values, target, place, tmp_path):
    rendered = 0
    commands: list[str] = []
    for value in values if place == "data" else values[:1]:
        for name in NAMES if (place, target) in ALONE else TOGETHER:
            changed = copy.deepcopy(value)
            PLACES[place](changed, name)
            plan = parameters.from_json(changed, "the test")
            try:
                found = targets.find(target).render(plan, "out.file")
            except BadInput:
                continue
            rendered += 1
            READERS[target](found.text, plan, target)
            if target != "unsloth-studio":  # what to do there is a sentence, not a command
                commands.append(found.run)
    # Where there is none of it: a Job sees no local file, the others name no revision.
    nothing_to_read = target in ("hf-jobs", "unsloth-cli", "dpo", "notebook")
    assert rendered or nothing_to_read or (target, place) == ("unsloth-studio", "revision"), "nothing was rendered"
    run_all(commands, tmp_path)


@pytest.mark.parametrize("place", [name for name in PLACES if name != "why"])
@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_line_breaks_controls_and_what_is_no_text_are_refused_before_anything_is_rendered(values, place, name):
    changed = copy.deepcopy(values[0])
    PLACES[place](changed, name)
    with pytest.raises(BadInput, match="holds") as refusal:
        parameters.from_json(changed, "the test")
    assert first_control(refusal.value.message) is None


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_whatever_the_reasons_of_a_plan_hold_they_stay_comments(values, target):
    changed = copy.deepcopy(values[0])
    changed["plan"]["why"] += [f"because{name}\nRUN touch {MARK}\nx: y" for name in REFUSED[:-2]]
    plan = parameters.from_json(changed, "the test")
    READERS[target](targets.find(target).render(plan).text, plan, target)


@pytest.mark.parametrize("name", ["-rf", "a b", "$(x)", "'", 'q"q'])
@pytest.mark.parametrize("target", TARGET_NAMES)
def test_a_file_of_any_name_is_one_word_of_the_command(values, target, name, tmp_path):
    try:
        run = targets.find(target).render(parameters.from_json(values[0], "the test"), name).run
    except BadInput:
        return
    if not run.startswith("open "):
        assert {name, f"./{name}"} & set(shlex.split(run, comments=True)), run


def every_value(part: Any) -> Iterator[Any]:
    if isinstance(part, dict):
        for key, inner in part.items():
            yield key
            yield from every_value(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from every_value(inner)
    else:
        yield part


def read_yaml(text: str, plan: parameters.Parameters, target: str) -> None:
    value = yaml.safe_load(text)
    if target == "accelerate":  # it names neither model nor data
        return
    found = list(every_value(value))
    for name in (plan.model.name, plan.data.dataset):
        assert name in found or target == "skypilot", (target, name)
    if plan.model.revision is not None and target in ("axolotl", "trl"):
        assert plan.model.revision in found
    if target == "skypilot":
        wanted = {shell.remote_data(plan): plan.data.dataset, shell.remote_model(plan): plan.model.name}
        assert value.get("file_mounts", {}) == {place: name for place, name in wanted.items() if place is not None}
        assert set(value) <= {"name", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
        read_shell(value["run"], plan, target)


def read_python(text: str, plan: parameters.Parameters, target: str) -> None:
    settings = literal_in(text, "SETTINGS")
    assert settings["data"]["dataset"] == plan.data.dataset
    assert settings["model"]["name"] == plan.model.name
    assert settings["model"]["revision"] == plan.model.revision


def read_arguments(text: str, plan: parameters.Parameters, target: str) -> None:
    """Of an MCP tool, in JSON; `about` is a list of lines, and no key stands beside those that are meant."""
    value = json.loads(text)
    assert set(value) == {"about", "start_training"} and all(isinstance(line, str) for line in value["about"])
    assert set(value["start_training"]) == {"kind", "config", "validate_only"}
    config = value["start_training"]["config"]
    assert config["model_name"] == plan.model.name
    assert plan.data.dataset in (config.get("hf_dataset"), *config.get("local_datasets", ()))


def read_modal(text: str, plan: parameters.Parameters, target: str) -> None:
    tree = ast.parse(text)
    script = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "SCRIPT")
    read_python(ast.literal_eval(script), plan, target)
    added = {
        ast.literal_eval(node.args[0]): ast.literal_eval(node.args[1])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("add_local_file", "add_local_dir")
    }
    wanted = {plan.data.dataset: shell.remote_data(plan), plan.model.name: shell.remote_model(plan)}
    assert added == {name: place for name, place in wanted.items() if place is not None}


def read_notebook(text: str, plan: parameters.Parameters, target: str) -> None:
    sources = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    cells = [re.sub(r"^%%.*\n", "", source) for source in sources]  # what a cell magic writes into a file
    read_python(next(cell for cell in cells if "SETTINGS = {" in cell), plan, target)
    for cell in cells:
        ast.parse(cell)


def read_shell(text: str, plan: parameters.Parameters, target: str) -> None:
    parsed = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert parsed.returncode == 0, parsed.stderr
    read_python(script_in(text), plan, target)
    if target == "slurm":
        assert plan.data.dataset in shlex.split(text.rsplit("--dataset", 1)[1])


def read_dockerfile(text: str, plan: parameters.Parameters, target: str) -> None:
    read_python(script_in(text), plan, target)
    outside = re.sub(r"(?s)COPY <<'END_OF_FFT_SCRIPT'.*?\nEND_OF_FFT_SCRIPT\n", "", text)
    for line in filter(str.strip, outside.splitlines()):
        assert re.match(r"#|(FROM|RUN|WORKDIR|ENTRYPOINT|CMD) |    &&", line), line
        if line.startswith(("CMD", "ENTRYPOINT")):
            assert all(isinstance(one, str) for one in json.loads(line.split(" ", 1)[1]))
    run = re.search(r"^# Run: (.*)$", text, re.MULTILINE)
    assert run
    words = shlex.split(run[1])
    mounted = [word for option, word in zip(words, words[1:], strict=False) if option == "--mount"]
    mounts = [dict(part.partition("=")[::2] for part in next(csv.reader([word]))) for word in mounted]
    wanted = {shell.remote_data(plan): plan.data.dataset, shell.remote_model(plan): plan.model.name}
    assert {mount["target"]: mount["source"].removeprefix("$PWD/") for mount in mounts} == {
        place: str(name).removeprefix("./") for place, name in wanted.items() if place is not None
    }


def script_in(text: str) -> str:
    """The script between the marks of a here-document, which may be indented by YAML's block."""
    return re.search(r"(?s)<<'END_OF_FFT_SCRIPT'[^\n]*\n(.*?)\nEND_OF_FFT_SCRIPT\n", text)[1]  # type: ignore[index]


READERS = {
    **dict.fromkeys(YAML, read_yaml),
    **dict.fromkeys(SHELL, read_shell),
    **dict.fromkeys(("script", "dpo"), read_python),
    "modal": read_modal,
    "notebook": read_notebook,
    "docker": read_dockerfile,
    "unsloth-studio": read_arguments,
}


def run_all(commands: list[str], folder: Path) -> None:
    """Run every printed command in one shell whose programs do nothing: nothing may be made, nothing may not parse."""
    programs = ("docker", "uv", "torchrun", "sky", "sbatch", "modal", "axolotl", "trl", "unsloth", "accelerate", "bash")
    (folder / "bin").mkdir()
    for name in programs:
        (folder / "bin" / name).write_text("#!/bin/sh\n:\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "here").mkdir()
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join(f"{run}\n:" for run in commands if not run.startswith("open "))],
        cwd=folder / "here",
        capture_output=True,
        text=True,
        env={"PATH": str(folder / "bin"), "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        timeout=60,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr[:500]
    assert not os.listdir(folder / "here")
