"""Out of memory and a machine that lacks something: what a user is told, and that the named way out is one."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from conftest import ROOT, SCRIPTS, minimal_parameters, run_script
from unsloth_fft.core.errors import MissingHere
from unsloth_fft.estimates import disk
from unsloth_fft.hardware import cards, detection
from unsloth_fft.planning import replan
from unsloth_fft.settings import parameters as params
from unsloth_fft.settings import recipes
from unsloth_fft.training import preflight, state_keeper
from unsloth_fft.training.session import Folder

PLANNER = SCRIPTS / "generate_fft_params.py"


def planned(tmp_path: Path, *flags: object) -> params.Parameters:
    file = tmp_path / "params.json"
    finished = run_script(PLANNER, *flags, "--max-steps", 100, "--output", file)
    assert finished.returncode == 0, finished.stderr
    return params.load(file)


def test_the_hint_of_out_of_memory_is_a_command_that_plans_less(tmp_path):
    first = planned(tmp_path, "--model", "meta-llama/Llama-3.1-8B", "--gpu", "L40S", "--host-ram-gib", 128)
    failure = state_keeper.out_of_memory(first, measure=lambda: (41.5, 0.9))
    assert failure.exit_code == 5
    peak = first.plan.predicted.peak_vram_gib
    assert "41.5 GiB" in failure.message and f"{peak:.1f}" in failure.message
    command = shlex.split(failure.hint[failure.hint.index("generate_fft_params.py") :])
    assert command[0] == "generate_fft_params.py"
    command[command.index("--output") + 1] = str(tmp_path / "smaller.json")
    again = run_script(PLANNER, *command[1:])
    assert again.returncode == 0, again.stderr
    second = params.load(tmp_path / "smaller.json")
    assert second.plan.predicted.peak_vram_gib < peak
    assert second.batch.effective_batch_size == first.batch.effective_batch_size
    assert second.precision.exactness == "exact"
    assert second.optimizer.learning_rate == first.optimizer.learning_rate


def test_where_nothing_smaller_exists_the_hint_says_what_would_help(tmp_path):
    least = planned(tmp_path, "--model", "meta-llama/Llama-3.1-8B", "--vram-gib", 22.5, "--host-ram-gib", 128)
    hint = replan.smaller(least, available_gib=12.0)
    assert hint.startswith("no smaller plan fits") and "--gpu" in hint


def card(free: float, name: str = "L40S") -> cards.Hardware:
    return dataclasses.replace(cards.on_gpu(cards.find_gpu(name)), host_ram_gib=64.0)


@pytest.fixture
def on_an_l40s(monkeypatch):
    """Preflight believes that this machine has an L40S with 10 GiB free."""
    monkeypatch.setattr(detection, "detect", lambda: card(10.0))
    monkeypatch.setattr(detection, "free_gib", lambda: 10.0)
    monkeypatch.setattr(detection, "free_host_gib", lambda: 20.0)
    monkeypatch.setattr(preflight, "require_optimizer", lambda name: None)


def test_gpu_memory_that_others_hold_stops_a_run_before_it_loads(tmp_path, on_an_l40s):
    plan = planned(tmp_path, "--model", "meta-llama/Llama-3.2-3B", "--gpu", "L40S", "--host-ram-gib", 128)
    with pytest.raises(MissingHere, match=r"10\.0 GiB of L40S are free"):
        preflight.check(plan, Folder(tmp_path / "s"))


def test_little_host_memory_draws_a_warning_only(tmp_path, on_an_l40s, monkeypatch, capsys):
    plan = planned(tmp_path, "--model", "meta-llama/Llama-3.1-8B", "--gpu", "L40S", "--host-ram-gib", 128)
    monkeypatch.setattr(detection, "free_gib", lambda: 44.0)
    monkeypatch.setattr(preflight, "require_disk", lambda *_: None)
    preflight.check(plan, Folder(tmp_path / "s"))
    assert "host memory, and 20 GiB are available" in " ".join(capsys.readouterr().err.split())


def test_a_plan_for_more_gpus_than_there_are_is_refused(tmp_path, on_an_l40s):
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "effective_batch_size": 2}
    two = params.from_json(
        minimal_parameters("m", "d", batch=batch, distributed={"gpus": 2, "strategy": "fsdp2"}), "the test"
    )
    with pytest.raises(MissingHere, match="for 2 GPUs in this machine, and 1"):
        preflight.check(two, Folder(tmp_path / "s"))


def test_the_package_behind_the_optimizer_must_be_there_and_new_enough(monkeypatch):
    def nothing(name: str) -> str:
        raise preflight.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(preflight.importlib.metadata, "version", nothing)
    with pytest.raises(MissingHere, match="flashoptim; the optimizer adamw_flash") as missing:
        preflight.require_optimizer("adamw_flash")
    assert "flashoptim>=0.1.4" in missing.value.hint
    monkeypatch.setattr(preflight.importlib.metadata, "version", lambda name: "0.1.3")
    with pytest.raises(MissingHere, match="too old"):
        preflight.require_optimizer("adamw_flash")


def test_the_least_version_of_flashoptim_is_the_one_unsloth_asks_for():
    import importlib.util

    spec = importlib.util.find_spec("unsloth")
    if spec is None or spec.origin is None:
        pytest.skip("unsloth is not installed")
    source = Path(spec.origin).with_name("optimizers") / "flash_adamw.py"
    asked = re.search(r'_FLASH_ADAMW_MIN_VERSION = "([\d.]+)"', source.read_text(encoding="utf-8"))
    package = recipes.OPTIMIZERS[recipes.FLASH].package
    assert asked is not None and package is not None and asked[1] == package.least


def test_free_memory_is_read_of_the_visible_gpu(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nprintf '0, GPU-a, 4096\\n1, GPU-b, 20480\\n'\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert detection.free_gib() == 4.0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert detection.free_gib() == 20.0


def test_the_bundle_says_nothing_of_disk_twice():
    """The disk a run needs is one formula, used by the plan, `init`, `train` and the rendered script."""
    users = [
        path
        for path in (ROOT / "scripts" / "unsloth_fft").rglob("*.py")
        if re.search(r"\bCHECKPOINT_BYTES\b", path.read_text(encoding="utf-8"))
    ]
    assert [path.name for path in users] == ["disk.py"]


def test_a_plan_states_its_disk(tmp_path):
    plan = planned(tmp_path, "--model", "meta-llama/Llama-3.1-8B", "--gpu", "H200")
    text = json.loads((tmp_path / "params.json").read_text())
    each = disk.CHECKPOINT_BYTES["bfloat16"]
    # 100 steps save at their end alone, and a signal may have saved before.
    assert text["plan"]["predicted"]["disk_gib"] == pytest.approx(8030261248 * (4 + 2 * each) / 2**30, abs=0.06)
    assert plan.schedule.save_total_limit == 2
    often = dataclasses.replace(plan.schedule, save_steps=10)
    assert disk.needed_gib(8030261248, "bfloat16", often, 100) == pytest.approx(8030261248 * (4 + 3 * each) / 2**30)
    assert disk.needed_gib(8030261248, "bfloat16", often, None) == disk.needed_gib(8030261248, "bfloat16", often, 100)
