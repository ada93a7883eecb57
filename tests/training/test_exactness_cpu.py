"""What "exact" means, in miniature: real steps of a small Llama on a CPU, bfloat16 against a float32 master."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from conftest import conversation_rows, minimal_parameters, write_jsonl, write_parameters

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from unsloth_fft.auditing.audit import AuditContext, audit_folders  # noqa: E402
from unsloth_fft.auditing.predict import predict  # noqa: E402

RATES = (1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4)


@pytest.fixture(scope="module")
def base():
    """A small Llama in bfloat16 with a tied head, so that every row of the vocabulary has a gradient."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(torch.bfloat16)


def trained(base, dtype, rate: float, steps: int):
    """A copy of `base` after AdamW steps at a constant rate on the same data, with weights of type `dtype`."""
    model = copy.deepcopy(base).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        tokens = torch.randint(0, 256, (4, 64), generator=generator)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def change(base, model):
    """The change of all weights as one float64 vector."""
    pairs = zip(base.parameters(), model.parameters(), strict=True)
    return torch.cat([(new.detach().double() - old.detach().double()).flatten() for old, new in pairs])


def cosine(first, second) -> float:
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


@pytest.fixture(scope="module")
def base_folder(base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exactness") / "base"
    base.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("rate", RATES)
def test_predicted_survival_is_what_one_bf16_step_moves(base, base_folder: Path, tmp_path: Path, rate: float) -> None:
    trained(base, torch.bfloat16, rate, steps=1).save_pretrained(tmp_path / "trained")
    audit = audit_folders(base_folder, tmp_path / "trained").to_json()
    predicted = predict(str(base_folder), rate, "bfloat16").survival_at(rate)
    assert predicted == pytest.approx(audit["changed_fraction"], abs=0.02)


STEPS, RATE = 30, 1e-5


@pytest.fixture(scope="module")
def exact(base):
    """After 30 steps with float32 weights: the reference."""
    return trained(base, torch.float32, RATE, STEPS)


@pytest.fixture(scope="module")
def plain(base):
    """The same with bfloat16 weights, rounded after every step."""
    return trained(base, torch.bfloat16, RATE, STEPS)


def share(vector) -> float:
    return float((vector != 0).double().mean())


def test_bf16_weights_lose_what_a_float32_master_keeps(base, exact, plain) -> None:
    reference, lossy = change(base, exact), change(base, plain)
    assert share(reference) > 0.999
    assert share(lossy) == pytest.approx(0.155, abs=0.03)
    assert cosine(reference, lossy) < 0.5


def test_bf16_storage_of_an_exact_master_hides_moves_without_losing_them(base, exact, plain) -> None:
    stored = change(base, copy.deepcopy(exact).to(torch.bfloat16))
    assert 3 * share(change(base, plain)) < share(stored) < 0.99
    assert cosine(change(base, exact), stored) > 0.8


def test_the_audit_tells_the_two_apart(base_folder: Path, tmp_path: Path, exact, plain) -> None:
    session = AuditContext("exact", "float32", "adamw_torch_fused", {}, RATE, RATE * STEPS, STEPS)
    exact.save_pretrained(tmp_path / "float32")
    full = audit_folders(base_folder, tmp_path / "float32", context=session).to_json()
    assert (full["verdict"], full["causes"]) == ("full", [])
    plain.save_pretrained(tmp_path / "plain")
    partial = audit_folders(base_folder, tmp_path / "plain").to_json()
    assert partial["verdict"] == "partial"
    assert [cause["cause"] for cause in partial["causes"]] == ["bf16_rounding"]
    copy.deepcopy(exact).to(torch.bfloat16).save_pretrained(tmp_path / "stored")
    stored = audit_folders(base_folder, tmp_path / "stored", context=session).to_json()
    assert stored["verdict"] == "full"
    assert all(cause["cause"] == "storage_rounding" for cause in stored["causes"])


def test_one_bf16_step_through_unsloth_is_predicted_and_blamed_rightly(
    workers, base_with_tokenizer: Path, tmp_path: Path
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", conversation_rows(16))
    rate = 1e-5
    params = minimal_parameters(
        base_with_tokenizer,
        rows,
        precision={"exactness": "any", "weights": "bfloat16", "master": "none", "compute": "bfloat16"},
        optimizer={"name": "adamw_torch_fused", "learning_rate": rate},
        schedule={"max_steps": 1, "lr_scheduler_type": "constant", "warmup_steps": 0},
    )
    file = write_parameters(tmp_path / "params.json", params)
    finished = workers.run("train", "--params", file, "--session", tmp_path / "session")
    assert finished.returncode == 0, finished.stderr[-3000:]
    audit = json.loads((tmp_path / "session" / "audit.json").read_text())
    predicted = predict(str(base_with_tokenizer), rate, "bfloat16").survival_at(rate)
    assert predicted == pytest.approx(audit["changed_fraction"], abs=0.02)
    assert (audit["verdict"], audit["basis"]) == ("partial", "session")
    cause = audit["causes"][0]
    assert (cause["cause"], cause["learning_rate"]) == ("bf16_rounding", rate)


@pytest.fixture
def base_with_tokenizer(tiny_model: Path, tmp_path: Path) -> Path:
    """The tests' tiny model stored in bfloat16, as published models are."""
    import shutil

    from transformers import AutoModelForCausalLM

    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(folder)
    return folder
