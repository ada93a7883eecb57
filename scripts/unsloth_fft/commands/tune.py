"""tune: a learning rate measured by short runs on your own rows and model, written into a copy of the parameters."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core import files, locks, outputs, schema, terminal
from ..core.arguments import number
from ..core.errors import BadInput
from ..core.shell_words import word
from ..planning import duration
from ..reporting import tuning_curve
from ..settings import parameters
from ..settings.parameters import Parameters
from ..tuning import halving, short_runs
from ..tuning.halving import Try

SHARE, LARGEST_SHARE = 0.05, 10
EPILOG = """examples:
  unsloth_fft_tool.py tune --params params.json --folder tuning --output tuned.json
  unsloth_fft_tool.py tune --params params.json --folder tuning --rates 1e-5,5e-5,2e-4 --share 0.1 --output tuned.json
  unsloth_fft_tool.py tune --params params.json --folder tuning --plan            what it would take; trains nothing

Short runs of all rates, then longer ones of the better half, until two are left. The same command goes on after a stop.
A short run may favour a larger rate than a long one does: where the two best are close, take the smaller."""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "tune",
        help="measure a learning rate by short runs on your rows",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("--params", required=True, type=Path, metavar="F", help="file from generate_fft_params.py")
    command.add_argument("--folder", required=True, type=Path, metavar="DIR", help="for the tries, and tuning.json")
    command.add_argument("--output", type=Path, metavar="FILE", help="the parameters with the measured rate")
    command.add_argument(
        "--rates", type=_rates, metavar="A,B,C", help="rates to try (default: three to seven around the planned)"
    )
    command.add_argument(
        "--share",
        type=number(0, LARGEST_SHARE),
        default=SHARE,
        metavar="X",
        help=f"of the run's steps, at most (default {SHARE})",
    )
    command.add_argument(
        "--minutes", type=number(0, 10**6), metavar="X", help="instead of --share; needs a plan in the file"
    )
    command.add_argument("--plan", action="store_true", help="say what it would take; train nothing")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `tune` command."""
    given = parameters.load(args.params)
    written = {f"--folder's {path.name}": path for path in short_runs.files_of(args.folder)}
    outputs.refuse_overwriting(
        {"--output": args.output, **written}, files=[args.params], models=[given.model.name], data=given.data.named
    )
    budget = _budget(given, args)
    rates = args.rates or halving.rates_around(given.optimizer.learning_rate, budget)
    rounds = halving.rounds(len(rates), budget)
    steps = sum(one.rates * one.steps for one in rounds)
    for line in _outlook(given, rates, rounds, steps):
        terminal.say(terminal.fold(line, 11))
    if args.plan:
        terminal.say(f"next: {_without_plan(args)}")
        return 0
    if args.output is None:
        raise BadInput(
            "tune writes the parameters with the measured rate; --output is missing", hint="--output tuned.json"
        )
    files.require_place(args.output)  # now, and not after the runs
    short_runs.require_held_out(given)
    with files.explained(args.folder):
        args.folder.mkdir(parents=True, exist_ok=True)
    outputs.refuse_links(args.folder, [path.name for path in short_runs.files_of(args.folder)])
    with _held(args.folder):
        found = _found(given, rates, _tried(given, args.folder, rates, budget))
        schema.check(found, "tuning", "the tuning")
        files.write_json(args.folder / short_runs.RESULT, found)
        files.write_text(args.folder / short_runs.CURVE, tuning_curve.page(found))
        files.write_json(args.output, _tuned(given, found, args.folder).to_json())
    _tell(found, args)
    return 0


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder for this process alone: two would remove each other's tries."""
    try:
        with files.explained(folder):
            held = locks.take(folder / short_runs.LOCK, 0)
    except locks.HeldElsewhere:
        raise BadInput(f"another process is tuning in {folder}", hint="wait for it, or name another --folder") from None
    with held:
        yield


def _tried(given: Parameters, folder: Path, rates: Any, budget: int) -> list[list[Try]]:
    runs = short_runs.ShortRuns(given, folder)
    tried = []
    for tries in halving.search(rates, budget, runs.attempt):
        losses = ", ".join(
            f"{one.learning_rate:g}: {'diverged' if one.loss is None else f'{one.loss:.4f}'}" for one in tries
        )
        terminal.say(terminal.fold(f"{f'{tries[0].steps} steps':<11}{losses}", 11))
        tried.append(tries)
    return tried


def _budget(given: Parameters, args: argparse.Namespace) -> int:
    """Optimizer steps that the tries may take together."""
    whole = short_runs.planned_steps(given)
    if args.minutes is not None:
        predicted = None if given.plan is None else given.plan.predicted
        if predicted is None or not predicted.hours or not predicted.steps:
            raise BadInput("--minutes needs a plan with predicted hours in the file", hint="give --share instead")
        return int(min(LARGEST_SHARE, args.minutes / 60 / predicted.hours) * predicted.steps)
    if whole is None:
        return halving.least_budget(len(args.rates or halving.FACTORS[0]))
    return int(args.share * whole)


def _without_plan(args: argparse.Namespace) -> str:
    """The same command as one that tries."""
    words = ["tune", "--params", word(args.params), "--folder", word(args.folder)]
    words += ["--rates", ",".join(f"{rate:g}" for rate in args.rates)] if args.rates else []
    words += ["--share", f"{args.share:g}"] if args.share != SHARE else []
    words += ["--minutes", f"{args.minutes:g}"] if args.minutes is not None else []
    return " ".join(["unsloth_fft_tool.py", *words, "--output", word(args.output or outputs.unused("tuned.json"))])


def _outlook(given: Parameters, rates: Any, rounds: list[halving.Round], steps: int) -> list[str]:
    """What it will take, before anything is trained, in a line or two."""
    plan = " then ".join(f"{one.rates} x {one.steps}" for one in rounds)
    lines = [f"tries      {len(rates)} rates, {min(rates):g} to {max(rates):g}: {plan} steps, {steps:,} in all"]
    if given.plan is None or not given.plan.predicted.steps:
        return lines
    predicted = given.plan.predicted
    share = steps / predicted.steps
    cost = "" if predicted.cost_usd is None else f", {share * predicted.cost_usd:.2f} USD"
    starts = sum(one.rates for one in rounds)
    takes = duration.in_words(share * predicted.hours)
    return [*lines, f"takes      {share:.0%} of the run, {takes}{cost} by the plan, and {starts} starts"]


def _found(given: Parameters, rates: Any, tried: list[list[Try]]) -> dict[str, Any]:
    chosen = halving.best(tried[-1]).learning_rate
    steps = sum(one.steps for tries in tried for one in tries)
    whole = short_runs.planned_steps(given)
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "chosen": chosen,
        "planned": given.optimizer.learning_rate,
        "edge": halving.at_edge(chosen, rates),
        "run_steps": whole,
        "tuning_steps": steps,
        "share": None if whole is None else steps / whole,
        "rounds": [[dataclasses.asdict(one) for one in tries] for tries in tried],
    }


def _tuned(given: Parameters, found: dict[str, Any], folder: Path) -> Parameters:
    last = found["rounds"][-1]
    words = (
        f"tune: lowest held-out loss of {len(last)} rates after {last[0]['steps']} steps each,"
        f" {found['tuning_steps']} steps in all ({short_runs.RESULT})"
    )
    measured = dataclasses.replace(
        given.optimizer,
        learning_rate=found["chosen"],
        learning_rate_from=words[:300],
        tuning=str(folder / short_runs.RESULT),
    )
    return dataclasses.replace(given, optimizer=measured)


def _tell(found: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json:
        terminal.emit(found)
    else:
        terminal.say(f"rate       {found['chosen']:g} (planned: {found['planned']:g}), written to {args.output}")
        terminal.say(f"curve      {args.folder / short_runs.CURVE}")
        session = word(outputs.unused("run-1"))
        terminal.say(f"next: unsloth_fft_tool.py init --params {word(args.output)} --session {session}")
    if found["edge"] is not None:
        beyond = "larger" if found["edge"] == "upper" else "smaller"
        terminal.say(
            f"warning: {found['chosen']:g} is at the edge of what was tried; a {beyond} rate may be better still:"
            f" give --rates beyond it"
        )


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 1e-5,5e-5,2e-4") from None
    if len(rates) < 2 or len(rates) > 32 or not all(0 < rate <= 1 for rate in rates):
        raise argparse.ArgumentTypeError(f"{text!r}: two to 32 different rates above 0 and at most 1 are expected")
    return tuple(rates)
