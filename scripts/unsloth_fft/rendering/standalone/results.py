"""The loss plot, an answer, and the upload."""

from __future__ import annotations

import json
from pathlib import Path


def plot(output: Path) -> Path:
    """loss.png from metrics.jsonl: loss in nats a token over optimizer steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for key, words in (("loss", "training"), ("eval_loss", "held-out rows")):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=words, marker="o" if key == "eval_loss" else None)
    axes.set(xlabel="optimizer step", ylabel="loss, nats a token")
    axes.margins(y=0.1)
    axes.legend(frameon=False)
    figure.savefig(output / "loss.png")
    return output / "loss.png"


def answer(folder: Path, question: str, longest: int = 128) -> str:
    """The trained model's greedy answer to one question."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    words = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(words, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        output = model.generate(**prompt, max_new_tokens=longest, do_sample=False)
    text: str = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


def push(folder: Path, name: str) -> str:
    """Upload to a private Hub repository; the token comes from the environment."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(name, private=True, exist_ok=True)
    api.upload_folder(repo_id=name, folder_path=folder)
    return f"https://huggingface.co/{name}"
