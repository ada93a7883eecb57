"""A missing package is named once, with how to get it, or, where nothing can be fetched, with where to go instead."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from unsloth_fft.core import installing


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    installing.can_fetch.cache_clear()
    for name in ("PIP_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield
    installing.can_fetch.cache_clear()


def pip_that(monkeypatch: pytest.MonkeyPatch, answers: bool) -> list[list[str]]:
    """A pip whose index answers, or not; the commands that it was asked."""
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0 if answers else 1)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_with_a_package_index_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pip_that(monkeypatch, True)
    assert installing.missing("numpy", "the audit needs it").hint == "pip install numpy"
    assert installing.hint("training", command="uv sync --extra train") == "uv sync --extra train"
    assert [command[1:3] for command in asked] == [["-m", "pip"]]


def test_without_a_network_nobody_is_told_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that(monkeypatch, False)
    error = installing.missing("numpy", "the audit needs it", "pyarrow")
    assert error.message == "the Python package numpy is not installed; the audit needs it"
    assert "install numpy" not in error.hint
    assert "a machine that has numpy, pyarrow, and run the same command there" in error.hint


def test_a_pip_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(subprocess, "run", run)
    assert not installing.can_fetch()


@pytest.mark.parametrize("variable", ["PIP_NO_INDEX", "UV_OFFLINE"])
def test_where_the_user_said_offline_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    asked = pip_that(monkeypatch, True)
    monkeypatch.setenv(variable, "1")
    assert not installing.can_fetch() and not asked


@pytest.mark.parametrize("uv", ["/usr/bin/uv", None])
def test_without_pip_only_uv_can_fetch(monkeypatch: pytest.MonkeyPatch, uv: str | None) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: uv)
    assert installing.can_fetch() == (uv is not None)
