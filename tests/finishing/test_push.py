"""Pushing an exported folder: to a private repository or not at all, and no token in what goes wrong."""

from __future__ import annotations

import types

import pytest

from unsloth_fft.core.errors import BadInput, MissingHere
from unsloth_fft.finishing import export

pytestmark = pytest.mark.train  # needs huggingface_hub


class PretendedHub:
    """What is asked of the Hub's client; `private` is what the repository is, `refusal` what it raises."""

    private, refusal = True, None

    def __init__(self, endpoint, token):
        self.calls = [("token", token)]
        PretendedHub.last = self

    def create_repo(self, name, **options):
        self.calls.append((name, options))
        if self.refusal is not None:
            raise self.refusal

    def repo_info(self, name):
        return types.SimpleNamespace(private=self.private)

    def upload_folder(self, **options):
        self.calls.append(("upload", options))


@pytest.fixture
def hub(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", PretendedHub)
    monkeypatch.setenv("HF_TOKEN", "hf_SECRETSECRETSECRET")
    yield PretendedHub
    PretendedHub.private, PretendedHub.refusal = True, None


def test_pushing_is_private(tmp_path, hub):
    address = export.push(tmp_path / "x", "me/model", export.token("me/model"))
    made, asked, uploaded = hub.last.calls
    assert made == ("token", "hf_SECRETSECRETSECRET")
    assert asked == ("me/model", {"private": True, "exist_ok": True}) and uploaded[0] == "upload"
    assert address == "https://huggingface.co/me/model"


def test_a_public_repository_of_that_name_gets_nothing(tmp_path, hub):
    hub.private = False
    with pytest.raises(BadInput, match="public repository"):
        export.push(tmp_path / "x", "me/model", "t")
    assert [call[0] for call in hub.last.calls] == ["token", "me/model"]


REFUSALS = (
    ValueError("Illegal header value b'Bearer hf_SECRETSECRETSECRET\\r'"),
    OSError(28, "No space left on device"),
    RuntimeError("401 for https://user:hf_SECRETSECRETSECRET@host/x?token=hf_SECRETSECRETSECRET\nsecond line"),
    RecursionError(),
    KeyError("id"),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
def test_whatever_the_hub_answers_is_two_lines_without_the_token(tmp_path, hub, refusal):
    hub.refusal = refusal
    with pytest.raises(MissingHere) as told:
        export.push(tmp_path / "x", "me/model", export.token("me/model"))
    assert "SECRET" not in told.value.message + told.value.hint and "\n" not in told.value.message
