"""The demo up to the trained model: make a small base model, plan for this machine, init, train."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import BadInput
from ..core.terminal import say
from ..data import json_rows, row_format
from ..data.row_problems import RowProblem
from ..hardware import detection
from ..models import catalogue
from ..planning import data_facts, plan
from ..planning.request import Amount, Pins, Request
from ..settings.parameters import Parameters
from ..training import environment

HERE = Path(__file__).resolve().parent
MAX_LENGTH = 512
EFFECTIVE_BATCH = 8
EPOCHS = 3.0
EVALUATIONS = 4
# A random model this small learns at a rate hundreds of times that of a published one. Of seven pairs tried on a CPU
# on 2026-11-27 (rates 2e-3 to 4e-3, warm-ups 0.1 to 0.2; held-out loss after three passes 3.03 to 3.18) this is the
# calmest: the gradient norm stayed under 5 where five others passed 40, and their loss jumped by 1 to 3 at that step.
LEARNING_RATE = 2e-3
WARMUP = 0.15
QUESTIONS = ("What is full fine-tuning?", "What is gradient accumulation?")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the demo made before training, all in one folder beside the session."""

    base: Path
    parameters: Path
    questions: tuple[str, ...]


def prepare(session_root: Path, dataset: Path | None) -> Prepared:
    """Make the base model, the data and the parameters file in `SESSION.demo`. Raises BadInput for unusable rows."""
    from . import small_model

    own = dataset is not None
    sources = [dataset] if dataset is not None else shipped_data()
    texts = [text for source in sources for text in texts_of(source)]
    home = session_root.with_name(session_root.name + ".demo")
    if home.exists():
        raise BadInput(f"{home} already exists; nothing was changed", hint="choose another --session folder")
    environment.require_packages()
    try:
        with environment.stdout_to_stderr():
            import unsloth  # noqa: F401  (first: it patches what the others define)

            small_model.make(home / "small-llama", texts, max_length=MAX_LENGTH)
        data = dataset if dataset is not None else _joined(sources, home / "questions.jsonl")
        parameters = _planned(home / "small-llama", data)
        files.write_json(home / "params.json", parameters.to_json())
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    say(f"made a base model of {parameters.model.parameters or 0:,} weights in {home / 'small-llama'}")
    return Prepared(home / "small-llama", home / "params.json", _first_questions(data) if own else QUESTIONS)


def shipped_data() -> list[Path]:
    """The shipped questions and answers about full fine-tuning."""
    return sorted(HERE.glob("questions_*.jsonl"))


def texts_of(source: Path) -> Iterator[str]:
    """Every string a tokenizer should know from a data file. Raises BadInput naming the row it cannot read."""
    for number, row in enumerate(json_rows.read_json_rows(source), start=1):
        try:
            yield from _strings(row, row_format.recognise(row))
        except RowProblem as problem:
            raise row_format.describe_problem(problem, number, str(source)) from None


def _strings(row: dict[str, Any], form: str) -> Iterable[str]:
    if form == "text":
        return [row_format.text_of(row)]
    if form == "prompt-completion":
        return row_format.prompt_and_completion_of(row)
    return [message["content"] for message in row_format.messages_of(row, form)]


def _joined(sources: list[Path], target: Path) -> Path:
    files.write_text(target, "".join(source.read_text(encoding="utf-8") for source in sources))
    return target


def _planned(base: Path, data: Path) -> Parameters:
    """The planner's parameters for this machine, evaluated a few times on the way so that the plot says more."""
    request = Request(
        model=str(base),
        shape=catalogue.load_shape(str(base)),
        hardware=detection.detect(),
        seq_length=MAX_LENGTH,
        effective_batch=EFFECTIVE_BATCH,
        exactness="exact",
        objective="sft",
        amount=Amount(epochs=EPOCHS),
        learning_rate=LEARNING_RATE,
        data=data_facts.read_facts(str(data), model=str(base)),
        pins=Pins(micro_batch=EFFECTIVE_BATCH),  # padding is cheap here, a step of its own for each row is not
    )
    parameters = plan.make_plan(request, alternatives=3, dataset=str(data)).parameters
    assert parameters.plan is not None
    steps = parameters.plan.predicted.steps
    schedule = dataclasses.replace(parameters.schedule, warmup_steps=WARMUP, eval_steps=max(1, steps // EVALUATIONS))
    return dataclasses.replace(parameters, schedule=schedule)


def _first_questions(data: Path) -> tuple[str, ...]:
    """The first two questions of the user's own data, for the answers before and after."""
    found: list[str] = []
    for row in json_rows.read_json_rows(data):
        form = row_format.recognise(row)
        if form in ("text", "prompt-completion"):
            continue
        found += [turn["content"] for turn in row_format.messages_of(row, form) if turn["role"] == "user"][:1]
        if len(found) >= 2:
            break
    return tuple(found)
