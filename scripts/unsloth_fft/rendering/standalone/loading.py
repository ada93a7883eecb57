"""What every way of training shares: the model through Unsloth, metrics as they come, stopping, saving."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import BadInput, Interrupted, TrainingFailed
from ...data import templates
from .process import RANK, say


def check_template(settings: dict[str, Any]) -> None:
    """Raise BadInput, before any weight is loaded, when the tokenizer has no chat template and none is named."""
    if settings["data"]["chat_template"]:
        return
    from transformers import AutoTokenizer

    name, options = settings["model"]["model_name"], ("revision", "trust_remote_code")
    tokenizer = AutoTokenizer.from_pretrained(name, **{key: settings["model"][key] for key in options})
    if tokenizer.chat_template is None:
        raise BadInput(
            f"the tokenizer of {name} has no chat template, and the rows are conversations",
            hint="plan with --chat-template NAME, or set chat_template in SETTINGS; for example chatml",
        )


def load_model(settings: dict[str, Any]) -> tuple[Any, Any]:
    """(model, tokenizer), every weight trainable."""
    import torch
    from unsloth import FastLanguageModel

    arguments = dict(settings["model"])
    if torch.cuda.is_available():
        arguments.update(settings["model_on_gpu"])
    else:
        arguments.update({"dtype": getattr(torch, settings["model_on_cpu"]["dtype"])})
    model, tokenizer = FastLanguageModel.from_pretrained(**arguments)
    if settings["data"]["chat_template"]:
        tokenizer = templates.named(tokenizer, settings["data"]["chat_template"])
    return model, tokenizer


def peak_gib() -> float:
    """Peak memory of this process in GiB: reserved by torch on a GPU, else resident on the host."""
    import resource

    import torch

    if torch.cuda.is_available():
        return round(float(torch.cuda.max_memory_reserved()) / 2**30, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def recorder(metrics: Path, stop: list[str]) -> Any:
    """A Trainer callback: a line in metrics.jsonl a step, a halt on a non-finite loss, a clean stop on a signal."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            known = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float)}
            wanted = ("loss", "eval_loss", "grad_norm", "learning_rate")
            line = {key: known[key] for key in wanted if key in known and math.isfinite(known[key])}
            if RANK == 0 and ("loss" in known or "eval_loss" in known):
                with metrics.open("a", encoding="utf-8") as file:
                    record = {"step": state.global_step, **line, "peak_gib": peak_gib(), "time": time.time()}
                    file.write(json.dumps(record) + "\n")
                shown = ", ".join(f"{key} {value:.4g}" for key, value in line.items())
                say(f"step {state.global_step}/{state.max_steps}: {shown}")
            if "loss" in known and not math.isfinite(known["loss"]):
                raise TrainingFailed(
                    f"the loss is {known['loss']} at step {state.global_step}", hint="lower the learning rate"
                )

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if asked_anywhere(stop):
                control.should_save = control.should_training_stop = True

    return Recorder()


def asked_anywhere(stop: list[str]) -> bool:
    """Whether any process was asked to stop: all must stop after the same step, or they wait for one another."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return bool(stop)
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    asked = torch.tensor(int(bool(stop)), device=device)
    torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
    if bool(asked) and not stop:
        stop.append("a signal to another process")
    return bool(asked)


@contextlib.contextmanager
def stopped_by_signals(stop: list[str]) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a checkpoint and an end, instead of losing the steps so far."""
    earlier = {
        number: signal.signal(number, lambda received, _: stop.append(signal.Signals(received).name))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def cut_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run will write again; `step` -1 drops all."""
    if RANK == 0 and metrics.exists():
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        metrics.write_text("".join(line for line in lines if json.loads(line)["step"] <= step), encoding="utf-8")


def train_from(trainer: Any, output: Path, resume: bool, stop: list[str]) -> dict[str, Any]:
    """Evaluate, train, evaluate; returns losses (nats a token), speed and memory. Raises Interrupted once saved."""
    from transformers import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint

    trainer.remove_callback(PrinterCallback)
    start = get_last_checkpoint(trainer.args.output_dir) if resume else None
    cut_after(output / "metrics.jsonl", int(start.rsplit("-", 1)[1]) if start else -1)
    held_out = trainer.eval_dataset is not None
    before = trainer.evaluate()["eval_loss"] if held_out and start is None else None
    began = time.perf_counter()
    with stopped_by_signals(stop):
        trainer.train(resume_from_checkpoint=start)
    seconds = time.perf_counter() - began
    if stop and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(
            f"stopped by {stop[0]} at step {trainer.state.global_step}; saved", hint="go on with --resume"
        )
    tokens = int(trainer.state.num_input_tokens_seen)
    return {
        "steps": trainer.state.global_step,
        "eval_loss_before": before,
        "eval_loss_after": trainer.evaluate()["eval_loss"] if held_out else None,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(tokens / seconds, 1),
        "peak_gib": peak_gib(),
    }


def save(trainer: Any, tokenizer: Any, output: Path) -> None:
    """Write output/model whole or not at all; every process takes part, because the weights may be sharded."""
    staging = output / ".model.tmp"
    trainer.save_model(str(staging))
    if RANK == 0:
        tokenizer.save_pretrained(str(staging))
        (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
        for weights in staging.glob("*.safetensors"):  # safetensors 0.8.0 makes them readable to their owner only
            weights.chmod((staging / "config.json").stat().st_mode)
        shutil.rmtree(output / "model", ignore_errors=True)
        staging.rename(output / "model")
