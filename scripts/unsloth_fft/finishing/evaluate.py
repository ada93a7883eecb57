"""What training changed: held-out loss before and after, answers side by side, and what was forgotten.

Plain transformers on both models, in the arithmetic of training/held_out.py, so that a loss here is the run's own.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files, outputs, quiet, schema
from ..core.errors import BadInput
from ..core.shell_words import word
from ..data import preparing, stopping_tokens
from ..training import environment, held_out, session, starting, text_model
from ..training.held_out import Row, RowLoss
from ..weights import loading, multimodal
from . import harness, losses
from .losses import Comparison

LONGEST_ANSWER = 128  # tokens


@dataclass(frozen=True)
class Answer:
    """The same prompt, answered greedily by both models."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Evaluation:
    """`held_out` is None when no rows were held out, `forgetting` and `harness` when not asked for."""

    session: str
    held_out: Comparison | None
    answers: tuple[Answer, ...]
    forgetting: Comparison | None
    forgetting_text: str | None
    harness: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """The JSON object, checked against schemas/evaluation.schema.json."""
        value = {
            "schema_version": schema.SCHEMA_VERSION,
            "session": self.session,
            "confidence": losses.CONFIDENCE,
            "held_out": None if self.held_out is None else self.held_out.to_json(),
            "answers": [dataclasses.asdict(answer) for answer in self.answers],
            "forgetting": None if self.forgetting is None else self.forgetting.to_json(),
            "forgetting_text": self.forgetting_text,
            "lm_eval": self.harness,
        }
        schema.check(value, "evaluation", "the evaluation")
        return value


@dataclass(frozen=True)
class _Measured:
    held_out: list[RowLoss]
    forgetting: list[RowLoss]
    answers: list[str]


def evaluate(root: Path, *, prompts: Path | None, text: Path | None, tasks: str | None) -> Evaluation:
    """Compare the session's model with its base.

    Raises BadInput (not completed, unreadable or empty files) and MissingHere before anything is loaded.
    """
    folder, state, parameters = session.load(root)
    if state.state != "completed":
        raise BadInput(
            f"{root} is {state.state}, so there is no finished model to evaluate",
            hint=f"finish it with: {starting.command(folder)}",
        )
    outputs.refuse_overwriting({"the session's": folder.evaluation}, files=[prompts, text], data=parameters.data.named)
    asked = [] if prompts is None else read_prompts(prompts)
    known = None if text is None else read_text(text)
    environment.require_packages()
    if tasks is not None:
        harness.require()
    with quiet.stdout_to_stderr():
        windows = _windows(folder, parameters, known)
        with preparing.scratch(folder.root) as space:
            rows = held_out_rows(folder, parameters, space)
            name, revision = text_only(parameters.model.name, parameters.model.revision, space / "before")
            before = _measure(name, revision, folder, rows, windows, asked)
            name, revision = text_only(str(folder.model), None, space / "after")
            after = _measure(name, revision, folder, rows, windows, asked)
        scores = None if tasks is None else harness.compare(parameters.model.name, folder.model, tasks, device())
    answers = zip(asked, before.answers, after.answers, strict=True)
    return Evaluation(
        session=str(root),
        held_out=losses.compare(before.held_out, after.held_out) if rows else None,
        answers=tuple(Answer(*triple) for triple in answers),
        forgetting=losses.compare(before.forgetting, after.forgetting) if windows else None,
        forgetting_text=None if text is None else str(text),
        harness=scores,
    )


def read_prompts(path: Path) -> list[str]:
    """Prompts from a file: one a line, or JSON Lines with a `prompt`. Raises BadInput naming the line."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            found.append(line.strip())
            continue
        try:
            prompt = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError, RecursionError):
            prompt = None
        if not isinstance(prompt, str) or not prompt.strip():
            raise BadInput(f'{path}: line {number} is not {{"prompt": text}}', hint="mend that line")
        found.append(prompt)
    return found


def read_text(path: Path) -> str:
    """The text of a file. Raises BadInput when it is missing, not UTF-8, or blank."""
    text = files.read_text(path, "text file")
    if not text.strip():
        raise BadInput(f"{path} is empty", hint="name a file with text in it")
    return text


def held_out_rows(folder: session.Folder, parameters: Any, space: Path) -> held_out.Rows:
    """The session's held-out rows, by the trained model's tokenizer, read from files in `space`."""
    tokenizer = loading.tokenizer(folder.model)
    prepared = preparing.prepare(parameters.data, tokenizer, parameters.model.max_seq_length, space)
    return held_out.Rows(prepared.held_out)


def _windows(folder: session.Folder, parameters: Any, known: str | None) -> list[Row]:
    """A text in windows of the trained length, every token learned."""
    from ..data.supervision import Supervisor

    if known is None:
        return []
    tokenizer = loading.tokenizer(folder.model)
    supervisor = Supervisor(tokenizer, loss_on="all", max_length=parameters.model.max_seq_length)
    windows: list[Row] = [(example.input_ids, example.labels) for example in supervisor.windows(known)]
    if not any(label != held_out.IGNORED for _, labels in windows for label in labels[1:]):
        raise BadInput("the text is one token long, and a loss needs two", hint="name a file with more text in it")
    return windows


def text_only(name: str, revision: str | None, space: Path) -> tuple[str, str | None]:
    """What to load for `name`: itself, or the language model of a multimodal checkpoint, written to `space`."""
    base = text_model.multimodal_base(name, revision)
    if base is None:
        return name, revision
    multimodal.write_text_model(base, space)
    return str(space), None


def _measure(
    name: str,
    revision: str | None,
    folder: session.Folder,
    rows: held_out.Rows,
    windows: list[Row],
    prompts: Sequence[str],
) -> _Measured:
    """What one model, by the tokenizer of the trained one in the session `folder`, makes of rows and prompts."""
    import torch

    model = loaded(name, revision)
    tokenizer = loading.tokenizer(folder.model)
    broken = loading.first_not_finite(model)
    if broken is not None:
        raise BadInput(
            f"{broken} of model {name} holds a value that is not finite, so it has no loss",
            hint=f"see which weights: {_audit_of(folder)}",
        )
    with loading.explained(f"model {name}", name, doing="used"):
        measured = _Measured(
            held_out=held_out.row_losses(model, rows),
            forgetting=held_out.row_losses(model, windows),
            answers=[_answer(model, tokenizer, prompt) for prompt in prompts],
        )
    if not all(math.isfinite(row.nats) for row in (*measured.held_out, *measured.forgetting)):
        raise BadInput(
            f"a loss of model {name} is not finite: its numbers overflow on these rows",
            hint=f"see which weights are large: {_audit_of(folder)}",
        )
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return measured


def _audit_of(folder: session.Folder) -> str:
    return f"unsloth_fft_tool.py audit --session {word(folder.root)}"


def _answer(model: Any, tokenizer: Any, prompt: str) -> str:
    """The greedy answer; through the chat template where there is one, else as a continuation."""
    import torch

    if tokenizer.chat_template is None:
        given = tokenizer(prompt, return_tensors="pt")
    else:
        turns = [{"role": "user", "content": prompt}]
        given = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    given = {key: value.to(model.device) for key, value in given.items() if key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        output = model.generate(
            **given,
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            eos_token_id=tokenizer.convert_tokens_to_ids(stopping_tokens.of(tokenizer)) or None,
        )
    words: str = tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return words.strip()


def loaded(name: str, revision: str | None = None) -> Any:
    """A model folder or name in the type it is stored in, on the GPU if there is one. Raises BadInput."""
    model = loading.model(name, revision=revision)
    with loading.explained(f"model {name}", name, doing="used"):
        return model.to(device())


def device() -> str:
    """Where models are evaluated here: cuda or cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def write(root: Path, evaluation: Evaluation) -> Path:
    """Write evaluation.json into the session."""
    path = session.Folder(root).evaluation
    files.write_json(path, evaluation.to_json())
    return path
