"""data: examine a data set as training would read it, and say what is wrong, wasted or repeated."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from ..core import files, installing, outputs, schema, terminal
from ..core.arguments import number, whole
from ..core.errors import EXIT_BAD_INPUT, EXIT_DONE, BadInput, MissingHere
from ..core.shell_words import word
from ..data.formats import FORMATS
from ..data_doctor import checking, first_lines
from ..data_doctor.report import Report
from ..models import hub_cache
from ..settings import parameters
from ..settings.parameters import Data, Parameters
from . import columns_flag

EPILOG = """examples:
  unsloth_fft_tool.py data rows.jsonl                       faults with their lines, tokens estimated: needs no package
  unsloth_fft_tool.py data rows.jsonl --model MODEL_DIR     lengths, what is learned, and repeats as well
  unsloth_fft_tool.py data rows.jsonl --model MODEL_DIR --max-seq-length 2048 --json
  unsloth_fft_tool.py data --params params.json --report data.html      the data and settings of a plan

exit codes: 0 training would take the data (read the warnings), 2 training would refuse them. Without --model, 0 says
that the files hold no fault; whether their rows suit the model is then still open."""

TO_COUNT = ("numpy", "tokenizers", "transformers", "jinja2")
DEFAULT_MICRO_BATCH = 4
DEFAULT_EFFECTIVE_BATCH = 16
# What says nothing without a tokenizer.
OF_TOKENS = (
    *("max_seq_length", "loss_on", "chat_template", "eval_fraction", "seed"),
    *("micro_batch", "effective_batch", "report"),
)


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "data",
        help="examine a data set: lengths, what is learned, repeats, faults with line numbers",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("dataset", nargs="*", metavar="FILE", help="file, folder or Hub name; several are mixed")
    command.add_argument(
        "--model", type=Path, metavar="DIR", help="folder with tokenizer.json, or a downloaded model, to count"
    )
    command.add_argument("--params", type=Path, metavar="F", help="take data, model and lengths from a parameters file")
    command.add_argument(
        "--max-seq-length",
        "--seq-length",
        dest="max_seq_length",
        type=whole(1, 2**21),
        metavar="N",
        help="tokens at which rows are cut (recommended)",
    )
    columns_flag.add_to(command)
    command.add_argument("--format", choices=["auto", *FORMATS], help="row format (auto)")
    command.add_argument("--loss-on", choices=["responses", "all"], help="what is learned (responses)")
    command.add_argument("--chat-template", metavar="NAME", help="one of Unsloth's templates in place of the model's")
    command.add_argument(
        "--eval-fraction", type=number(0, 0.5, least=0), metavar="X", help="share of rows held out (0.1)"
    )
    command.add_argument("--seed", type=whole(0, 2**32 - 1), metavar="N", help="seed of the split")
    command.add_argument(
        "--micro-batch", type=whole(1, 2**16), metavar="N", help=f"rows padded together ({DEFAULT_MICRO_BATCH})"
    )
    command.add_argument(
        "--effective-batch", type=whole(1, 2**20), metavar="N", help=f"rows a step ({DEFAULT_EFFECTIVE_BATCH})"
    )
    command.add_argument("--sample-by", choices=["line", "paragraph", "document"], help="rows of a text file (line)")
    command.add_argument("--report", type=Path, metavar="FILE.html", help="also write a page")
    command.add_argument("--full", action="store_true", help="also the whole table, lengths and the first rows")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `data` command."""
    # FILE may stand after the pairs of --columns.
    args.dataset += [word for word in args.columns if "=" not in word]
    args.columns = [word for word in args.columns if "=" in word]
    given = parameters.load(args.params) if args.params else None
    data, model = _data(args, given), _model(args, given)
    outputs.refuse_overwriting(
        {"--report": args.report},
        files=[args.params],
        models=[model],
        data=data.named,
    )
    if model is None:
        return _check_files(args, data)
    missing = [name for name in TO_COUNT if importlib.util.find_spec(name) is None]
    if missing:
        return _without_counting(args, data, missing)
    from ..data_doctor import examination, page, tokenizer

    micro_batch = given.batch.per_device_train_batch_size if given else DEFAULT_MICRO_BATCH
    effective_batch = given.batch.effective_batch_size if given else DEFAULT_EFFECTIVE_BATCH
    plan = examination.Intended(
        max_seq_length=args.max_seq_length or (given.model.max_seq_length if given else None),
        micro_batch=args.micro_batch or micro_batch,
        effective_batch=args.effective_batch or effective_batch,
    )
    report = examination.examine(data, tokenizer.load(model, data.chat_template), plan)
    value = report.to_json()
    if args.report:
        from ..reporting.page import STYLE

        files.write_text(args.report, page.page(report, STYLE))
    if args.json:
        terminal.emit(value)
    else:
        _tell(
            first_lines.of_report(report), _next(args, model, report), report, page.table(report) if args.full else None
        )
    return EXIT_BAD_INPUT if report.is_refused else EXIT_DONE


def _without_counting(args: argparse.Namespace, data: Data, missing: list[str]) -> int:
    """The files' faults and an estimate, said to be that, where packages to count with are not installed."""
    reason = f"not installed: {', '.join(missing)}; so tokens are estimated, and what is learned is not looked at"
    if args.report:
        raise MissingHere(f"{reason}: there is nothing for --report", hint=installing.hint(*missing))
    terminal.say(f"warning: {reason}. To count them: {installing.hint(*missing)}")
    return _answer(args, dataclasses.replace(checking.check(data), not_checked=reason))


def _check_files(args: argparse.Namespace, data: Data) -> int:
    """What can be said without a tokenizer: every fault of the files."""
    asked = [f"--{name.replace('_', '-')}" for name in OF_TOKENS if getattr(args, name) is not None]
    if asked:
        raise BadInput(
            f"{', '.join(asked)} needs --model DIR: tokens cannot be counted without its tokenizer",
            hint="add --model DIR, or leave it out to look for faults alone",
        )
    return _answer(args, checking.check(data))


def _tell(first: list[str], next_command: str | None, found: Report | checking.Check, table: str | None) -> None:
    """The answer, the next command, then what deserves a look: in the whole table where that was asked for."""
    for line in first:
        terminal.say(line)
    if next_command is not None:
        terminal.say(f"next: {next_command}")
    for line in [f"\n{table}"] if table is not None else first_lines.below(found):
        terminal.say(line)


def _next(args: argparse.Namespace, model: Path, report: Report) -> str | None:
    """The session of the plan that was examined, or a plan for the one data set, as it was read; None where neither."""
    if report.is_refused:
        return None
    if args.params is not None:
        session = word(outputs.unused("run-1"))
        return f"unsloth_fft_tool.py init --params {word(args.params)} --session {session}"
    if len(args.dataset) != 1:
        return None
    length = args.max_seq_length or report.recommended.max_seq_length
    words: list[object] = ["--model", args.model or model, "--dataset", args.dataset[0], "--seq-length", length]
    flags = {"--format": args.format if args.format != "auto" else None, "--chat-template": args.chat_template}
    flags |= {"--sample-by": args.sample_by, "--eval-fraction": args.eval_fraction}
    words += [part for flag, value in flags.items() if value is not None for part in (flag, value)]
    words += ["--columns", *args.columns] if args.columns else []
    words += ["--ignore-columns", *args.ignore_columns] if args.ignore_columns else []
    given = " ".join(flag if flag[:2] == "--" else word(flag) for flag in map(str, words))
    return f"generate_fft_params.py {given} --output {word(outputs.unused('params.json'))}"


def _answer(args: argparse.Namespace, found: checking.Check) -> int:
    if args.json:
        terminal.emit(found.to_json())
    else:
        _tell(first_lines.of_check(found), None, found, checking.table(found) if args.full else None)
    return EXIT_BAD_INPUT if found.is_refused else EXIT_DONE


def _data(args: argparse.Namespace, given: Parameters | None) -> Data:
    """The data section to examine: that of the parameters file, or defaults, with what was said on top."""
    if given is None and not args.dataset:
        raise BadInput(
            "data needs a file to examine", hint="use: data FILE, data FILE --model DIR, or: data --params F"
        )
    section = schema.load("parameters")["properties"]["data"]
    base = given.data if given else Data(**parameters.with_defaults({}, section))
    changes: dict[str, Any] = {
        name: value
        for name in ("format", "loss_on", "chat_template", "eval_fraction", "seed", "sample_by")
        if (value := getattr(args, name)) is not None
    }
    changes |= columns_flag.given(args)
    if args.dataset:
        changes["dataset"] = args.dataset[0] if len(args.dataset) == 1 else None
        changes["sources"] = [{"dataset": name} for name in args.dataset] if len(args.dataset) > 1 else []
    return dataclasses.replace(base, **changes)


def _model(args: argparse.Namespace, given: Parameters | None) -> Path | None:
    """The folder of the tokenizer to count with, that of a downloaded model included; None when none was named."""
    if args.model:
        return hub_cache.find(str(args.model)) or Path(args.model)
    return None if given is None else hub_cache.find(given.model.name, given.model.revision) or Path(given.model.name)
