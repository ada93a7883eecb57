"""The float32 master of an adamw_flash run: joined as flashoptim does, kept, and written by export."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from conftest import SCRIPTS  # noqa: E402
from unsloth_fft.core.errors import BadInput  # noqa: E402
from unsloth_fft.training import master  # noqa: E402

# flashoptim's own kernels, run by Triton's interpreter: without a GPU, and with copysign spelled out, which it lacks.
AGAINST_FLASHOPTIM = """
import types, torch
import triton.language as tl
from flashoptim import optimizers
from unsloth_fft.training import master

optimizers._get_sm_count = lambda *_: 8
optimizers.libdevice = types.SimpleNamespace(copysign=lambda size, sign: tl.where(sign < 0, -size, size))
torch.manual_seed(0)
values = torch.cat([torch.randn(2000) * 0.02, torch.randn(200), torch.tensor([0.0, -0.0, 1.0, -2.0, 0.5, 3e38, 1e-30])])
weights = values.bfloat16()
for width, kept in ((4, 2e-7), (3, 5e-5)):
    correction = optimizers.compute_ecc_bits(values, weights, master_bytewidth=width)
    mine = master.joined(weights, correction)
    assert torch.equal(mine, optimizers.reconstruct_fp32_param(weights, correction)), width
    assert bool(((mine - values).abs() <= kept * values.abs()).all()), width
print("equal")
"""


def test_it_is_bit_for_bit_what_flashoptim_reconstructs():
    pytest.importorskip("flashoptim")
    done = subprocess.run(
        [sys.executable, "-c", AGAINST_FLASHOPTIM],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "equal", done.stderr


def model_of(dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)).to(dtype)


def corrections(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: torch.randint(-32767, 32767, weight.shape, dtype=torch.int16)
        for name, weight in model.named_parameters()
        if not name.endswith("bias")
    }


def test_what_is_kept_beside_the_model_makes_it_the_master_again(tmp_path: Path):
    stored = model_of(torch.bfloat16)
    kept = corrections(stored)
    master.save(kept, tmp_path / "correction")
    master.save(kept, tmp_path / "correction")  # a second time, in the place of the first
    wide = model_of(torch.bfloat16).float()
    master.add_to(wide, master.read(tmp_path / "correction"))
    for (name, weight), narrow in zip(wide.named_parameters(), stored.parameters(), strict=True):
        expected = master.joined(narrow.data, kept[name]) if name in kept else narrow.float()
        assert torch.equal(weight.data, expected)
        assert torch.equal(weight.bfloat16(), narrow) or name in kept


def test_corrections_of_another_model_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="2.weight"):
        master.add_to(model_of(torch.float32), {"2.weight": torch.zeros(3, dtype=torch.int16)})
    (tmp_path / "correction.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match="cannot be read"):
        master.read(tmp_path)


def test_a_checkpoint_gives_the_corrections_of_its_own_step(tmp_path: Path):
    """As flashoptim saves them: 16 bits under the weights' type, so that no cast changes them."""
    model = model_of(torch.bfloat16)
    kept = corrections(model)
    optimizer = torch.optim.SGD(list(model.parameters()), lr=0.1)
    state = {
        number: {"error_bits": kept[name].view(torch.bfloat16)}
        for number, (name, _) in enumerate(model.named_parameters())
        if name in kept
    }
    group = {**optimizer.state_dict()["param_groups"][0], "master_bytewidth": 4}
    torch.save({"state": state, "param_groups": [group]}, tmp_path / "optimizer.pt")
    found = master.corrections_in(tmp_path, types.SimpleNamespace(optimizer=optimizer, model=model))
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    assert master.corrections_in(tmp_path / "none", None) == {}
