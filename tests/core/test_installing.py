"""A missing package is named once, with how to get it, or, where nothing can be fetched, with where to go instead."""

from __future__ import annotations

import urllib.request

import pytest

from unsloth_fft.core import installing


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    installing.can_fetch.cache_clear()
    for name in (*installing.INDEX_VARIABLES, "PIP_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def answering(monkeypatch: pytest.MonkeyPatch, answers: bool) -> list[str]:
    asked: list[str] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> open:
        asked.append(request.full_url)
        if not answers:
            raise OSError("Network is unreachable")
        return open("/dev/null")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_with_a_package_index_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, True)
    assert installing.missing("numpy", "the audit needs it").hint == "pip install numpy"
    assert installing.hint("training", command="uv sync --extra train") == "uv sync --extra train"


def test_without_a_network_nobody_is_told_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, False)
    error = installing.missing("numpy", "the audit needs it", "pyarrow")
    assert error.message == "the Python package numpy is not installed; the audit needs it"
    assert "install numpy" not in error.hint
    assert "a machine that has numpy, pyarrow, and run the same command there" in error.hint


def test_the_index_that_pip_or_uv_was_told_of_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://packages.example.org/simple\n", encoding="utf-8")
    monkeypatch.setattr(installing, "INDEX_FILES", (str(tmp_path / "none"), str(file)))
    asked = answering(monkeypatch, True)
    assert installing.can_fetch() and asked == ["https://packages.example.org/simple"]
    monkeypatch.setenv("UV_INDEX_URL", "https://other.example.org")
    installing.can_fetch.cache_clear()
    assert installing.can_fetch() and asked[1:] == ["https://other.example.org"]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    installing.can_fetch.cache_clear()
    assert not installing.can_fetch() and len(asked) == 2
