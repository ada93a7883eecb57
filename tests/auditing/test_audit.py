"""The audit on checkpoints whose differences are known: exact counts, the right verdict and cause, or a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import (
    EMBEDDING,
    HEAD,
    NORM,
    QUERY,
    UP,
    Stored,
    bf16,
    f16,
    f32,
    f64,
    small_weights,
    step,
    stored,
    write_file,
    write_folder,
)
from conftest import SCRIPTS, TOOL, assert_clear_error, run_script
from unsloth_fft.auditing import predict
from unsloth_fft.auditing.audit import AuditContext, audit_folders
from unsloth_fft.core.errors import BadInput
from unsloth_fft.estimates import survival
from unsloth_fft.reporting.audit_heatmap import heat_map, level_of
from unsloth_fft.reporting.audit_table import render
from unsloth_fft.weights import floats
from unsloth_fft.weights.checkpoint import open_checkpoint
from unsloth_fft.weights.naming import group_of, layer_of

Weights = dict[str, np.ndarray]
ELEMENTS = 2 * 600 * 64 + 64 * 64 + 256 * 64 + 64


def audited(
    tmp_path: Path, base: Mapping[str, Stored], trained: Mapping[str, Stored], context: AuditContext | None = None
) -> dict:
    write_folder(tmp_path / "base", base)
    write_folder(tmp_path / "trained", trained)
    return audit_folders(tmp_path / "base", tmp_path / "trained", context=context).to_json()


def context(**changes: object) -> AuditContext:
    values: dict = {
        "exactness": "exact",
        "weights": "bfloat16",
        "optimizer": "adamw_flash",
        "optimizer_args": {},
        "learning_rate": 1e-5,
        "total_learning_rate": 1e-3,
        "steps": 100,
    }
    return AuditContext(**{**values, **changes})


PLAIN = {"exactness": "any", "optimizer": "adamw_8bit"}


def causes_of(audit: dict) -> dict[str, dict]:
    return {cause["cause"]: cause for cause in audit["causes"]}


# --- counts and verdicts ---


def test_every_float32_weight_moved_is_full(tmp_path: Path) -> None:
    weights = small_weights()
    moved = {name: step(values, 1e-4) for name, values in weights.items()}
    audit = audited(tmp_path, stored(weights, f32), stored(moved, f32))
    assert (audit["verdict"], audit["changed"], audit["elements"]) == ("full", ELEMENTS, ELEMENTS)
    assert audit["changed_fraction"] == 1.0
    assert audit["causes"] == [] and audit["unchanged_tensors"] == []
    assert audit["largest_change"] == pytest.approx(1e-4, rel=1e-2)
    change = np.sqrt(sum(((moved[n].astype(float) - weights[n]) ** 2).sum() for n in weights))
    base = np.sqrt(sum((weights[n].astype(float) ** 2).sum() for n in weights))
    assert audit["relative_change"] == pytest.approx(change / base, rel=1e-4)


def test_groups_and_layers_add_up_to_the_whole(tmp_path: Path) -> None:
    weights = small_weights()
    moved = {name: step(values, 1e-5) for name, values in weights.items()}
    audit = audited(tmp_path, stored(weights), stored(moved))
    for parts in (audit["groups"].values(), audit["layers"], audit["tensors"]):
        assert sum(part["changed"] for part in parts) == audit["changed"]
        assert sum(part["elements"] for part in parts) == audit["elements"]
    assert list(audit["groups"]) == ["embeddings", "attention", "mlp", "norms", "head"]
    assert [layer["layer"] for layer in audit["layers"]] == [0, 1, None]
    expected = sum(int((bf16(weights[n])[1] != bf16(moved[n])[1]).sum()) for n in weights)
    assert audit["changed"] == expected


def test_the_same_checkpoint_twice_is_frozen(tmp_path: Path) -> None:
    audit = audited(tmp_path, stored(small_weights()), stored(small_weights()))
    assert (audit["verdict"], audit["changed"]) == ("frozen", 0)
    assert len(audit["unchanged_tensors"]) == 5


def test_one_changed_element_is_found(tmp_path: Path) -> None:
    weights, moved = small_weights(), small_weights()
    moved[UP][200, 13] += 0.5
    audit = audited(tmp_path, stored(weights), stored(moved))
    assert (audit["verdict"], audit["changed"]) == ("partial", 1)
    assert audit["unchanged_tensors"] == sorted({EMBEDDING, QUERY, NORM, HEAD})
    assert causes_of(audit)["frozen"]["tensors"][0] in (EMBEDDING, HEAD), "the largest comes first"
    assert audit["largest_change"] == pytest.approx(0.5, rel=0.01)


def test_one_frozen_tensor_is_named(tmp_path: Path) -> None:
    weights = small_weights()
    moved = {name: values if name == NORM else step(values, 1e-4) for name, values in weights.items()}
    audit = audited(tmp_path, stored(weights, f32), stored(moved, f32))
    assert audit["verdict"] == "partial"
    assert audit["unchanged_tensors"] == [NORM]
    assert causes_of(audit)["frozen"]["tensors"] == [NORM]
    assert audit["groups"]["norms"]["changed"] == 0


def test_zero_and_minus_zero_are_the_same_value(tmp_path: Path) -> None:
    base, trained = np.zeros((64, 64), np.float32), -np.zeros((64, 64), np.float32)
    trained[0, 0] = 1.0
    assert audited(tmp_path, {QUERY: bf16(base)}, {QUERY: bf16(trained)})["changed"] == 1


def test_not_finite_values_are_named_with_their_place(tmp_path: Path) -> None:
    weights = small_weights()
    moved = {name: step(values, 1e-4) for name, values in weights.items()}
    moved[QUERY].flat[[70, 90]] = np.nan
    moved[UP].flat[5] = -np.inf
    audit = audited(tmp_path, stored(weights, f32), stored(moved, f32))
    assert audit["not_finite"] == [
        {"name": QUERY, "side": "trained", "nan": 2, "infinite": 0, "first_index": 70},
        {"name": UP, "side": "trained", "nan": 0, "infinite": 1, "first_index": 5},
    ]
    assert audit["verdict"] == "partial", "a checkpoint with NaN in it is never full"
    assert audit["causes"][0]["cause"] == "not_finite"
    assert audit["changed"] == ELEMENTS


def test_values_that_were_never_finite_count_as_unchanged(tmp_path: Path) -> None:
    base = np.full((64, 64), 1.0, np.float32)
    base[0, :3] = [np.nan, np.inf, -np.inf]
    trained = base.copy()
    trained[1:] += 0.5
    audit = audited(tmp_path, {QUERY: bf16(base)}, {QUERY: bf16(trained)})
    assert audit["changed"] == 63 * 64
    assert [(item["side"], item["nan"], item["infinite"]) for item in audit["not_finite"]] == [
        ("base", 1, 2),
        ("trained", 1, 2),
    ]


def test_huge_and_tiny_weights_neither_overflow_nor_vanish(tmp_path: Path) -> None:
    base = {QUERY: np.full((8, 8), 3e37, np.float32), UP: np.full((8, 8), 1e-30, np.float32)}
    trained = {QUERY: np.full((8, 8), 6e37, np.float32), UP: np.full((8, 8), 3e-30, np.float32)}
    audit = audited(tmp_path, stored(base, f32), stored(trained, f32))
    tensors = {tensor["name"]: tensor for tensor in audit["tensors"]}
    assert tensors[QUERY]["relative_change"] == pytest.approx(1.0)
    assert tensors[UP]["relative_change"] == pytest.approx(2.0)
    assert audit["verdict"] == "full"


@given(st.integers(0, 2**32 - 1), st.sampled_from(["F64", "F32", "F16", "BF16", "F8_E5M2"]))
@settings(max_examples=25, deadline=None)
def test_counts_equal_a_plain_comparison(tmp_path_factory: pytest.TempPathFactory, seed: int, dtype: str) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 40, random.integers(1, 4)))
    kind = floats.RAW[dtype]
    old = random.integers(0, 120 if kind.itemsize == 1 else 30000, shape).astype(kind)
    new = np.where(random.random(shape) < 0.3, old + 1, old).astype(kind)
    folder = tmp_path_factory.mktemp("pair")
    audit = audited(folder, {UP: (dtype, old)}, {UP: (dtype, new)})
    assert (audit["changed"], audit["elements"]) == (int((old != new).sum()), old.size)


# --- types that differ ---


def test_bfloat16_written_as_float32_has_not_moved(tmp_path: Path) -> None:
    audit = audited(tmp_path, stored(small_weights(), bf16), stored(small_weights(), f32))
    assert (audit["verdict"], audit["changed"], audit["after_rounding"]["changed"]) == ("frozen", 0, 0)


def test_float32_written_as_bfloat16_changed_but_has_not_moved(tmp_path: Path) -> None:
    weights = gradual(small_weights(), 1e-3)
    audit = audited(tmp_path, stored(weights, f32), stored(weights, bf16))
    assert audit["changed_fraction"] > 0.9, "storage rounds nearly every value"
    assert (audit["after_rounding"]["dtype"], audit["after_rounding"]["changed"]) == ("BF16", 0)
    assert (audit["verdict"], audit["moved"]) == ("frozen", 0)


def test_a_float32_master_of_a_bfloat16_base_shows_every_move(tmp_path: Path) -> None:
    moved = {name: step(values, 1e-5) for name, values in small_weights().items()}
    audit = audited(tmp_path, stored(small_weights(), bf16), stored(moved, f32))
    assert (audit["verdict"], audit["changed"]) == ("full", ELEMENTS)
    assert audit["after_rounding"]["changed_fraction"] == pytest.approx(0.155, abs=0.01)


@pytest.mark.parametrize(("base", "trained", "narrow"), [(f16, bf16, "BF16"), (f64, f32, "F32"), (f32, f16, "F16")])
def test_other_pairs_of_types_are_compared_in_the_narrower(tmp_path: Path, base, trained, narrow) -> None:
    old = stored(small_weights(), base)
    # Converted from what the base holds: rounding the float32 weights directly could round another way.
    new = {name: trained(values.astype(np.float64)) for name, (_, values) in old.items()}
    audit = audited(tmp_path, old, new)
    assert (audit["after_rounding"]["dtype"], audit["after_rounding"]["changed"]) == (narrow, 0)


def test_integers_are_compared_but_are_no_weights(tmp_path: Path) -> None:
    positions = ("I64", np.arange(10))
    base = {**stored(small_weights(), f32), "positions": positions}
    moved = {**stored({n: step(v, 1e-3) for n, v in small_weights().items()}, f32), "positions": positions}
    audit = audited(tmp_path, base, moved)
    assert (audit["verdict"], audit["elements"]) == ("full", ELEMENTS)
    assert audit["not_weights"] == [{"name": "positions", "dtype": "I64", "elements": 10, "changed": 0}]


# --- layout, tied heads, vocabularies ---


def test_the_layout_of_files_makes_no_difference(tmp_path: Path) -> None:
    weights = small_weights()
    moved = stored({name: step(values, 1e-5) for name, values in weights.items()})
    write_folder(tmp_path / "base", stored(weights))
    one = write_folder(tmp_path / "one", moved)
    several = write_folder(tmp_path / "several", moved, shards=3)
    turned = write_file(tmp_path / "turned" / "model.safetensors", moved, order=sorted(moved, reverse=True))
    snapshot = write_folder(tmp_path / "models--a--b" / "snapshots" / "abc", moved, shards=2)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    answers = []
    for trained in (one, several, several / "model.safetensors.index.json", turned, tmp_path / "models--a--b"):
        answer = audit_folders(tmp_path / "base", trained).to_json()
        answers.append({key: answer[key] for key in ("verdict", "changed", "groups", "tensors", "causes")})
    assert all(answer == answers[0] for answer in answers)


TIED = {"tie_word_embeddings": True}


@pytest.mark.parametrize("base_writes_head", [False, True])
@pytest.mark.parametrize("trained_writes_head", [False, True])
def test_a_tied_head_counts_once_however_it_is_written(
    tmp_path: Path, base_writes_head: bool, trained_writes_head: bool
) -> None:
    for name, writes_head, size in (("base", base_writes_head, 0.0), ("trained", trained_writes_head, 1e-3)):
        weights = {key: step(values, size) for key, values in small_weights().items()}
        weights[HEAD] = weights[EMBEDDING]
        if not writes_head:
            del weights[HEAD]
        write_folder(tmp_path / name, stored(weights, f32), config=TIED)
    audit = audit_folders(tmp_path / "base", tmp_path / "trained").to_json()
    assert (audit["verdict"], audit["elements"]) == ("full", ELEMENTS - 600 * 64)
    assert audit["tied_head"] and "head" not in audit["groups"]


def test_a_head_that_training_untied_is_compared_with_the_embedding(tmp_path: Path) -> None:
    weights = small_weights()
    del weights[HEAD]
    write_folder(tmp_path / "base", stored(weights, f32), config=TIED)
    moved = {name: step(values, 1e-3) for name, values in weights.items()}
    moved[HEAD] = weights[EMBEDDING].copy()
    moved[HEAD][7, 7] += 1.0
    write_folder(tmp_path / "trained", stored(moved, f32), config={"tie_word_embeddings": False})
    audit = audit_folders(tmp_path / "base", tmp_path / "trained").to_json()
    assert not audit["tied_head"]
    assert audit["groups"]["head"]["changed"] == 1


def test_a_resized_vocabulary_is_compared_where_both_have_rows(tmp_path: Path) -> None:
    moved = {name: step(values, 1e-3) for name, values in small_weights().items()}
    for name in (EMBEDDING, HEAD):
        moved[name] = np.concatenate([moved[name], np.ones((8, 64), np.float32)])
    audit = audited(tmp_path, stored(small_weights(), f32), stored(moved, f32))
    assert (audit["verdict"], audit["elements"]) == ("full", ELEMENTS)
    assert audit["extra_rows"] == [
        {"name": HEAD, "base_rows": 600, "trained_rows": 608},
        {"name": EMBEDDING, "base_rows": 600, "trained_rows": 608},
    ]


def test_missing_and_extra_tensors_are_not_the_same_model(tmp_path: Path) -> None:
    moved = {name: step(values, 1e-3) for name, values in small_weights().items()}
    moved["model.layers.9.mlp.up_proj.weight"] = moved.pop(UP)
    audit = audited(tmp_path, stored(small_weights(), f32), stored(moved, f32))
    assert audit["verdict"] == "incomparable"
    assert audit["missing_tensors"] == [UP]
    assert audit["extra_tensors"] == ["model.layers.9.mlp.up_proj.weight"]
    assert audit["changed"] == ELEMENTS - 256 * 64, "the others are still counted"


def test_a_missing_untied_head_is_missed(tmp_path: Path) -> None:
    weights = small_weights()
    del weights[HEAD]
    audit = audited(tmp_path, stored(small_weights()), stored(weights))
    assert (audit["verdict"], audit["missing_tensors"]) == ("incomparable", [HEAD])


def test_another_shape_is_incomparable(tmp_path: Path) -> None:
    weights = small_weights()
    weights[UP] = weights[UP].T
    audit = audited(tmp_path, stored(small_weights()), stored(weights))
    assert audit["verdict"] == "incomparable"
    assert audit["mismatched_tensors"] == [{"name": UP, "reason": "shape [256, 64] against [64, 256]"}]


@pytest.mark.parametrize(("base", "trained"), [((3,), ()), ((), (3,)), ((0,), ()), ((0, 5), (0, 4))])
def test_a_head_without_rows_on_one_side_is_of_another_shape(tmp_path: Path, base: tuple, trained: tuple) -> None:
    old, new = ({HEAD: ("F32", np.ones(shape, np.float32))} for shape in (base, trained))
    audit = audited(tmp_path, old, new)
    assert audit["mismatched_tensors"] == [{"name": HEAD, "reason": f"shape {list(base)} against {list(trained)}"}]


def test_buffers_that_old_versions_wrote_are_passed_over(tmp_path: Path) -> None:
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(32, np.float32)}
    moved = {name: step(values, 1e-3) for name, values in small_weights().items()}
    audit = audited(tmp_path, stored({**small_weights(), **buffer}, f32), stored(moved, f32))
    assert audit["verdict"] == "full"


# --- why something did not move ---


def one_step(size: float) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """A bfloat16 model before and after one step of `size` that was rounded to bfloat16."""
    weights = small_weights()
    return stored(weights), stored({name: step(values, size) for name, values in weights.items()})


def test_bf16_rounding_is_the_cause_with_the_learning_rate_of_the_session(tmp_path: Path) -> None:
    audit = audited(tmp_path, *one_step(1e-5), context(**PLAIN))
    assert audit["verdict"] == "partial"
    assert audit["changed_fraction"] == pytest.approx(0.155, abs=0.01)
    cause = causes_of(audit)["bf16_rounding"]
    assert cause["learning_rate"] == 1e-5 and "1e-05" in cause["explanation"]
    assert cause["learning_rate_range"] is None
    assert not cause["explained"]
    assert cause["remedy"] == f"plan again with {survival.REMEDY}", "with its flags"
    assert cause["tensors"][0] == NORM, "the one that moved least comes first"


def test_bf16_rounding_is_recognised_from_the_files_alone(tmp_path: Path) -> None:
    audit = audited(tmp_path, *one_step(1e-5))
    assert (audit["verdict"], audit["basis"]) == ("partial", "data")
    cause = causes_of(audit)["bf16_rounding"]
    assert "between 7.6e-06 and 1.5e-05" in cause["explanation"]
    low, high = cause["learning_rate_range"]
    assert cause["learning_rate"] is None and low < 1e-5 <= high
    assert (f"{low:.2g}", f"{high:.2g}") == ("7.6e-06", "1.5e-05"), "the fields are what the text says"


def test_every_cause_has_a_remedy_unless_a_session_explains_it(tmp_path: Path) -> None:
    weights = small_weights()
    moved = stored(weights), stored(gradual(weights, 1e-4))
    for given_context in (None, context(), context(**PLAIN), context(weights="float32", optimizer="adamw_8bit")):
        for pair in (one_step(1e-5), moved, (moved[0], moved[0])):
            for cause in audited(tmp_path, *pair, given_context)["causes"]:
                assert bool(cause["remedy"]) != cause["explained"]


def test_the_table_begins_with_the_verdict_and_what_to_do(tmp_path: Path) -> None:
    partial = " ".join(render(audited(tmp_path, *one_step(1e-5))).split("\n\n")[0].split())
    assert partial.startswith("verdict partial") and partial.endswith(f"remedy {predict.REMEDY}")
    weights = small_weights()
    full = audited(tmp_path, stored(weights, f32), stored(gradual(weights, 1e-4), f32))
    assert full["verdict"] == "full" and "next" not in render(full), "two folders: the answer is all"
    assert render(full, Path("run-1")).splitlines()[2] == "next: unsloth_fft_tool.py eval run-1"
    other = stored({name: values for name, values in weights.items() if name != UP})
    assert "remedy     name as BASE" in render(audited(tmp_path, stored(weights), other)).split("\n\n")[0]


def gradual(weights: Weights, size: float) -> Weights:
    """A float32 master after many steps: changes of all sizes around `size`."""
    random = np.random.default_rng(3)
    return {name: values + size * random.standard_normal(values.shape).astype(np.float32)
            for name, values in weights.items()}  # fmt: skip


def test_an_exact_session_in_bf16_storage_is_full_and_says_what_storage_hides(tmp_path: Path) -> None:
    weights = small_weights()
    audit = audited(tmp_path, stored(weights), stored(gradual(weights, 1e-4)), context())
    assert (audit["verdict"], audit["basis"]) == ("full", "session")
    assert 0.6 < audit["changed_fraction"] < 0.75
    assert causes_of(audit)["storage_rounding"]["explained"]


def test_the_same_files_without_the_session_are_partial(tmp_path: Path) -> None:
    weights = small_weights()
    audit = audited(tmp_path, stored(weights), stored(gradual(weights, 1e-4)))
    assert (audit["verdict"], list(causes_of(audit))) == ("partial", ["finer_master"])


def test_a_session_that_claims_a_master_but_lost_its_updates_is_caught(tmp_path: Path) -> None:
    audit = audited(tmp_path, *one_step(1e-5), context())
    assert audit["verdict"] == "partial"
    assert "although the session promises" in causes_of(audit)["bf16_rounding"]["explanation"]


def test_after_a_single_step_the_same_files_do_not_contradict_an_exact_session(tmp_path: Path) -> None:
    audit = audited(tmp_path, *one_step(1e-5), context(total_learning_rate=1e-5, steps=1))
    assert audit["verdict"] == "full"


def test_a_frozen_matrix_is_not_mistaken_for_rounding(tmp_path: Path) -> None:
    base, trained = one_step(1e-5)
    trained[QUERY] = base[QUERY]
    for given_context in (None, context(**PLAIN), context()):
        audit = audited(tmp_path, base, trained, given_context)
        assert causes_of(audit)["frozen"]["tensors"] == [QUERY]
        assert audit["verdict"] == "partial"


def test_stochastic_rounding_is_named_and_not_called_full(tmp_path: Path) -> None:
    weights = small_weights()
    stochastic = context(
        exactness="stochastic", optimizer="adamw_torch_8bit", optimizer_args={"bf16_stochastic_round": True}
    )
    audit = audited(tmp_path, stored(weights), stored(gradual(weights, 1e-4)), stochastic)
    assert (audit["verdict"], list(causes_of(audit))) == ("partial", ["stochastic_rounding"])


def test_rows_of_unused_tokens_are_partial_alone_and_explained_by_a_session(tmp_path: Path) -> None:
    moved = {name: step(values, 1e-4) for name, values in small_weights().items()}
    moved[EMBEDDING][100:200] = small_weights()[EMBEDDING][100:200]
    files = stored(small_weights(), f32), stored(moved, f32)
    alone = audited(tmp_path, *files)
    assert (alone["verdict"], causes_of(alone)["unused_rows"]["elements"]) == ("partial", 100 * 64)
    assert {tensor["name"]: tensor["unchanged_rows"] for tensor in alone["tensors"]}[EMBEDDING] == 100
    in_session = audited(tmp_path, *files, context(weights="float32", optimizer="adamw_8bit"))
    assert in_session["verdict"] == "full"


# --- refusals ---


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "good", stored(small_weights()))


def broken(good: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the good checkpoint whose bytes were changed."""
    folder = good.parent / "broken"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(change((good / "model.safetensors").read_bytes()))
    return folder


def with_header(data: bytes, edit: Callable[[dict], None]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def move(name: str, by: int) -> Callable[[dict], None]:
    def edit(header: dict) -> None:
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]

    return edit


def put(name: str, key: str, value: object) -> Callable[[dict], None]:
    def edit(header: dict) -> None:
        header[name][key] = value

    return edit


REFUSED: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("truncated", lambda data: data[:-2], "truncated"),
    ("truncated header", lambda data: data[:100], "truncated"),
    ("empty", lambda data: b"", "truncated"),
    ("too long", lambda data: data + b"\0\0", "2 bytes longer"),
    ("header length", lambda data: b"\xff" * 8 + data[8:], "header would be"),
    ("not JSON", lambda data: data[:8] + b"}" + data[9:], "malformed"),
    ("not an object", lambda data: (8).to_bytes(8, "little") + b"[1, 2 ] ", "an object was expected"),
    ("name twice", lambda data: (24).to_bytes(8, "little") + b'{"a": null, "a": null } ', "given twice"),
    ("overlap", lambda data: with_header(data, move(QUERY, -2)), "overlaps"),
    ("hole", lambda data: with_header(data, move(QUERY, 2)), "hole"),
    ("type", lambda data: with_header(data, put(QUERY, "dtype", "F3")), "unknown type F3"),
    ("shape", lambda data: with_header(data, put(QUERY, "shape", [64, 65])), "data_offsets span"),
    ("negative", lambda data: with_header(data, put(QUERY, "shape", [-64, -64])), "proper"),
    ("no offsets", lambda data: with_header(data, put(QUERY, "data_offsets", None)), "proper"),
    ("pickle in disguise", lambda data: b"PK\x03\x04" + data[4:8].replace(b"\0", b"\7") + data[8:], "pickle"),
]


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_damaged_file_is_refused_by_name(good: Path, change: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(BadInput, match=words) as refusal:
        audit_folders(good, broken(good, change))
    assert "model.safetensors" in refusal.value.message and refusal.value.hint


def test_a_pickle_is_refused_unread(good: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    finished = run_script(TOOL, "audit", good, tmp_path / "old")
    assert_clear_error(finished, 2, "pickle", "pytorch_model.bin", "save_pretrained")


@pytest.mark.parametrize("name", ["missing shard", "promise", "unnamed", "outside", "no map"])
def test_an_index_that_does_not_fit_its_shards_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "sharded", stored(small_weights()), shards=2)
    index = folder / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    if name == "missing shard":
        (folder / "model-00002-of-00002.safetensors").unlink()
    elif name == "promise":
        value["weight_map"]["ghost"] = "model-00001-of-00002.safetensors"
    elif name == "unnamed":
        del value["weight_map"][QUERY]
    elif name == "outside":
        value["weight_map"][QUERY] = "../good/model.safetensors"
    else:
        value = {"weight_map": 3}
    index.write_text(json.dumps(value))
    with pytest.raises(BadInput) as refusal:
        audit_folders(good, folder)
    assert str(folder) in refusal.value.message


def test_the_same_name_in_two_files_is_refused(good: Path, tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        write_file(tmp_path / "twice" / name, {QUERY: bf16(np.ones(4))})
    with pytest.raises(BadInput, match="in two shards"):
        audit_folders(good, tmp_path / "twice")


def test_a_lora_adapter_is_told_apart(good: Path, tmp_path: Path) -> None:
    write_file(tmp_path / "lora" / "adapter_model.safetensors", {"a": bf16(np.ones(4))})
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="LoRA"):
        audit_folders(good, tmp_path / "lora")


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors"])
def test_a_pipe_or_a_folder_in_place_of_weights_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    for kind in ("pipe", "folder"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        if kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).mkdir()
        with pytest.raises(BadInput):
            open_checkpoint(folder)


def test_a_header_of_640_bytes_is_not_a_pickle(tmp_path: Path) -> None:
    for name_length in range(500, 640):
        path = write_file(tmp_path / "model.safetensors", {"x" * name_length: bf16(np.ones(4))})
        if path.read_bytes()[:2] == b"\x80\x02":
            assert len(open_checkpoint(path).tensors) == 1
            return
    raise AssertionError("no name made a header of 640 bytes")


# --- the command ---


def test_the_command_speaks_json_and_writes_the_same_file(good: Path, tmp_path: Path) -> None:
    finished = run_script(TOOL, "audit", good, good, "--json", "--full", "--output", tmp_path / "audit.json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == json.loads((tmp_path / "audit.json").read_text())
    assert json.loads(finished.stdout)["verdict"] == "frozen"


def test_the_command_imports_only_what_it_needs(good: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from unsloth_fft.commands import tool;"
        "code = tool.main(['audit', sys.argv[2], sys.argv[2], '--json']);"
        "print(code, *sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", script, SCRIPTS, good], capture_output=True, text=True, timeout=60)
    code, *modules = finished.stderr.split()
    assert code == "0" and "unsloth_fft.commands.audit" in modules
    others = ("torch", "transformers", "matplotlib", "unsloth_fft.training", "unsloth_fft.data", "unsloth_fft.handoff")
    assert not [name for name in modules if name.startswith(others)]
    assert [name for name in modules if name.startswith("unsloth_fft.commands.")] == [
        "unsloth_fft.commands.tool",
        "unsloth_fft.commands.audit",
    ]


def test_require_turns_the_verdict_into_the_exit_code(good: Path, tmp_path: Path) -> None:
    moved = {name: step(values, 1e-2) for name, values in small_weights().items()}
    trained = write_folder(tmp_path / "trained", stored(moved))
    assert run_script(TOOL, "audit", good, trained, "--require", "full").returncode == 0
    assert_clear_error(run_script(TOOL, "audit", good, good, "--require", "partial"), 5, "frozen", "partial")


@pytest.mark.parametrize("arguments", [[], ["one"], ["a", "b", "--session", "s"], ["nowhere", "nothing"]])
def test_wrong_usage_is_explained(arguments: list[str]) -> None:
    assert_clear_error(run_script(TOOL, "audit", *arguments), 2)


def test_one_folder_that_is_a_session_is_audited_as_one(tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "session.json").write_text("{}")
    said = [run_script(TOOL, "audit", *named, tmp_path / "session").stderr for named in ([], ["--session"])]
    assert said[0] == said[1] and "session state" in said[0]


def test_the_table_names_the_worst_tensors_and_the_cause(tmp_path: Path) -> None:
    text = render(audited(tmp_path, *one_step(1e-5)))
    assert "verdict    partial" in text and "bf16_rounding" in text
    assert text.index(NORM) < text.index(QUERY)


def test_the_heat_map_says_in_words_what_it_shows_in_colour(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    picture = heat_map(audited(tmp_path, *one_step(1e-5)))
    root = ElementTree.fromstring(picture)
    assert root.get("role") == "img" and "partial" in str(root.get("aria-label"))
    words = "".join(root.itertext())
    assert "layer 0, attention" in words and "outside layers" in words and "0.00%" in words
    assert "prefers-color-scheme:dark" in picture
    assert [level_of(share) for share in (0, 1e-9, 0.15, 0.6, 0.95, 1)] == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "group", "layer"),
    [
        ("model.layers.3.self_attn.q_norm.weight", "norms", 3),
        ("model.layers.3.self_attn.k_proj.bias", "biases", 3),
        ("model.layers.3.mlp.gate.weight", "router", 3),
        ("model.layers.3.mlp.gate_proj.weight", "mlp", 3),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "experts", 3),
        ("model.layers.3.input_layernorm.weight", "norms", 3),
        ("transformer.h.11.attn.c_attn.weight", "attention", 11),
        ("transformer.h.11.ln_1.weight", "norms", 11),
        ("transformer.wte.weight", "embeddings", None),
        ("lm_head.weight", "head", None),
        ("model.layers.0.self_attn.o_proj.weight", "attention", 0),
        ("something.else", "other", None),
    ],
)
def test_names_say_what_a_tensor_is(name: str, group: str, layer: int | None) -> None:
    assert (group_of(name), layer_of(name)) == (group, layer)


def test_a_pipe_is_no_checkpoint(good: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert_clear_error(run_script(TOOL, "audit", good, tmp_path / "pipe"), 2, "neither a file nor a folder")
