"""The smallest program that shows an upstream fault: evaluating before training under Unsloth's native FSDP2.

    python -m torch.distributed.run --standalone --nproc-per-node 2 -m tools.measurements.evaluate_before_fsdp2

ends with KeyError while the optimizer is saved (unsloth 2026.10.9, torch 2.11 and 2.14, GPUs or CPUs); with
`--no-evaluation` it does not. train mends it: scripts/unsloth_fft/training/sharding.py.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["UNSLOTH_FSDP2"] = "1"


def main() -> None:
    from unsloth import FastLanguageModel, UnslothTrainer, UnslothTrainingArguments  # isort: skip
    from datasets import Dataset

    from unsloth_fft.demo import small_model

    with tempfile.TemporaryDirectory() as name:
        texts = [f"sentence number {number}" for number in range(300)]
        small_model.make(Path(name) / "base", texts, max_length=64, size=small_model.TINY)
        model, tokenizer = FastLanguageModel.from_pretrained(
            str(Path(name) / "base"), max_seq_length=64, full_finetuning=True, load_in_4bit=False
        )
        rows = Dataset.from_dict({"input_ids": [tokenizer(text)["input_ids"] for text in texts[:64]]})
        trainer = UnslothTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=rows,
            eval_dataset=rows.select(range(8)),
            args=UnslothTrainingArguments(
                output_dir=f"{tempfile.gettempdir()}/evaluate-before-fsdp2",  # one folder for all processes
                max_steps=2,
                save_steps=2,
                per_device_train_batch_size=4,
                max_length=64,
                report_to="none",
            ),
        )
        if "--no-evaluation" not in sys.argv:
            trainer.evaluate()
        trainer.train()


if __name__ == "__main__":
    main()
