"""The scripts leave nothing beside themselves, and are quick all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in ("scripts", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / "skill" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "skill"


def ask_for_help(bundle: Path, **more: str) -> str:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(bundle.parent / "tmp"), **more}
    command = [sys.executable, "-v", str(bundle / "scripts" / "generate_fft_params.py"), "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert list(bundle.rglob("*.pyc")) == []
    return finished.stderr


def kept(bundle: Path) -> list[Path]:
    return sorted((bundle.parent / "tmp").glob("unsloth-fft-*/*.pyc"))


def test_bytecode_is_kept_with_temporary_files_and_read_again(bundle: Path) -> None:
    ask_for_help(bundle)
    first = kept(bundle)
    assert len(first) > 3 and oct(first[0].parent.stat().st_mode)[-3:] == "700"
    assert f"code object from '{bundle}/scripts/unsloth_fft/commands/plan.py'" not in ask_for_help(bundle)
    assert kept(bundle) == first


def test_a_changed_module_of_the_same_time_and_size_is_read_anew(bundle: Path) -> None:
    ask_for_help(bundle)
    module = bundle / "scripts" / "unsloth_fft" / "commands" / "plan.py"
    times = module.stat()
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace("example", "exbmple"), encoding="utf-8")
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(bundle.parent / "tmp")}
    command = [sys.executable, str(bundle / "scripts" / "generate_fft_params.py"), "--help"]
    assert "exbmple" in subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def test_a_folder_that_others_could_write_to_is_not_trusted(bundle: Path) -> None:
    folder = bundle.parent / "tmp" / f"unsloth-fft-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    ask_for_help(bundle)
    assert kept(bundle) == []


def test_who_wants_no_bytecode_gets_none(bundle: Path) -> None:
    ask_for_help(bundle, PYTHONDONTWRITEBYTECODE="1")
    assert kept(bundle) == []
