"""The data doctor against `datasets` tokenizing the same rows, side by side: rows/s and peak memory of each process.

Run: python -m tools.measurements.data_doctor --rows 1000000 --folder SCRATCH --output references/measurements/NAME.json

Both sides start from the same JSONL file in a process of their own, one after the other, in the order doctor, datasets,
doctor, datasets; the faster of two runs counts for each. Rows are made of the shipped demo's sentences with numbers
drawn in, one row in a hundred given twice; the tokenizer is a byte-level BPE of 8,192 entries trained on the same.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import platform
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from tools import ROOT

SCRIPTS = ROOT / "scripts"
TEMPLATE = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
BASELINE = """
import sys
from datasets import load_dataset
from transformers import PreTrainedTokenizerFast
file, model, cache, form = sys.argv[1:]
tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
rows = load_dataset("json", data_files=file, split="train", cache_dir=cache)
def tokenize(batch):
    if form == "messages":
        texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in batch["messages"]]
        return tokenizer(texts, add_special_tokens=False)
    return tokenizer(batch["text"])
done = rows.map(tokenize, batched=True, remove_columns=rows.column_names)
print(len(done))
"""


def make_rows(path: Path, count: int, form: str) -> None:
    """Write `count` rows of `form` ("messages" or "text"), from a fixed seed."""
    draw = random.Random(20261123)
    shipped = [
        json.loads(line)
        for part in sorted((SCRIPTS / "unsloth_fft/demo").glob("questions_*.jsonl"))
        for line in part.read_text(encoding="utf-8").splitlines()
    ]
    questions = [row["messages"][0]["content"] for row in shipped]
    sentences = [piece for row in shipped for piece in re.split(r"(?<=[.!?]) ", row["messages"][-1]["content"])]
    previous = ""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if number % 100 != 99:
                question = f"{draw.choice(questions)} (case {draw.randrange(10**6)})"
                answer = " ".join(draw.choice(sentences) for _ in range(draw.randint(1, 6)))
                turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
                row = {"messages": turns} if form == "messages" else {"text": f"{question}\n{answer}"}
                previous = json.dumps(row, ensure_ascii=False) + "\n"
            file.write(previous)


def make_model(folder: Path, file: Path) -> None:
    """A tokenizer folder for both sides."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with file.open(encoding="utf-8") as rows:
        bpe.train_from_iterator((next(rows) for _ in range(5000)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def timed(command: list[str]) -> dict[str, float]:
    """Seconds and peak resident memory (GiB) of a process and its children."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ})
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    assert process.returncode == 0, f"{command} failed with {process.returncode}"
    assert output.strip()
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_gib": round(usage.ru_maxrss * 1024 / 2**30, 3),
    }


def compare(form: str, rows: int, folder: Path, repeats: int) -> dict[str, object]:
    """Both sides on `rows` rows of `form`."""
    import shutil

    file, model = folder / f"{form}.jsonl", folder / f"model-{form}"
    make_rows(file, rows, form)
    # In a process of its own: Linux counts what the parent held at the fork into a child's peak.
    maker = multiprocessing.get_context("spawn").Process(target=make_model, args=(model, file))
    maker.start()
    maker.join()
    assert maker.exitcode == 0
    runs: dict[str, list[dict[str, float]]] = {"doctor": [], "datasets": []}
    for _ in range(repeats):
        tool = [sys.executable, str(SCRIPTS / "unsloth_fft_tool.py"), "data", str(file), "--model", str(model)]
        runs["doctor"].append(timed([*tool, "--max-seq-length", "512", "--json"]))
        cache = folder / "cache"
        runs["datasets"].append(timed([sys.executable, "-c", BASELINE, str(file), str(model), str(cache), form]))
        shutil.rmtree(cache, ignore_errors=True)
    best = {side: min(found, key=lambda run: run["seconds"]) for side, found in runs.items()}
    speed = {side: round(rows / run["seconds"], 1) for side, run in best.items()}
    return {
        "format": form,
        "rows": rows,
        "file_bytes": file.stat().st_size,
        "doctor": {"rows_per_second": speed["doctor"], "runs": runs["doctor"]},
        "datasets": {"rows_per_second": speed["datasets"], "runs": runs["datasets"]},
        "ratio": round(speed["doctor"] / speed["datasets"], 3),
        "doctor_peak_gib": max(run["peak_gib"] for run in runs["doctor"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder for the rows")
    parser.add_argument("--output", type=Path, help="where the measurement goes (JSON)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--formats", nargs="+", default=["messages", "text"])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    packages = ("datasets", "tokenizers", "transformers", "jinja2", "numpy")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    result = {
        "what": "unsloth_fft_tool.py data against datasets.load_dataset + map(tokenize), one after the other",
        "date": datetime.date.today().isoformat(),
        "command": f"python -m tools.measurements.data_doctor --rows {args.rows} --folder SCRATCH"
        f" --repeats {args.repeats} --formats {' '.join(args.formats)}",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "load_before": os.getloadavg()[0]},
        "versions": versions,
        "unit": {"seconds": "s", "rows_per_second": "rows/s", "peak_gib": "GiB, largest resident set"},
        "comparisons": [compare(form, args.rows, args.folder, args.repeats) for form in args.formats],
    }
    text = json.dumps(result, indent=2) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
