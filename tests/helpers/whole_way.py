"""Every command on a tiny model of each type, one after another in a process that imports Unsloth once.

For each type: a model from its tiny configuration, then plan, init, train (3 steps), audit, export, and loading with
transformers. What each step returned is written down; judging it is left to the tests.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from workers import Workers

STEPS = 3
LENGTH = 64


def walked(workers: Workers, types: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """What became of each of `types`, tried in a process of their own."""
    output = folder / "walked.json"
    done = workers.start_helper("whole_way", output, *types).wait()
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(output.read_text())
    return found


def tiny_config(model_type: str) -> dict[str, Any]:
    """The configuration of `model_type` with as many tokens as the tiny tokenizer has."""
    from tiny_configs import MULTIMODAL, OWN_KEYS, SMALL, multimodal

    text_type = MULTIMODAL[model_type][0] if model_type in MULTIMODAL else model_type
    values = {**SMALL, "vocab_size": 512, **OWN_KEYS.get(text_type, {}), "model_type": text_type}
    if "vocab_size_per_layer_input" in values:  # Gemma 3n and 4, whose last layers take keys from one of the first two
        values |= {"vocab_size_per_layer_input": 512, "layer_types": ["sliding_attention", "full_attention"] * 2}
    return multimodal(model_type, values) if model_type in MULTIMODAL else values


def main(output: str, *types: str) -> None:
    """Write into `output` what became of each of `types`."""
    from huggingface_hub import constants

    from unsloth_fft.reporting import plots

    constants.HF_HUB_OFFLINE = True
    # A picture of the loss takes as long as the training, and is the same for every type (tests/reporting look at it).
    plots.loss_png = lambda *_: b""
    found = {}
    for model_type in types:
        with tempfile.TemporaryDirectory() as scratch:
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                try:
                    found[model_type] = _walk(model_type, Path(scratch))
                except Exception as error:
                    found[model_type] = {"raised": f"{type(error).__name__}: {error}"}
            found[model_type]["said"] = said.getvalue()[-1500:]
    Path(output).write_text(json.dumps(found))


def _walk(model_type: str, folder: Path) -> dict[str, Any]:
    from unsloth_fft.commands import plan, tool

    model, session, rows = folder / "model", folder / "session", folder / "rows.jsonl"
    seen: dict[str, Any] = {"parameters": _make(tiny_config(model_type), model)}
    rows.write_text("".join(json.dumps(row) + "\n" for row in _conversations(12)))
    steps = {
        "plan": (plan.main, ["--model", model, "--dataset", rows, "--max-steps", STEPS, "--seq-length", LENGTH,
                             "--effective-batch", 4, "--learning-rate", 2e-3, "--output", folder / "p.json"]),
        "init": (tool.main, ["init", "--params", folder / "p.json", "--session", session]),
        "train": (tool.main, ["train", session]),
        "audit": (tool.main, ["audit", "--session", session, "--json"]),
        "export": (tool.main, ["export", session, "--to", folder / "exported"]),
    }  # fmt: skip
    for name, (command, arguments) in steps.items():
        seen[name], text = _called(command, arguments)
        if seen[name]:
            return seen
        if name == "plan":
            seen["counted"] = json.loads((folder / "p.json").read_text())["model"]["parameters"]
        if name == "audit":
            audit = json.loads(text)
            seen["verdict"], seen["causes"] = audit["verdict"], audit.get("causes", [])
    seen["unmatched"] = _unmatched(folder / "exported")
    seen["changed_files"] = _changed_files(model, folder / "exported")
    seen["moved_towers"] = _moved_towers(model, folder / "exported")
    seen["switched"] = _switched(model, folder / "exported")
    shutil.rmtree(folder / "exported")
    return seen


def _make(values: dict[str, Any], folder: Path) -> int:
    """A model of random float32 weights with the tiny tokenizer; how many parameters its language model has.

    A multimodal one gets a processor's file, which must come out as it went in.
    """
    import torch
    from transformers import AutoConfig

    from unsloth_fft.demo import small_model

    values = copy.deepcopy(values)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    config.dtype = "float32"
    torch.manual_seed(0)
    model = _class_of(values).from_config(config).float()
    model.save_pretrained(folder)
    if "text_config" in values:
        (folder / "preprocessor_config.json").write_text('{"image_processor_type": "of no importance"}')
    texts = [turn["content"] for row in _conversations(60) for turn in row["messages"]]
    small_model.tiny_tokenizer(texts, 128).save_pretrained(folder)
    text = model.model.language_model if "text_config" in values else model
    tied = any(getattr(part, "tie_word_embeddings", False) for part in (model.config, model.config.get_text_config()))
    head = 0 if text is model or tied else model.lm_head.weight.numel()
    return sum(weight.numel() for weight in text.parameters()) + head


def _class_of(values: dict[str, Any]) -> Any:
    import transformers

    kind = "AutoModelForImageTextToText" if "text_config" in values else "AutoModelForCausalLM"
    return getattr(transformers, kind)


def _conversations(count: int) -> list[dict[str, Any]]:
    pairs = [(f"What is {number} plus one?", f"{number} plus one is {number + 1}.") for number in range(count)]
    return [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]


def _called(command: Any, arguments: list[Any]) -> tuple[int, str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = command([str(argument) for argument in arguments])
    return code, printed.getvalue()


def _unmatched(folder: Path) -> dict[str, list[str]]:
    """Names that the exported model and its class do not share."""
    kind = _class_of(json.loads((folder / "config.json").read_text()))
    _, info = kind.from_pretrained(folder, output_loading_info=True)
    return {kind: sorted(map(str, names)) for kind, names in info.items() if names}


def _changed_files(before: Path, after: Path) -> list[str]:
    """Files of a processor that did not come out as they went in."""
    names = [path.name for path in before.glob("preprocessor_config.json")]
    return [n for n in names if not (after / n).is_file() or (after / n).read_bytes() != (before / n).read_bytes()]


def _moved_towers(before: Path, after: Path) -> list[str]:
    """Tensors outside the language model that the export has otherwise, or not at all."""
    from safetensors.torch import load_file

    from unsloth_fft.weights.multimodal import text_name

    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    if "text_config" not in json.loads((before / "config.json").read_text()):
        return []
    assert old.keys() == new.keys()
    return [name for name in old if text_name(name) is None and not old[name].equal(new[name])]


def _switched(before: Path, after: Path) -> list[str]:
    """Keys of the router's loss that the exported configuration has otherwise than the base."""
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (before, after))
    return [key for key in ("output_router_logits", "router_aux_loss_coef") if old.get(key) != new.get(key)]
