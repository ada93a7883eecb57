"""What a run writes where stderr is a file: its own words, none of the libraries' that ask for nothing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from conftest import SCRIPTS, minimal_parameters, write_parameters
from unsloth_fft.commands import tool
from unsloth_fft.core import quiet
from unsloth_fft.data import templates

BANNERS = """🦥 Unsloth: Will patch your computer to enable 2x faster free finetuning.
==((====))==  Unsloth 2026.10.9: Fast Llama patching. Transformers: 5.17.0.
   \\\\   /|    NVIDIA H200. Num GPUs = 1. Max memory: 139.8 GB. Platform: Linux.
O^O/ \\_/ \\    Torch: 2.14.1. CUDA: 9.0. Bfloat16 = TRUE.
\\        /    Bfloat16 = TRUE. FA [Xformers = None. FA2 = True]
 "-____-"     Free license: http://github.com/unslothai/unsloth
Unsloth 2026.10.9: no GPU found, training on CPU (x86_64, 1 threads, bfloat16 = True).
Unsloth (CPU): LlamaForCausalLM on 2 CPU threads. dtype = torch.float32."""
TOLD = "Unsloth (CPU): max_seq_length = 4096 is longer than this model's 2048 learned positions, using 2048."


def test_a_log_has_no_banners_and_keeps_what_a_library_tells(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet.stdout_to_stderr():
        print(BANNERS)
        print(TOLD)
        print("no line end", end="")
    printed, said = capfd.readouterr()
    assert (printed, said) == ("", f"{TOLD}\nno line end")


def test_a_warning_that_asks_for_nothing_is_not_in_a_log(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet.stdout_to_stderr():
        for name in ("torch.utils._pytree", "bitsandbytes", "transformers.distributed.tensor_parallel"):
            logging.getLogger(name).setLevel(logging.INFO)  # as torch does when it is imported
            logging.getLogger(name).warning("register_constant() is deprecated")
            logging.getLogger(name).error("%s failed", name)
    assert "deprecated" not in capfd.readouterr().err


def test_what_unsloth_prints_of_itself_is_not_in_the_json(home, tmp_path, monkeypatch, capfd) -> None:
    """A named template imports it: its first line stood before the JSON of `data` and `init`."""
    monkeypatch.setitem(sys.modules, "unsloth", types.ModuleType("unsloth"))

    def named(tokenizer: object, name: str) -> object:
        print(BANNERS)
        os.write(1, b"Unsloth 2026.10.9: from below Python\n")
        return tokenizer

    monkeypatch.setattr(templates, "named", named)
    model, rows = home / "tiny", home / "rows.jsonl"
    value = minimal_parameters(model, rows)
    value["data"]["chat_template"] = "chatml"
    params = write_parameters(tmp_path / "p.json", value)
    for asked in (
        ["data", str(rows), "--model", str(model), "--chat-template", "chatml", "--json"],
        ["init", "--params", str(params), "--session", str(tmp_path / "s"), "--json"],
    ):
        assert tool.main(asked) == 0
        printed, said = capfd.readouterr()
        assert json.loads(printed) and "from below Python" in said


def test_unsloth_is_imported_before_a_look_at_the_model_imports_what_it_patches(home: Path, tmp_path: Path) -> None:
    model, session = shutil.copytree(home / "tiny", tmp_path / "model"), tmp_path / "s"
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "One and two and three."}\n' * 20)
    params = write_parameters(tmp_path / "p.json", minimal_parameters(model, rows))
    assert tool.main(["init", "--params", str(params), "--session", str(session)]) == 0
    (model / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "top_p": 0.9, "do_sample": True}))
    stand_in = tmp_path / "stand-in" / "unsloth"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text(
        "import os, sys\n"
        "sys.__stderr__.write(f'transformers was there: {\"transformers\" in sys.modules}')\n"
        "sys.__stderr__.flush()\n"
        "os._exit(77)\n"
    )
    done = subprocess.run(
        [sys.executable, SCRIPTS / "unsloth_fft_tool.py", "train", session],
        env={**os.environ, "PYTHONPATH": str(stand_in.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 77, done.stderr
    assert done.stderr.endswith("transformers was there: False")
