"""`unsloth-fft` as a wheel installs it: the planner and the tool behind one name."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT
from unsloth_fft.commands import console, tool
from unsloth_fft.core import files


def test_plan_is_the_planner(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["plan", "--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H100", "--max-steps", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "Qwen/Qwen2.5-0.5B"


def test_every_other_word_is_a_sub_command_of_the_tool(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        console.main(["--help"])
    said = capsys.readouterr().out
    assert "unsloth-fft plan --help" in said and all(name in said for name in tool.COMMANDS)


def test_an_error_is_the_same_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["plan", "--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H1000", "--max-steps", "5"]) == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "hint"]


def test_a_wheel_carries_what_the_package_reads_beside_itself(tmp_path: Path) -> None:
    """The layout that pyproject.toml asks of a wheel, made by hand: building one needs a network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["scripts/unsloth_fft"]
    site = tmp_path / "site"
    site.mkdir()
    (site / "unsloth_fft").symlink_to(tmp_path / "package")
    package = tmp_path / "package"
    package.mkdir()
    for path in files.PACKAGE.iterdir():
        (package / path.name).symlink_to(path)
    core = package / "core"
    core.unlink()
    core.mkdir()
    for path in (files.PACKAGE / "core").glob("*.py"):
        (core / path.name).write_bytes(path.read_bytes())
    for source, target in wheel["force-include"].items():
        place = tmp_path / "package" / Path(target).relative_to("unsloth_fft")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(ROOT / source)
    code = "import unsloth_fft.core.schema as s; print(s.load('parameters')['title'])"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
