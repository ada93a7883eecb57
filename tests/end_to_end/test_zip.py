"""The ZIP to upload: the same bytes every time, nothing of the developers in it, working from where it is unpacked."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import pages
from conftest import ROOT, conversation_rows, write_jsonl
from tools import build_zip
from unsloth_fft.core.errors import BadInput

pytestmark = pytest.mark.slow

MAX_BYTES = 1_000_000
# What jsonschema itself needs (its own requirements), and nothing else of the training environment.
BARE = ("jsonschema", "jsonschema_specifications", "referencing", "rpds", "attr", "attrs", "typing_extensions.py")
# Sub-commands and programs of SKILL.md that a bare Python runs to their end.
RUN_BARE = {"generate_fft_params.py": 0, "predict": 0, "render": 0, "doctor": 4, "lora": 0}


@pytest.fixture(scope="module")
def content() -> bytes:
    return build_zip.archive(ROOT)


@pytest.fixture(scope="module")
def unpacked(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        bundle.extractall(folder)
    return folder / "unsloth-fft"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that has the standard library and jsonschema, and no network."""
    packages = tmp_path_factory.mktemp("packages")
    site = Path(__import__("jsonschema").__file__).parents[1]
    for name in BARE:
        if (site / name).exists():
            (packages / name).symlink_to(site / name)
    nowhere = "http://127.0.0.1:9"
    return {"PYTHONPATH": str(packages), "PATH": os.environ["PATH"], "https_proxy": nowhere, "http_proxy": nowhere}


def run_bare(words: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess:
    """Run Python without its site-packages (-S): what is not in `environment` cannot be imported."""
    return subprocess.run(
        [sys.executable, "-S", *words], capture_output=True, text=True, env=environment, cwd=folder, timeout=120
    )


def members(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        return bundle.namelist()


def test_the_same_files_give_the_same_bytes_wherever_and_whenever(content: bytes, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in members(content):
        target = copy / name.removeprefix("unsloth-fft/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name.removeprefix("unsloth-fft/"), target)
        os.utime(target, (1_000_000_000, 1_000_000_000))
        target.chmod(0o600)
    for junk in (
        "tests/test_x.py",
        "scripts/__pycache__/x.pyc",
        ".git/config",
        "scripts/.cache/x.py",
        "evals/evals.json",
    ):
        (copy / junk).parent.mkdir(parents=True, exist_ok=True)
        (copy / junk).write_text("junk", encoding="utf-8")
    assert build_zip.archive(copy) == content


def test_a_change_changes_the_bytes(content: bytes, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    before = build_zip.archive_of(tmp_path, ("schemas",))
    (tmp_path / "schemas" / "prices.schema.json").write_text("{}", encoding="utf-8")
    assert build_zip.archive_of(tmp_path, ("schemas",)) != before


def test_it_is_small_and_holds_one_folder_with_the_skill(content: bytes) -> None:
    assert len(content) < MAX_BYTES
    names = members(content)
    assert "unsloth-fft/SKILL.md" in names
    assert {name.split("/")[0] for name in names} == {"unsloth-fft"}
    assert len(names) == len(set(names))


def test_pictures_have_few_colours(content: bytes) -> None:
    """Drawn with all colours the five of them were a quarter of the ZIP."""
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        sizes = {info.filename: info.file_size for info in bundle.infolist() if info.filename.endswith(".png")}
    assert sizes and all(size < 30_000 for size in sizes.values()), sizes


def test_nothing_of_the_developers_is_in_it(content: bytes) -> None:
    for name in members(content):
        parts = name.split("/")
        assert not {"tests", "evals", "__pycache__", "grading", ".ci"} & set(parts), name
        assert not any(part.startswith(".") for part in parts if part != ".claude-plugin"), name
        assert not name.endswith((".pyc", "build_skill.py", "build.py", "uv.lock", "test.py", "evidence.json")), name


def test_every_name_stays_in_the_folder_wherever_it_is_unpacked(content: bytes) -> None:
    for name in members(content):
        assert all(re.fullmatch(r"[.]?[A-Za-z0-9_][A-Za-z0-9_.-]*", part) for part in name.split("/")), name
    with zipfile.ZipFile(io.BytesIO(content)) as bundle:
        assert {info.external_attr >> 16 for info in bundle.infolist()} == {0o644}  # plain files, no links


@pytest.mark.parametrize("name", ["a\\..\\..\\evil.py", "C:evil.py", "two words.py", "caf\u00e9.py", "new\nline.py"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / name).write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="is no plain name"):
        build_zip.archive_of(tmp_path, ("scripts",))


def test_links_are_not_followed_into_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret", encoding="utf-8")
    inside = tmp_path / "bundle" / "references"
    inside.mkdir(parents=True)
    (inside / "page.md").write_text("page", encoding="utf-8")
    (inside / "link.md").symlink_to(outside / "secret.md")
    (inside / "folder").symlink_to(outside)
    packed = build_zip.archive_of(tmp_path / "bundle", ("references",))
    assert members(packed) == ["unsloth-fft/references/page.md"]


def test_no_module_in_it_needs_one_that_was_left_out(unpacked: Path) -> None:
    left_out = {Path(name).stem for name in build_zip.LEFT_OUT if name.endswith(".py")}
    for path in (unpacked / "scripts").rglob("*.py"):
        imported = re.findall(
            r"^\s*(?:from \S+ import (.+)|import (\S+))$", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        names = {name.strip() for pair in imported for part in pair for name in re.split(r"[,.]", part)}
        assert not names & left_out, path


def test_frontmatter_and_links_hold_in_the_unpacked_folder(unpacked: Path) -> None:
    assert build_zip.frontmatter_problems((unpacked / "SKILL.md").read_text(encoding="utf-8")) == []
    for page in [unpacked / "SKILL.md", *(unpacked / "references").glob("*.md")]:
        assert pages.broken_links(page) == pages.broken_links(ROOT / page.relative_to(unpacked)), page.name


def test_the_format_s_own_validator_finds_nothing_wrong(unpacked: Path) -> None:
    """skills-ref is the reference library of the Agent Skills format; it also wants the folder named like the skill."""
    validator = pytest.importorskip("skills_ref.validator")
    assert validator.validate(unpacked) == []


def skill_commands() -> list[str]:
    """The commands of SKILL.md in their order, those that bare Python runs."""
    lines = [
        line
        for fence in pages.fences("bash", pages=[ROOT / "SKILL.md"])
        for line in fence.text.splitlines()
        if line.startswith('python "${CLAUDE_SKILL_DIR}/scripts/')
    ]
    return [line for line in lines if kind_of(line) in RUN_BARE]


def kind_of(line: str) -> str:
    words = shlex.split(line)
    return words[2] if words[1].endswith("unsloth_fft_tool.py") else Path(words[1]).name


def test_skill_commands_run_in_a_bare_python(unpacked: Path, bare: dict[str, str], tmp_path: Path) -> None:
    """One after another from a folder elsewhere, as someone would who reads the skill from top to bottom."""
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))
    commands = skill_commands()
    assert {kind_of(line) for line in commands} == set(RUN_BARE)
    for line in commands:
        words = [word.replace("${CLAUDE_SKILL_DIR}", str(unpacked)) for word in shlex.split(line)[1:]]
        finished = run_bare(words, bare, tmp_path)
        assert finished.returncode == RUN_BARE[kind_of(line)], (line, finished.stderr)
        assert "Traceback" not in finished.stderr
    for written in ("params.json", "train_fft.py", "train_fft.ipynb", "lora.py"):
        assert (tmp_path / written).is_file(), written
    compile((tmp_path / "train_fft.py").read_text(encoding="utf-8"), "train_fft.py", "exec")
    json.loads((tmp_path / "train_fft.ipynb").read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", ["demo", "train run-1", "status run-1", "init --params no.json --session s"])
def test_what_needs_more_says_so_in_a_bare_python(unpacked: Path, bare: dict[str, str], command: str) -> None:
    finished = run_bare(["scripts/unsloth_fft_tool.py", *command.split()], bare, unpacked)
    assert finished.returncode in (2, 4)
    assert "Traceback" not in finished.stderr
    assert [line.split(":")[0] for line in finished.stderr.splitlines()] == ["error", "hint"]


def test_data_files_are_checked_in_a_bare_python(unpacked: Path, bare: dict[str, str], tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(3))
    words = ["scripts/unsloth_fft_tool.py", "data", str(rows), "--json"]
    finished = run_bare(words, bare, unpacked)
    assert finished.returncode == 0 and json.loads(finished.stdout)["verdict"] == "readable", finished.stderr
    rows.write_text(rows.read_text(encoding="utf-8") + "{", encoding="utf-8")
    finished = run_bare(words, bare, unpacked)
    assert finished.returncode == 2
    assert [fault["line"] for fault in json.loads(finished.stdout)["faults"]["shown"]] == [4]


def test_bare_really_is_bare(unpacked: Path, bare: dict[str, str]) -> None:
    for package in ("torch", "numpy", "unsloth"):
        assert run_bare(["-c", f"import {package}"], bare, unpacked).returncode != 0


def test_it_is_a_plugin_for_claude_code_too(unpacked: Path) -> None:
    """The fields that the published schemas require (SchemaStore, claude-code-plugin-manifest and -marketplace)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plugin = json.loads((unpacked / ".claude-plugin" / "plugin.json").read_text(encoding="utf-8"))
    assert {key: plugin[key] for key in ("name", "version", "description", "license")} == {
        key: project[key] for key in ("name", "version", "description", "license")
    }
    assert all((unpacked / folder / "SKILL.md").is_file() for folder in plugin["skills"]) and plugin["author"]["name"]
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text(encoding="utf-8"))
    assert market["name"] and market["owner"]["name"]
    (listed,) = market["plugins"]
    assert listed["name"] == plugin["name"] and (ROOT / listed["source"] / ".claude-plugin" / "plugin.json").is_file()


def test_building_twice_writes_the_same_file(tmp_path: Path, content: bytes) -> None:
    for folder in ("one", "two"):
        with pytest.raises(SystemExit) as ended:
            build_zip.entry(["--output", str(tmp_path / folder), "--json"])
        assert ended.value.code == 0
    one, two = ((tmp_path / folder / "unsloth-fft.zip").read_bytes() for folder in ("one", "two"))
    assert one == two == content
