"""The verdict on what stands still: by chance, by design, for want of tokens, or because it was not trained."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import EMBEDDING, HEAD, QUERY, UP, Stored, bf16, f32, small_weights, step, stored, write_folder
from conftest import TOOL, run_script
from unsloth_fft.auditing import chance, summary
from unsloth_fft.auditing.audit import AuditContext, audit_folders
from unsloth_fft.core import schema, terminal
from unsloth_fft.reporting.audit_table import render

Weights = dict[str, np.ndarray]
FLOAT32 = AuditContext("exact", "float32", "adamw_torch_fused", {}, 1e-4, 3e-4, 3)


def audited(
    folder: Path, base: Mapping[str, Stored], trained: Mapping[str, Stored], context: AuditContext | None = FLOAT32
) -> dict:
    write_folder(folder / "base", base)
    write_folder(folder / "trained", trained)
    return audit_folders(folder / "base", folder / "trained", context=context).to_json()


def with_norms(layers: int = 30, size: int = 64) -> Weights:
    """A small model with a norm of ones in each of many layers."""
    norms = {f"model.layers.{layer}.self_attn.q_norm.weight": np.ones(size, np.float32) for layer in range(layers)}
    return {**small_weights(), **norms}


def trained(weights: Weights, size: float = 1e-4) -> Weights:
    return {name: step(values, size) for name, values in weights.items()}


def causes_of(audit: dict) -> dict[str, dict]:
    return {cause["cause"]: cause for cause in audit["causes"]}


# --- chance ---


@pytest.mark.parametrize("size", [16, 64, 128])
def test_two_elements_of_a_small_norm_that_came_back_by_chance_leave_the_verdict_full(
    tmp_path: Path, size: int
) -> None:
    before = with_norms(size=size)
    after = trained(before)
    for name in list(before)[-3:]:
        after[name][:2] = before[name][:2]
    assert audited(tmp_path, stored(before, f32), stored(after, f32))["verdict"] == "full"


@pytest.mark.parametrize("size", [8, 64])
def test_one_frozen_norm_among_many_is_still_found(tmp_path: Path, size: int) -> None:
    before = with_norms(size=size)
    after = trained(before)
    frozen = "model.layers.17.self_attn.q_norm.weight"
    after[frozen] = before[frozen]
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    assert (audit["verdict"], causes_of(audit)["frozen"]["tensors"]) == ("partial", [frozen])


def test_a_third_of_one_norm_standing_still_is_no_chance(tmp_path: Path) -> None:
    before = with_norms()
    after = trained(before)
    name = "model.layers.3.self_attn.q_norm.weight"
    after[name][:21] = before[name][:21]
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    assert (audit["verdict"], causes_of(audit)["unexplained"]["tensors"]) == ("partial", [name])


def test_a_few_elements_standing_still_in_every_norm_are_no_chance(tmp_path: Path) -> None:
    before = with_norms()
    after = trained(before)
    for name in before:
        if "q_norm" in name:
            after[name][:5] = before[name][:5]
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    assert (audit["verdict"], len(causes_of(audit)["unexplained"]["tensors"])) == ("partial", 30)


def test_tiny_steps_come_back_more_often(tmp_path: Path) -> None:
    """Three steps of 1e-6 on weights of 1, whose spacing is 1.2e-7 above and 6e-8 below."""
    random = np.random.default_rng(0)
    before = with_norms(size=2048)
    after = trained(before)
    for name in before:
        if "q_norm" in name:
            moves = random.normal(0, 1.2e-6, 2048).astype(np.float32)
            after[name] = before[name] + moves
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    norms = audit["groups"]["norms"]
    assert norms["changed_fraction"] < 0.99, "more than one in a hundred is back"
    assert audit["verdict"] == "full"


@given(st.integers(1, 3000), st.sampled_from([0.01, 0.05, 0.1]))
@settings(max_examples=60, deadline=None)
def test_more_than_chance_allows_is_less_probable_than_one_in_a_million(elements: int, share: float) -> None:
    allowed = chance.may_stand(elements, share)
    tail = 1 - sum(_binomial(elements, count, share) for count in range(allowed + 1))
    assert tail <= chance.SURE + 1e-9
    assert elements * share <= allowed + 1 and allowed <= elements


def _binomial(of: int, count: int, share: float) -> float:
    from math import exp, lgamma, log

    logs = lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
    return exp(logs + count * log(share) + (of - count) * log(1 - share))


# --- by design ---


def test_buffers_of_the_model_are_kept_as_in_every_trainer(tmp_path: Path) -> None:
    buffers = {
        "model.layers.1.mlp.gate.e_score_correction_bias": np.zeros(8, np.float32),
        "model.layers.0.layer_scalar": np.ones(1, np.float32),
        "model.layers.2.feed_forward.expert_bias": np.zeros(8, np.float32),
    }
    before = small_weights()
    for context in (FLOAT32, None):
        audit = audited(
            tmp_path, stored({**before, **buffers}, f32), stored({**trained(before), **buffers}, f32), context
        )
        kept = causes_of(audit)["kept_buffers"]
        assert (audit["verdict"], kept["explained"], kept["remedy"]) == ("full", True, None)
        assert sorted(kept["tensors"]) == sorted(buffers) and "kept, as in every trainer" in kept["explanation"]


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens_per_layer.weight",
        "transformer.wpe.weight",
        "model.token_type_embeddings.weight",
        "model.language_model.embed_tokens_per_layer.weight",
    ],
)
def test_every_table_has_rows_that_no_token_used(tmp_path: Path, name: str) -> None:
    table = np.random.default_rng(5).normal(0, 0.02, (300, 32)).astype(np.float32)
    before = {**small_weights(), name: table}
    after = trained(before)
    after[name][40:] = table[40:]
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    assert audit["verdict"] == "full"
    assert causes_of(audit)["unused_rows"]["tensors"] == [name]
    assert causes_of(audit)["unused_rows"]["elements"] == 260 * 32


def test_the_table_of_a_tied_head_is_the_one_of_tokens(tmp_path: Path) -> None:
    before = {"model.embed_tokens_per_layer.weight": np.ones((600, 8), np.float32), **small_weights()}
    del before[HEAD]
    for name, weights in (("base", before), ("trained", {**trained(before), HEAD: trained(before)[EMBEDDING]})):
        write_folder(tmp_path / name, stored(weights, f32), config={"tie_word_embeddings": True})
    audit = audit_folders(tmp_path / "base", tmp_path / "trained").to_json()
    assert audit["tied_head"] and audit["verdict"] == "full"


# --- experts ---


def fused(experts: int = 8) -> Weights:
    random = np.random.default_rng(3)
    return {
        "model.layers.1.mlp.experts.gate_up_proj": random.normal(0, 0.02, (experts, 32, 16)).astype(np.float32),
        "model.layers.1.mlp.experts.gate_up_proj_bias": random.normal(0, 0.02, (experts, 16)).astype(np.float32),
        "model.layers.1.mlp.router.weight": random.normal(0, 0.02, (experts, 32)).astype(np.float32),
        "model.layers.1.mlp.router.bias": np.ones(experts, np.float32),
    }


def apart(experts: int = 8) -> Weights:
    random = np.random.default_rng(3)
    parts = itertools.product(range(experts), ("up_proj", "down_proj"))
    return {
        f"model.layers.1.mlp.experts.{expert}.{part}.weight": random.normal(0, 0.02, (32, 16)).astype(np.float32)
        for expert, part in parts
    } | {"model.layers.1.mlp.gate.weight": random.normal(0, 0.02, (experts, 32)).astype(np.float32)}


@pytest.mark.parametrize("fuse", [True, False])
def test_experts_that_saw_no_token_are_named(tmp_path: Path, fuse: bool) -> None:
    before = {**small_weights(), **(fused() if fuse else apart())}
    after = trained(before)
    for name in before:
        for expert in (2, 5):
            if "experts.gate" in name or "router" in name or ".gate." in name:
                after[name][expert] = before[name][expert]
            elif f"experts.{expert}." in name:
                after[name] = before[name]
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    cause = causes_of(audit)["unused_experts"]
    assert audit["verdict"] == "full" and cause["explained"]
    assert "saw no token: layer 1: 2, 5 of 8" in cause["explanation"]
    assert audit["unused_experts"] == [{"layer": 1, "experts": [2, 5], "of": 8}]
    alone = audit_folders(tmp_path / "base", tmp_path / "trained").to_json()
    assert (alone["verdict"], causes_of(alone)["unused_experts"]["explained"]) == ("partial", False)


@pytest.mark.parametrize("fuse", [True, False])
def test_a_layer_whose_experts_all_stand_still_is_frozen(tmp_path: Path, fuse: bool) -> None:
    experts = fused() if fuse else apart()
    before = {**small_weights(), **experts}
    audit = audited(tmp_path, stored(before, f32), stored({**trained(before), **experts}, f32))
    assert audit["verdict"] == "partial" and audit["unused_experts"] == []
    assert set(causes_of(audit)["frozen"]["tensors"]) == set(experts)


def test_one_frozen_matrix_of_an_expert_that_trained_is_found(tmp_path: Path) -> None:
    before = {**small_weights(), **apart()}
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    audit = audited(tmp_path, stored(before, f32), stored({**trained(before), name: before[name]}, f32))
    assert (audit["verdict"], causes_of(audit)["frozen"]["tensors"]) == ("partial", [name])


# --- the case at hand ---


def test_two_frozen_tensors_get_a_remedy_for_two_tensors(tmp_path: Path) -> None:
    before = with_norms(70)
    after = {**trained(before), QUERY: before[QUERY], UP: before[UP]}
    remedy = causes_of(audited(tmp_path, stored(before, f32), stored(after, f32)))["frozen"]["remedy"]
    assert "the other 73 tensors were trained" in remedy
    assert QUERY in remedy and UP in remedy and "requires_grad" in remedy
    assert "full_finetuning" not in remedy, "the run was a full fine-tune"
    whole = audited(tmp_path, stored(before, f32), stored(before, f32))
    assert "full_finetuning=True" in causes_of(whole)["frozen"]["remedy"]


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_a_change_as_large_as_the_weights_is_remarked_on(tmp_path: Path, times: float) -> None:
    before = small_weights()
    random = np.random.default_rng(2)
    after = {name: w + random.normal(0, times * np.sqrt((w**2).mean()), w.shape).astype(np.float32)
             for name, w in before.items()}  # fmt: skip
    audit = audited(tmp_path, stored(before, f32), stored(after, f32))
    assert [remark for remark in audit["remarks"] if "times as large as the weights themselves" in remark]
    assert "hardly fine-tuning" in render(audit)


def test_one_matrix_that_changed_by_twice_its_size_is_named(tmp_path: Path) -> None:
    before = small_weights()
    after = trained(before)
    after[QUERY] = before[QUERY] * 3
    assert any(QUERY in remark for remark in audited(tmp_path, stored(before, f32), stored(after, f32))["remarks"])
    assert audited(tmp_path, stored(before, f32), stored(trained(before), f32))["remarks"] == []


def test_a_finer_master_is_first_of_all_usually_harmless(tmp_path: Path) -> None:
    before = small_weights()
    random = np.random.default_rng(3)
    after = {name: w + 1e-4 * random.standard_normal(w.shape).astype(np.float32) for name, w in before.items()}
    cause = causes_of(audited(tmp_path, stored(before), stored(after), None))["finer_master"]
    assert cause["explanation"].startswith("usually harmless")
    assert cause["remedy"].startswith("usually none")


# --- odd tensors ---


@pytest.mark.parametrize("shape", [(0,), (0, 64), (64, 0), (3, 0, 2)])
def test_a_tensor_without_elements_neither_counts_nor_fails(tmp_path: Path, shape: tuple[int, ...]) -> None:
    empty = {
        "model.layers.0.extra.weight": np.zeros(shape, np.float32),
        "model.embed_extra.weight": np.zeros(shape, np.float32),
    }
    before = {**small_weights(), **empty}
    audit = audited(tmp_path, stored(before, f32), stored({**trained(before), **empty}, f32))
    assert audit["verdict"] == "full" and audit["elements"] == sum(w.size for w in before.values())
    only = audited(tmp_path / "only", stored(empty, f32), stored(empty, f32))
    assert (only["verdict"], only["elements"]) == ("incomparable", 0)


ODD = [
    "",
    " ",
    ".",
    "..",
    "a\nb",
    "\x1b[31mred",
    "weight\u202e",
    "x" * 5000,
    "model.layers." + "9" * 5000 + ".w",
    "ключ.weight",
]


def test_odd_names_and_scalars_are_compared_and_shown_without_harm(tmp_path: Path) -> None:
    before = {
        name: np.float32(2.0).reshape(()) if index % 2 else np.ones((3, 5), np.float32)
        for index, name in enumerate(ODD)
    }
    audit = audited(tmp_path, stored(before, f32), stored({**before, "": before[""] + 1}, f32))
    text = render(audit)
    assert audit["verdict"] == "partial" and "\x1b" not in text and "\u202e" not in text
    assert max(map(len, text.splitlines())) < 1000
    assert len(terminal.lines(summary.of_audit(audit))) < 2000
    finished = run_script(TOOL, "audit", tmp_path / "base", tmp_path / "trained", "--json")
    assert finished.returncode == 0 and json.loads(finished.stdout)["verdict"] == "partial"


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    text = b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    finished = run_script(TOOL, "audit", tmp_path, tmp_path)
    assert finished.returncode == 2 and "no Unicode text" in finished.stderr and "Traceback" not in finished.stderr


# --- short by default ---


@given(
    st.integers(1, 60),
    st.lists(
        st.sampled_from(["model.layers.{}.self_attn.q_proj.weight", "x" * 300 + "{}", "{}.norm.weight", "ё{}"]),
        min_size=1,
    ),
    st.integers(0, 2**31),
)
@settings(max_examples=15, deadline=None)
def test_a_summary_is_short_valid_and_counts_what_it_leaves_out(
    tmp_path_factory: pytest.TempPathFactory, layers: int, names: list[str], seed: int
) -> None:
    random = np.random.default_rng(seed)
    before = {
        name.format(layer): random.normal(0, 1, (4, 4)).astype(np.float32) for layer in range(layers) for name in names
    }
    after = {name: w + (random.random(w.shape) < random.random()) for name, w in before.items()}
    folder = tmp_path_factory.mktemp("long" * 20)
    whole = audited(folder, stored(before, f32), stored(after, bf16), None)
    short = summary.of_audit(whole)
    assert len(terminal.lines(short)) < 2000
    assert schema.problems(short, "audit") == [] == schema.problems(whole, "audit")
    for key in ("verdict", "elements", "changed"):
        assert short[key] == whole[key]
    for key in ("tensors", "unchanged_tensors", "causes"):
        assert len(short[key]) + short["left_out"].get(key, 0) == len(whole[key])


def test_the_worst_tensors_come_first_and_the_whole_is_a_flag_away(tmp_path: Path) -> None:
    before = with_norms()
    worst = "model.layers.9.self_attn.q_norm.weight"
    after = {**trained(before), worst: before[worst]}
    write_folder(tmp_path / "base", stored(before, f32))
    write_folder(tmp_path / "trained", stored(after, f32))
    written = tmp_path / "audit.json"
    command = (TOOL, "audit", tmp_path / "base", tmp_path / "trained", "--json")
    short = run_script(*command, "--output", written).stdout
    assert len(short) < 2000
    first = json.loads(short)
    assert first["tensors"][0]["name"] == worst and first["unchanged_tensors"] == [worst]
    assert first["left_out"]["tensors"] + len(first["tensors"]) == len(before)
    assert list(first)[0:2] == ["schema_version", "verdict"]
    whole = json.loads(run_script(*command, "--full").stdout)
    assert whole == json.loads(written.read_text()) and len(whole["tensors"]) == len(before)
