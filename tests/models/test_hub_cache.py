"""A model that was downloaded is found by its name by every command, without a network."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from conftest import PLANNER, TOOL, conversation_rows, minimal_parameters, run_script, write_jsonl, write_parameters
from unsloth_fft.commands import init
from unsloth_fft.core.errors import BadInput
from unsloth_fft.data_doctor import tokenizer
from unsloth_fft.models import catalogue, hub_cache, source
from unsloth_fft.weights import checkpoint

NAME, COMMIT = "harbour/tiny-chat", "abc123def4567890abc123def4567890abc12345"


@pytest.fixture
def cached(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model in a Hub cache of its own, the network forbidden; returns its snapshot."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return download(tmp_path / "hf" / "hub", tiny_model)


def download(cache: Path, model: Path, name: str = NAME, commit: str = COMMIT) -> Path:
    """Lay `model` into a cache as huggingface_hub does: blobs apart, linked from the snapshot of a commit."""
    repository = cache / ("models--" + name.replace("/", "--"))
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copyfile(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


@pytest.mark.slow
def test_every_command_finds_it_by_name_and_offline(cached: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(40))
    plan = tmp_path / "p.json"
    given = ("--model", NAME, "--dataset", rows, "--seq-length", 128, "--max-steps", 3, "--vram-gib", 8)
    planned = run_script(PLANNER, *given, "--output", plan)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(plan.read_text())["model"]["name"] == NAME
    examined = run_script(TOOL, "data", "--params", plan, "--json")
    assert examined.returncode == 0 and json.loads(examined.stdout)["rows"] == 40, examined.stderr
    named = run_script(TOOL, "data", rows, "--model", NAME, "--max-seq-length", 128, "--json")
    assert named.returncode == 0, named.stderr
    made = run_script(TOOL, "init", "--params", plan, "--session", tmp_path / "s")
    assert made.returncode == 0, made.stderr
    predicted = run_script(
        TOOL, "predict", "--model", NAME, "--learning-rate", "1e-5", "--precision", "bfloat16", "--json"
    )
    assert json.loads(predicted.stdout)["source"] == "checkpoint"
    audited = run_script(TOOL, "audit", NAME, cached, "--json")
    assert json.loads(audited.stdout)["verdict"] == "frozen", audited.stderr


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_the_cache_is_where_the_environment_says(
    variable: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv(variable, "$SCRATCH/here")
    inside = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}.get(variable, "")
    snapshot = download(tmp_path / "here" / inside, tiny_model)
    assert hub_cache.find(NAME) == snapshot == checkpoint.locate(NAME)
    assert source.resolve(NAME).layers > 0


def test_a_revision_is_a_branch_or_a_commit(cached: Path, tiny_model: Path) -> None:
    repository = cached.parent.parent
    other = cached.parent / ("0" * 40)
    shutil.copytree(cached, other)
    (repository / "refs" / "dev").write_text("0" * 40)
    assert hub_cache.snapshot(NAME) == cached == hub_cache.snapshot(NAME, COMMIT)
    assert hub_cache.snapshot(NAME, "dev") == other == hub_cache.snapshot(NAME, "0" * 40)
    assert hub_cache.snapshot(NAME, "v2") is None


@pytest.mark.parametrize("revision", ["../../..", "/etc", "..", ""])
def test_a_revision_never_leads_out_of_the_cache(cached: Path, revision: str) -> None:
    found = hub_cache.snapshot(NAME, revision)
    assert found in (None, cached)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b/c", "~x/y", "-x/y", "a\0b/c", "x" * 5000, "ü/ü"])
def test_what_is_no_name_is_not_looked_for(cached: Path, name: str) -> None:
    assert hub_cache.snapshot(name) is None


def test_a_folder_wins_over_the_cache_and_the_cache_over_the_catalogue(
    cached: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(tmp_path / "hf" / "hub", tiny_model, "Qwen/Qwen3-0.6B")
    assert catalogue.load_shape("Qwen/Qwen3-0.6B").layers != 28
    monkeypatch.chdir(tmp_path)
    local = tmp_path / "Qwen" / "Qwen3-0.6B"
    local.mkdir(parents=True)
    changed = {**catalogue.find_entry("Qwen/Qwen3-0.6B").config, "num_hidden_layers": 3}
    (local / "config.json").write_text(json.dumps(changed))
    assert catalogue.load_shape("Qwen/Qwen3-0.6B").layers == 3


def test_a_downloaded_model_is_checked_by_init_as_a_folder_is(cached: Path, tmp_path: Path, rows_file: Path) -> None:
    config = json.loads((cached / "config.json").read_text())
    (cached / "config.json").unlink()
    (cached / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    params = write_parameters(tmp_path / "p.json", minimal_parameters(NAME, rows_file))
    with pytest.raises(BadInput, match="gptq"):
        init.initialize(params, tmp_path / "s")


def test_a_download_that_holds_only_the_configuration_is_no_fault_yet(
    cached: Path, tmp_path: Path, rows_file: Path
) -> None:
    (cached / "model.safetensors").unlink()
    params = write_parameters(tmp_path / "p.json", minimal_parameters(NAME, rows_file))
    assert dataclasses.is_dataclass(init.initialize(params, tmp_path / "s")[1])


def test_a_name_nobody_has_is_refused_with_the_way_to_get_it(cached: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        tokenizer.load(Path("harbour/unknown"))
    assert "hf download" in str(refusal.value.hint)
    with pytest.raises(BadInput):
        checkpoint.locate("harbour/unknown")
