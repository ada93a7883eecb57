"""A plan reads a sample of the weights at hand: within half a point of the full count, in a second, without numpy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

from checkpoints import bf16, f16, f32, write_folder
from conftest import PLANNER, SCRIPTS, run_script
from unsloth_fft.auditing.predict import count_weights
from unsloth_fft.core.errors import BadInput
from unsloth_fft.demo import pretrained
from unsloth_fft.estimates import survival
from unsloth_fft.weights import sample as sampling
from unsloth_fft.weights.expected import expected

RATES = (1e-6, 1e-5, 5e-5, 2e-4, 1e-3)
BF16 = ("bfloat16", "adamw_8bit", {})


def weights() -> dict[str, numpy.ndarray]:
    """Tensors of very different scales and sizes, one of them with a pattern that an even stride would fall into."""
    random = numpy.random.default_rng(5)
    striped = random.normal(0, 0.01, (512, 512)).astype(numpy.float32)
    striped[:, ::2] *= 100
    return {
        "model.embed_tokens.weight": random.normal(0, 0.2, (1000, 512)).astype(numpy.float32),
        "model.layers.0.mlp.up_proj.weight": striped,
        "model.layers.0.mlp.down_proj.weight": random.normal(0, 0.002, (2000, 512)).astype(numpy.float32),
        "model.norm.weight": numpy.ones(512, numpy.float32),
        "model.layers.0.self_attn.q_proj.bias": numpy.zeros(3, numpy.float32),
    }


STORED = {"bfloat16": bf16, "float32": f32, "float16": f16}


@pytest.mark.parametrize("stored", STORED)
def test_the_sample_is_within_half_a_point_of_the_full_count(tmp_path: Path, stored: str) -> None:
    folder = write_folder(tmp_path / "m", {name: STORED[stored](values) for name, values in weights().items()})
    full = survival.merged(count_weights(folder, "bfloat16").groups.values())
    found = sampling.sample(folder, "bfloat16")
    assert found.elements < found.total == full.total
    for rate in RATES:
        assert survival.survival(found.counts, rate) == pytest.approx(survival.survival(full, rate), abs=0.005), rate


def test_of_a_real_model_in_a_second_and_nothing_but_the_standard_library() -> None:
    if pretrained.missing():
        pytest.skip(f"the extra `real` is not installed here: {', '.join(pretrained.missing())}")
    folder = pretrained.folder()
    full = survival.merged(count_weights(folder, "bfloat16").groups.values())
    sampling.sample.cache_clear()
    began = time.process_time()
    found = sampling.sample(folder, "bfloat16")
    assert time.process_time() - began < 1
    for rate in RATES:
        assert survival.survival(found.counts, rate) == pytest.approx(survival.survival(full, rate), abs=0.005), rate
    assert expected(str(folder), 1e-5, *BF16).share == pytest.approx(0.02, abs=0.002), "where 15.5% was predicted"


def test_every_shard_is_read_and_a_tied_head_counts_once(tmp_path: Path) -> None:
    head = f32(numpy.full((1000, 64), 1e-3, numpy.float32))
    tensors = {"model.embed_tokens.weight": head, "lm_head.weight": head, "b": f32(numpy.ones((500, 64)))}
    folder = write_folder(tmp_path / "m", tensors, config={"tie_word_embeddings": True}, shards=2)
    assert survival.survival(sampling.sample(folder, "bfloat16").counts, 1e-5) == pytest.approx(64 / 96)


def test_a_slow_disk_ends_the_reading_with_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "m", {name: f32(values) for name, values in weights().items()})
    monkeypatch.setattr(sampling, "SECONDS", -1.0)
    assert sampling.sample(folder, "bfloat16").elements == sampling.RUN


def test_a_name_alone_gives_the_range_over_the_models_known_and_says_that_weights_were_not_seen() -> None:
    found = expected("meta-llama/Llama-3.1-8B", 1e-5, *BF16)
    assert (found.low, found.high) == (pytest.approx(0.020, abs=0.001), pytest.approx(0.155, abs=0.001))
    assert "2.0% to 15.5%" in found.in_words and "not seen" in found.in_words


def test_nothing_is_read_where_rounding_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    assert expected(str(tmp_path), 1e-5, "bfloat16", "adamw_flash", {}).share == pytest.approx(1.0)
    assert expected(str(tmp_path), 1e-5, "float32", "adamw_8bit", {}).range is None


def test_damaged_weights_are_not_silently_passed_over(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    found = expected(str(tmp_path), 1e-5, *BF16)
    assert found.range is not None and "could not be read" in found.in_words
    with pytest.raises(BadInput):
        sampling.sample(tmp_path, "bfloat16")


def test_the_planner_says_of_this_models_weights_and_imports_no_numpy(tmp_path: Path) -> None:
    config = {"model_type": "llama", "vocab_size": 1000, "hidden_size": 512, "intermediate_size": 512}
    config |= {
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": 2048,
    }
    folder = write_folder(tmp_path / "m", {name: bf16(values) for name, values in weights().items()}, config=config)
    arguments = ["--model", folder, "--vram-gib", "24", "--max-steps", "9", "--exactness", "any"]
    arguments += ["--optimizer", "adamw_8bit", "--precision", "bfloat16", "--learning-rate", "1e-5"]
    done = run_script(PLANNER, *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["plan"]
    assert "of this model's weights" in " ".join(found["warnings"])
    full = survival.merged(count_weights(folder, "bfloat16").groups.values())
    assert found["predicted"]["update_survival"] == pytest.approx(survival.survival(full, 1e-5), abs=0.005)
    assert found["predicted"]["update_survival_range"] is None
    reading = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from unsloth_fft.weights.expected import expected; "
    reading += f"expected({str(folder)!r}, 1e-5, 'bfloat16', 'adamw_8bit', {{}}); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", reading], capture_output=True, text=True).stdout.strip() == "False"
