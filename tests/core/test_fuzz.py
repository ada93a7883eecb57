"""Random and damaged input to every command that needs no training stack: two lines and a documented code, always.

Seeded, so that a failure comes again; FFT_FUZZ_SEED and FFT_FUZZ_SECONDS run others, and longer.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import conversation_rows, minimal_parameters, write_jsonl
from unsloth_fft.commands import plan, tool
from unsloth_fft.core.errors import FFTError
from unsloth_fft.rendering import targets
from unsloth_fft.settings import parameters
from unsloth_fft.training import session

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("FFT_FUZZ_SEED", "20261201"))
SECONDS = float(os.environ.get("FFT_FUZZ_SECONDS", "3"))
CODES = {0, 2, 3, 4, 5}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**19, 1e308, -1e308, 5e-324, 0.5, "", " ", "\0"),
    *("\n", "\x1b[2J", "a" * 5000, "\ud800", "~nobody", "/dev/null", "/dev/zero", ".."),
    *("-x", "--", "%s", "{0}", "a\nb", "\u2028", "é"),
    *([], {}, [[]], {"": ""}, [None] * 3, {"a": {"b": [1]}}, "1e400", "nan", "inf", "1" * 400, "0x10", "²", "１"),
]  # fmt: skip
TEXTS = ("NaN", "Infinity", "1e999", "9" * 400, "[" * 3000 + "]" * 3000, '"\\ud800"', "", "{", "nul", "\ufeff{}")


def damaged(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one to three parts replaced, removed, doubled or moved."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(parts(value))
        if not places:
            return rng.choice(ODD)
        part, key = rng.choice(places)
        if rng.random() < 0.7:
            part[key] = copy.deepcopy(rng.choice(ODD))
        elif isinstance(part, dict):
            part["x" * rng.randint(0, 9)] = part.pop(key)
        else:
            part.insert(0, part[key])
    return value


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container inside a JSON value with every key or index of it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from parts(value[key])


def text_of(rng: random.Random, value: Any) -> bytes:
    """JSON of a damaged value, sometimes cut, sometimes with a byte changed or a part that no value could write."""
    text = json.dumps(damaged(rng, value))
    if rng.random() < 0.15:
        text = text.replace(rng.choice([": ", ", ", "1", "}"]), rng.choice([": " + rng.choice(TEXTS), ","]), 1)
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.1 and content:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content)


class Fuzz:
    """Runs of one kind until the time is up; `counts` says how often each exit code came."""

    def __init__(self, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.rng = random.Random(f"{SEED} {kind}")
        self.kind = kind
        self.capsys = capsys
        self.counts: Counter[int | str] = Counter()
        self.until: float | None = None

    def going(self) -> bool:
        """Whether there is time left, which is counted from the first question."""
        if self.until is None:
            self.until = time.monotonic() + SECONDS
        return time.monotonic() < self.until

    def run(self, command: Callable[[list[str]], int], arguments: list[str]) -> None:
        self.capsys.readouterr()
        try:
            code = command(arguments)
        except SystemExit as end:  # --help and --version
            code = int(end.code or 0)
        said = self.capsys.readouterr()
        where = f"{self.kind}, seed {SEED}: {arguments!r}"
        assert code in CODES, f"{where}\n{said.err[-3000:]}"
        assert "Traceback" not in said.err, f"{where}\n{said.err[-3000:]}"
        assert "\x1b" not in said.err and "\0" not in said.err, where
        if code in (2, 3, 4):
            heads = [line.split(": ")[0] for line in said.err.splitlines()]
            told_in_a_table = arguments[:1] == ["data"]  # faults of rows, with their lines
            assert heads[-2:] == ["error", "hint"] or told_in_a_table, f"{where}\n{said.err[-3000:]}"
            assert heads.count("error") <= 1, f"{where}\n{said.err[-3000:]}"
        self.counts[code] += 1

    def done(self, least: int = 1) -> None:
        with self.capsys.disabled():
            if "FFT_FUZZ_SECONDS" in os.environ:
                print(f"\n{self.kind}: {sum(self.counts.values())} inputs, by exit code {dict(self.counts)}")
        assert sum(self.counts.values()) >= least


@pytest.fixture
def fuzz(request, capsys, tmp_path, monkeypatch) -> Fuzz:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("huggingface_hub.constants", "datasets.config"):  # an earlier test may have had them read it before
        if name in sys.modules:
            monkeypatch.setattr(sys.modules[name], "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return Fuzz(request.node.name, capsys)


CONFIG = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 64, "max_position_embeddings": 128, "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6, "attention_bias": False, "mlp_bias": False, "torch_dtype": "float32",
}  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": [64, 32], "model.norm.weight": [32], "model.layers.0.mlp.gate_proj.weight": [64, 32],
    "model.layers.0.mlp.up_proj.weight": [64, 32], "model.layers.0.input_layernorm.weight": [32],
}  # fmt: skip


@pytest.fixture
def place(tmp_path) -> Path:
    """A model folder, made without the training stack, and rows."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    header, at = {}, 0
    for name, shape in SHAPES.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    body = random.Random(SEED).randbytes(at)
    (tmp_path / "m" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    write_jsonl(tmp_path / "rows.jsonl", conversation_rows(4))
    return tmp_path


PLAN_FLAGS = (
    *("--model", "--dataset", "--gpu", "--vram-gib", "--gpus", "--nodes", "--host-ram-gib", "--price-per-hour"),
    *("--prices", "--epochs", "--max-steps", "--tokens", "--precision", "--optimizer", "--micro-batch"),
    *("--grad-accumulation", "--seq-length", "--effective-batch", "--exactness", "--objective", "--learning-rate"),
    *("--eval-fraction", "--alternatives", "--chat-template", "--model-name", "--sample-by", "--prefer"),
)  # fmt: skip
PLAN_VALUES = ("1", "2", "16", "1e3", "exact", "any", "on", "H100", "H100,L4", "bfloat16", "rows.jsonl", "m", "0.1")
SWITCHES = ("--explain", "--json", "--dataset-elsewhere")


def test_command_lines_of_the_planner(fuzz, place):
    while fuzz.going():
        rng = fuzz.rng
        given = ["--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H100", "--max-steps", "5"]
        for flag in rng.sample(PLAN_FLAGS, rng.randint(1, 4)):
            value = rng.choice(PLAN_VALUES) if rng.random() < 0.5 else str(rng.choice(ODD))
            if flag in given:
                given[given.index(flag) + 1] = value
            else:
                given += [flag, value]
        fuzz.run(plan.main, given + rng.sample(SWITCHES, rng.randint(0, 1)))
    fuzz.done()


def test_command_lines_of_the_tool(fuzz, place):
    words = [*tool.COMMANDS, "--session", "--params", "--output", "--json", "--model", "--to", "--target", "script",
             "m", "rows.jsonl", "--learning-rate", "1e-5", "--precision", "bfloat16", "--require", "full"]  # fmt: skip
    left_out = {"demo", "train", "benchmark", "tune", "doctor", "data"}  # they work for long, or ask others
    commands = [name for name in tool.COMMANDS if name not in left_out]
    while fuzz.going():
        rng = fuzz.rng
        given = [rng.choice(words) if rng.random() < 0.8 else str(rng.choice(ODD)) for _ in range(rng.randint(0, 6))]
        fuzz.run(tool.main, [rng.choice(commands), *given])
    fuzz.done()


WHOLE = (
    ["lora", "--model", "m", "--dataset", "rows.jsonl"],
    ["tune", "--params", "p.json", "--folder", "t", "--plan", "--share", "1"],
    ["data", "rows.jsonl"],
    ["predict", "--model", "m", "--learning-rate", "1e-5", "--precision", "bfloat16"],
    ["render", "--params", "p.json", "--target", "trl", "--accept-lost"],
    ["init", "--params", "p.json", "--check"],
    ["audit", "m", "m"],
)


def test_flags_of_commands_that_are_whole(fuzz, place):
    """A command that works, with some values replaced and some flags added: these come further than random words."""
    Path("p.json").write_text(json.dumps(minimal_parameters("m", "rows.jsonl", schedule={"max_steps": 400})))
    flags = {name: [flag for flag in parser._option_string_actions if flag.startswith("--")]
             for name, parser in parsers()}  # fmt: skip
    while fuzz.going():
        rng = fuzz.rng
        given = list(rng.choice(WHOLE))
        for _ in range(rng.randint(0, 2)):
            at = rng.randrange(1, len(given))
            if not given[at].startswith("--") and given[at - 1] != "--folder":
                given[at] = rng.choice(PLAN_VALUES) if rng.random() < 0.3 else str(rng.choice(ODD))
        for flag in rng.sample(flags[given[0]], rng.randint(0, 2)):
            if flag not in ("--help", *given):
                given += [flag] if rng.random() < 0.3 else [flag, str(rng.choice([*ODD, *PLAN_VALUES]))]
        fuzz.run(tool.main, given)
    fuzz.done()


def parsers() -> Iterator[tuple[str, Any]]:
    for action in tool.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def test_folders_of_data(fuzz, place):
    """What tells of a folder's parts comes from elsewhere: a README's head, and what save_to_disk writes."""
    readme = "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: d/*.jsonl\n---\n"
    odd = (
        "**x",
        ".",
        "..",
        "../*",
        "/etc/*",
        "[",
        "{a",
        "\0",
        "~",
        "a" * 300,
        "**/**",
        "",
        "- ",
        ":",
        "https://x/*",
        "*/..",
    )
    Path("d").mkdir()
    shutil.copy("rows.jsonl", "d/train.jsonl")
    saved = {"_data_files": [{"filename": "train.jsonl"}], "_split": "train"}
    while fuzz.going():
        rng = fuzz.rng
        shutil.rmtree("f", ignore_errors=True)
        shutil.copytree("d", "f/d")
        if rng.random() < 0.7:
            text = readme.replace(rng.choice(["d/*.jsonl", "train", "a", "configs:", "- split"]), rng.choice(odd), 1)
            Path("f/README.md").write_text(text)
        else:
            Path("f/d", "state.json").write_bytes(text_of(rng, saved))
            if rng.random() < 0.3:
                Path("f/dataset_dict.json").write_bytes(text_of(rng, {"splits": ["d"]}))
        if rng.random() < 0.2:
            os.symlink(
                rng.choice(["..", ".", "loop", "/etc/passwd", "nowhere"]), Path("f", rng.choice(["loop", "x.json"]))
            )
        fuzz.run(tool.main, ["data", rng.choice(["f", "f", "f/d"])])
    fuzz.done()


def test_parameters_files(fuzz, place):
    plan.main(["--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H100", "--max-steps", "5", "--output", "whole.json"])
    whole = json.loads(Path("whole.json").read_text())
    small = minimal_parameters("m", "rows.jsonl")
    while fuzz.going():
        rng = fuzz.rng
        Path("p.json").write_bytes(text_of(rng, whole if rng.random() < 0.5 else small))
        target = rng.choice(list(targets.TARGETS))
        fuzz.run(tool.main, rng.choice([
            ["init", "--params", "p.json", "--check"],
            ["render", "--params", "p.json", "--target", target, "--accept-lost"],
        ]))  # fmt: skip
    fuzz.done()


def test_model_configurations(fuzz, place):
    config = json.loads((place / "m" / "config.json").read_text())
    while fuzz.going():
        Path("config.json").write_bytes(text_of(fuzz.rng, config))
        fuzz.run(plan.main, ["--model", "config.json", "--gpu", "H100", "--max-steps", "5"])
    fuzz.done()


def test_headers_of_safetensors(fuzz, place):
    whole = (place / "m" / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    shutil.copytree("m", "other")
    target = Path("other/model.safetensors")
    while fuzz.going():
        rng = fuzz.rng
        text = text_of(rng, header)
        said = len(text) if rng.random() < 0.9 else rng.choice([0, 1, 2**40, 2**63, len(text) + 1])
        body = data if rng.random() < 0.9 else data[: rng.randrange(len(data))]
        target.write_bytes(said.to_bytes(8, "little") + text + body)
        fuzz.run(tool.main, rng.choice([
            ["audit", "m", "other"],
            ["audit", "other", "m", "--json"],
            ["predict", "--model", "other", "--learning-rate", "1e-5", "--precision", "bfloat16"],
        ]))  # fmt: skip
    fuzz.done()


def test_tensors_without_elements_and_of_odd_names_and_shapes(fuzz, place):
    shapes: list[list[int]] = [[], [0], [1], [0, 5], [5, 0], [2, 0, 3], [1] * 9, [3], [2, 2]]
    names = (
        "",
        "a\nb",
        "\x1b[2J",
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.99999999999.x",
        "é.weight",
        "weight",
    )

    def written(folder: str) -> None:
        Path(folder).mkdir(exist_ok=True)
        header, at = {}, 0
        for name in fuzz.rng.sample(names, fuzz.rng.randint(1, 4)):
            shape = fuzz.rng.choice(shapes)
            size = 4 * math.prod(shape)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        body = fuzz.rng.randbytes(at)
        Path(folder, "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)

    while fuzz.going():
        written("a")
        written("b")
        fuzz.run(
            tool.main, ["audit", "a", fuzz.rng.choice(["a", "b"]), *fuzz.rng.sample(["--json"], fuzz.rng.randint(0, 1))]
        )
    fuzz.done()


def test_session_files(fuzz, place):
    from unsloth_fft.training.session import DataRecord

    given = parameters.from_json(minimal_parameters("m", "rows.jsonl"), "the test")
    folder, state = session.create(Path("s"), given, DataRecord("rows.jsonl", None, "messages", 4))
    result = dict.fromkeys(("train_loss", "eval_loss_before", "eval_loss_after", "peak_gib"), 1.5)
    result |= dict.fromkeys(
        ("eval_rows", "train_rows", "tokens", "supervised_tokens", "seconds", "tokens_per_second"), 4
    )
    completed = {**json.loads(folder.state.read_text()), "state": "completed", "result": result}
    line = {
        "kind": "train", "step": 1, "epoch": 0.1, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.001, "tokens": 64,
        "tokens_per_second": 10.0, "peak_gib": 1.0, "time": "2026-12-01T00:00:00+00:00",
    }  # fmt: skip
    while fuzz.going():
        rng = fuzz.rng
        folder.state.write_bytes(text_of(rng, completed) if rng.random() < 0.6 else json.dumps(completed).encode())
        lines = [
            text_of(rng, line) if rng.random() < 0.5 else json.dumps({**line, "step": n}).encode() for n in range(3)
        ]
        folder.metrics.write_bytes(b"\n".join(lines))
        fuzz.run(tool.main, rng.choice([["status", "s"], ["audit", "--session", "s"]]))
    fuzz.done()


def test_rendered_values(fuzz, place):
    plan.main(["--model", "Qwen/Qwen2.5-0.5B", "--gpu", "H100", "--max-steps", "5", "--output", "whole.json"])
    whole = json.loads(Path("whole.json").read_text())
    letters = [chr(number) for number in range(32, 127)] + list("é\U0001f600\u200d\xa0中\t\n\x1b\x85\u2028\0")
    while fuzz.going():
        value = copy.deepcopy(whole)
        odd = "".join(fuzz.rng.choice(letters) for _ in range(fuzz.rng.randint(1, 40)))
        value["data"].update(dataset=f"/d/{odd}.jsonl", format="messages")
        if fuzz.rng.random() < 0.5:
            value["model"]["name"] = f"/m/{odd}/base"
        for target in fuzz.rng.sample(list(targets.TARGETS.values()), 2):
            try:
                target.render(parameters.from_json(value, "the test")).text.encode("utf-8")
                fuzz.counts["rendered"] += 1
            except FFTError:
                fuzz.counts["refused"] += 1
    fuzz.done()
