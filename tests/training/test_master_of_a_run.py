"""A finished adamw_flash run keeps its float32 master, or says in words and in its result that it did not.

The optimizer is a stand-in, as flashoptim needs a GPU. It comes to the trainer as the real one does: Unsloth's own
marking of the arguments, a transformers.Trainer that makes the optimizer, and accelerate's wrapper around it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

from tiny_configs import SMALL  # noqa: E402
from unsloth_fft.core import schema  # noqa: E402
from unsloth_fft.settings.parameters import Precision  # noqa: E402
from unsloth_fft.training import master, outcome, session  # noqa: E402

FLASH = SimpleNamespace(precision=Precision("exact", "bfloat16", "error_correction", "bfloat16"))


class StandIn(torch.optim.SGD):
    """Steps as SGD does, and keeps `error_bits` beside each weight, as flashoptim's optimizers do."""

    keeps = True

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for weight in group["params"] if self.keeps else ():
                bits = torch.arange(weight.numel(), dtype=torch.int32) % 32767
                self.state[weight]["error_bits"] = bits.to(torch.int16).view(weight.shape)


def unsloth_flash_adamw():
    """Unsloth's module by itself: importing unsloth takes half a minute and patches much else. Where a test before has
    imported unsloth, its own."""
    if "unsloth.optimizers.flash_adamw" in sys.modules:
        return sys.modules["unsloth.optimizers.flash_adamw"]
    place = importlib.util.find_spec("unsloth")
    if place is None:
        pytest.skip("unsloth is not installed here")
    path = place.submodule_search_locations[0] + "/optimizers/flash_adamw.py"
    spec = importlib.util.spec_from_file_location("flash_adamw_alone", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Trains two steps on a CPU: a function of whether the optimizer keeps corrections, to (result, folder, runner)."""
    trainer = transformers.Trainer
    monkeypatch.setattr(trainer, "get_optimizer_cls_and_kwargs", trainer.__dict__["get_optimizer_cls_and_kwargs"])
    parser = transformers.HfArgumentParser
    monkeypatch.setattr(parser, "_add_dataclass_arguments", parser._add_dataclass_arguments)
    unsloth = unsloth_flash_adamw()

    def finish(keeps: bool):
        monkeypatch.setattr(StandIn, "keeps", keeps)
        monkeypatch.setattr(unsloth, "get_flash_adamw_cls_and_kwargs", lambda args: (StandIn, {"lr": 0.1}))
        config = transformers.LlamaConfig(**SMALL)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        rows = datasets.Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 4)
        folder = session.Folder(tmp_path)
        arguments = transformers.TrainingArguments(
            str(folder.checkpoints), optim="adamw_torch", max_steps=2, report_to="none", save_strategy="no",
            use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        arguments.optim = "adamw_torch"  # an unsloth imported by a test before has changed it
        runner = trainer(model, unsloth.mark_flash_adamw(arguments), train_dataset=rows)
        runner.train()
        prepared = SimpleNamespace(held_out=rows, train=rows, supervised_tokens=16)
        return outcome.finish(folder, FLASH, prepared, runner, 1.0), folder, runner

    return finish


def test_corrections_are_found_through_unsloths_arguments_and_accelerates_wrapper(finished):
    result, folder, runner = finished(keeps=True)
    assert runner.args.optim == "adamw_torch", "Unsloth's placeholder, not adamw_flash"
    assert type(runner.optimizer).__name__ == "AcceleratedOptimizer"
    kept = master.read(folder.correction)
    assert kept.keys() == dict(runner.model.named_parameters()).keys()
    assert result.eval_loss_master is not None and result.master_missing is None


def test_a_run_whose_corrections_are_not_found_says_so(finished, capsys):
    result, folder, _ = finished(keeps=False)
    assert not folder.correction.exists() and result.eval_loss_master is None
    assert "checkpoint-2 has corrections" in result.master_missing
    assert f"warning: the float32 master is not kept: {result.master_missing}" in " ".join(
        capsys.readouterr().err.split()
    )
    described = schema.load("session")["properties"]["result"]["properties"]
    assert set(json.loads(json.dumps(vars(result)))) <= set(described)
