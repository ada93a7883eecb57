"""A session from elsewhere leads nowhere: no link in it is followed out of its folder, by any command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import minimal_parameters
from unsloth_fft.commands import tool
from unsloth_fft.core.errors import BadInput
from unsloth_fft.settings import parameters
from unsloth_fft.training import session
from unsloth_fft.training.session import DataRecord

PLACES = (
    *("evaluation.json", "audit.json", "report.html", "loss.png", "metrics.jsonl", "params.json", ".lock", "model"),
    *("checkpoints", "checkpoints/.staging", "checkpoints/README.md", "checkpoints/checkpoint-3/model.safetensors"),
    *("tensorboard/x/y", ".data-abc", "anything"),
)


@pytest.fixture
def root(tmp_path) -> Path:
    given = parameters.from_json(minimal_parameters("owner/model", "owner/rows"), "the test")
    session.create(tmp_path / "s", given, DataRecord("owner/rows", None, "messages", None))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("mine")
    return tmp_path / "s"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["outside", "outside/precious", "not-there"])
def test_a_link_out_of_a_session_is_refused_wherever_it_stands(root, place, target, capsys):
    link = root / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    os.symlink(root.parent / target, link)
    for command in ("status", "eval", "train", "audit"):
        capsys.readouterr()
        assert tool.main([command, str(root)]) == 2
        assert "symbolic link" in capsys.readouterr().err
    assert (root.parent / "outside" / "precious").read_text() == "mine"
    assert [path.name for path in (root.parent / "outside").iterdir()] == ["precious"]


def test_a_link_of_a_tracker_from_one_of_its_files_to_another_is_none_of_these(root):
    (root / "wandb" / "run-1").mkdir(parents=True)
    os.symlink("run-1", root / "wandb" / "latest-run")
    assert session.load(root)[1].state == "initialized"


def test_the_state_is_read_again_under_the_lock(root, monkeypatch, capsys):
    """While this process waits for the lock, another one trains the session to its end."""
    locked = session.locked

    def slowly(folder: session.Folder):
        value = json.loads(folder.state.read_text())
        folder.state.write_text(json.dumps({**value, "state": "completed"}))
        return locked(folder)

    monkeypatch.setattr(session, "locked", slowly)
    assert tool.main(["train", str(root)]) == 2
    assert "already completed" in capsys.readouterr().err


def test_two_inits_of_one_folder_do_not_share_what_they_write(root, tmp_path):
    shutil.rmtree(root)
    given = parameters.from_json(minimal_parameters("owner/model", "owner/rows"), "the test")
    record = DataRecord("owner/rows", None, "messages", None)
    session.create(root, given, record)
    with pytest.raises(BadInput, match="already exists"):
        session.create(root, given, record)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "s"]
