"""The command line of generate_fft_params.py: flags to a request, and the plan as validated JSON."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..core import control, files, outputs, terminal
from ..core.arguments import Parser, number, precision, whole
from ..core.errors import BadInput
from ..core.shell_words import word
from ..data.formats import FORMATS
from ..hardware import cards
from ..hardware.cards import Hardware
from ..planning.defaults import OBJECTIVES
from ..planning.request import Amount, Pins, Reading, Request
from ..settings.recipes import RANK, RECIPES
from . import columns_flag

if TYPE_CHECKING:
    from ..planning.data_facts import DataFacts
    from ..planning.described_rows import Lengths
    from ..planning.search import Outcome
    from ..settings.parameters import Parameters

DESCRIPTION = """Plan a full fine-tuning run: the fastest settings that fit the memory at hand and really train every
weight, as JSON for unsloth_fft_tool.py. Needs no GPU, no network and no torch."""
EPILOG = """examples:
  generate_fft_params.py --model meta-llama/Llama-3.1-8B --gpu H200 --dataset train.jsonl --output params.json
  generate_fft_params.py --model ./my-model --dataset train.jsonl            plan for this machine
  generate_fft_params.py --model Qwen/Qwen2.5-0.5B --vram-gib 16 --max-steps 1000 --explain
  generate_fft_params.py --model meta-llama/Llama-3.1-8B --vram-gib 40 --host-ram-gib 128 --max-steps 500
  generate_fft_params.py --model meta-llama/Llama-3.1-8B --gpu L40S,A100-80GB,H200 --host-ram-gib 128 --tokens 1e9
  generate_fft_params.py --model ./my-model --gpu A100-80GB --gpus 8 --tokens 1e9 --objective pretrain

stdout carries the JSON parameters and nothing else; with --output FILE they go there alone, unless --json asks for
both. Words go to stderr.
A --dataset path is stored as given, so run `unsloth_fft_tool.py init` from the same folder (or give a full path).
exit codes: 0 planned, 2 bad input, 3 nothing fits (with what would make it fit), 4 something is missing here."""

ANY, SHIPPED = "any", "shipped"
TRACKERS = ("none", "wandb", "trackio", "tensorboard", "mlflow")
DEFAULT_LENGTH = 2048
DEFAULT_ALTERNATIVES = 3

# Bounds of every number, as in schemas/parameters.schema.json: an absurd one is refused before any work.
_GIB = number(0, 2**30)
_PRICE = number(0, 10**6, least=0)
_LENGTH = whole(1, 2**21)
_BATCH = whole(1, 2**20)  # what the accumulation of one GPU may be
_GPUS = whole(1, 1024)
_NODES = whole(1, 2**16)
_NETWORK = number(0, 10**5)


def parser(prog: str = "generate_fft_params.py") -> argparse.ArgumentParser:
    """Every flag, grouped by what it describes; `prog` is what the program is called where it was started."""
    top = Parser(
        prog=prog,
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    top.add_argument("--version", action="version", version=f"unsloth-fft {__version__}")
    _add_task(top)
    _add_hardware(top)
    _add_amount(top)
    _add_pins(top)
    _add_output(top)
    return top


def _add_task(top: argparse.ArgumentParser) -> None:
    group = top.add_argument_group("what to train")
    group.add_argument(
        "--model", required=True, metavar="NAME|DIR|FILE", help="catalogue name, model folder, or config.json"
    )
    group.add_argument(
        "--model-name", metavar="NAME", help="model.name of the plan, where --model is only a file with the shape"
    )
    group.add_argument("--dataset", metavar="PATH|NAME", help="rows to train on; local files and folders are counted")
    group.add_argument(
        "--dataset-elsewhere", action="store_true", help="the data are on another machine: do not look for them here"
    )
    group.add_argument(
        "--rows", type=_tokens, metavar="N", help="how many rows there are, for data that are not read here"
    )
    group.add_argument(
        "--tokens-per-row", type=_lengths, metavar="X", help="and their lengths: 600, 600+-200, or p50=400,p95=1800"
    )
    group.add_argument("--format", choices=FORMATS, help="format of the rows (default: recognised when they are read)")
    group.add_argument("--sample-by", choices=("line", "paragraph", "document"), default="line",
                       help="what is one row of a text file (default line)")  # fmt: skip
    columns_flag.add_to(group)
    group.add_argument("--allow-cut-ends", action="store_true",
                       help="train although more than 1%% of rows lose the end of their last answer")  # fmt: skip
    group.add_argument(
        "--eval-fraction",
        type=number(0, 0.5, least=0),
        metavar="X",
        help="share of rows held out, 0 to 0.5 (default 0.1, at most about 500 rows)",
    )
    group.add_argument(
        "--chat-template", metavar="NAME", help="one of Unsloth's chat templates (default: the tokenizer's own)"
    )
    group.add_argument(
        "--objective", choices=OBJECTIVES, default="sft", help="sft: instructions; pretrain: raw text (default sft)"
    )
    group.add_argument("--report-to", choices=TRACKERS, default="none",
                       help="tracker that gets the metrics, too (default none; wandb sends them away)")  # fmt: skip
    group.add_argument("--prefer", choices=("speed", "memory"), default="speed",
                       help="of the plans that fit, the fastest or the smallest (default speed)")  # fmt: skip
    group.add_argument("--exactness", choices=tuple(sorted(RANK, key=lambda name: -RANK[name])), default="exact",
                       help="how weight updates must be kept (default exact)")  # fmt: skip
    group.add_argument(
        "--learning-rate", type=number(0, 1), metavar="X", help="peak rate (default: by objective and size)"
    )
    group.add_argument(
        "--seq-length",
        "--max-seq-length",
        dest="seq_length",
        type=_LENGTH,
        metavar="N",
        help=f"tokens a row (default {DEFAULT_LENGTH}, or the model's limit)",
    )
    group.add_argument("--effective-batch", type=_BATCH, metavar="N",
                       help="rows an optimizer step, over all GPUs (default 16, or 4 for each GPU)")  # fmt: skip


def _add_hardware(top: argparse.ArgumentParser) -> None:
    group = top.add_argument_group("on what")
    group.add_argument(
        "--gpu",
        metavar="NAME|auto",
        twice="write --gpu A,B,C",
        help="card, or auto for this machine (default auto; CPU without a GPU); A,B,C compares several, any all",
    )
    group.add_argument("--vram-gib", type=_GIB, metavar="X", help="usable GiB of each GPU, alone or to cap --gpu NAME")
    group.add_argument("--gpus", type=_GPUS, metavar="N", help="GPUs a node (default 1, or what auto finds)")
    group.add_argument("--nodes", type=_NODES, default=1, metavar="N", help="nodes (default 1)")
    group.add_argument(
        "--network-gbs", type=_NETWORK, metavar="X", help="GB/s between nodes for each GPU (default 50: 400 Gb/s)"
    )
    group.add_argument(
        "--host-ram-gib",
        type=_GIB,
        metavar="X",
        help="host memory of a node, for offloading (sold as 128 GB: 128)",
    )
    group.add_argument("--price-per-hour", type=_PRICE, metavar="X", help="USD for one GPU-hour, to predict the cost")
    group.add_argument(
        "--prices",
        metavar="FILE",
        help="your price table (schemas/prices.schema.json), or 'shipped' for dated public ones",
    )


def _add_amount(top: argparse.ArgumentParser) -> None:
    group = top.add_argument_group("how much (at most one)").add_mutually_exclusive_group()
    group.add_argument(
        "--epochs", type=number(0, 10**6), metavar="X", help="passes over the data (default: by objective)"
    )
    group.add_argument("--max-steps", type=whole(1, 2**31 - 1), metavar="N", help="optimizer steps")
    group.add_argument("--tokens", type=_tokens, metavar="N", help="tokens, for example 1e9 or 100M")


def _add_pins(top: argparse.ArgumentParser) -> None:
    group = top.add_argument_group("knobs (leave them out to let the planner choose)")
    group.add_argument(
        "--precision", type=precision, choices=("float32", "bfloat16"), help="type the weights are stored in"
    )
    group.add_argument(
        "--optimizer", choices=tuple(sorted({recipe.optimizer for recipe in RECIPES})), help="as `optim` names it"
    )
    group.add_argument("--state-offload", choices=("on", "off"), help="optimizer state in host memory between steps")
    group.add_argument("--gradient-offload", choices=("on", "off"), help="gradients in host memory until the step")
    group.add_argument(
        "--weight-offload", choices=("on", "off"), help="stream the layers' weights from host memory; only if asked"
    )
    group.add_argument(
        "--gradient-checkpointing", choices=("unsloth", "true", "off"), help="activation checkpointing mode"
    )
    group.add_argument(
        "--checkpointed-layers",
        type=whole(1, 10_000),
        metavar="N",
        help="layers to recompute (default: as few as fit, or all)",
    )
    group.add_argument(
        "--compute", choices=("bfloat16", "float8"), help="type of the matrix products; float8 is taken only if asked"
    )
    group.add_argument("--micro-batch", type=whole(1, 2**16), metavar="N", help="rows a GPU holds at once")
    group.add_argument("--grad-accumulation", type=whole(1, 2**20), metavar="N", help="micro-batches an optimizer step")


def _add_output(top: argparse.ArgumentParser) -> None:
    group = top.add_argument_group("output")
    group.add_argument("--output", metavar="FILE", help="write the JSON here too, atomically")
    group.add_argument(
        "--explain", action="store_true", help="table to stderr: what was considered, what fits, what won"
    )
    group.add_argument("--alternatives", type=whole(0, 1000), default=DEFAULT_ALTERNATIVES, metavar="N",
                       help=f"runners-up in the JSON (default {DEFAULT_ALTERNATIVES})")  # fmt: skip
    group.add_argument(
        "--json", action="store_true", help="errors as a JSON object on stdout, and the plan with --output, too"
    )


def main(arguments: Sequence[str] | None = None, prog: str = "generate_fft_params.py") -> int:
    """Plan, print the JSON, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return terminal.run(lambda: _run(parser(prog).parse_args(given), given), as_json="--json" in given)


def _run(args: argparse.Namespace, given: Sequence[str]) -> int:
    # Imported here: --help must not wait for them.
    from ..planning import float8_offer
    from ..planning.plan import plan_from
    from ..planning.table import explain

    outputs.refuse_overwriting({"--output": args.output}, files=[args.prices], models=[args.model], data=[args.dataset])
    request, outcome = _searched(args)
    if args.explain:
        terminal.say(explain(outcome))
    planned = plan_from(request, outcome, alternatives=args.alternatives, dataset=args.dataset)
    text = files.to_json(planned.parameters.to_json())
    if args.output:
        files.write_text(Path(args.output), text)
    if args.explain:
        for sentence in planned.parameters.plan.why if planned.parameters.plan else ():
            terminal.say(f"- {sentence}")
        for sentence in float8_offer.sentences(request, outcome):
            terminal.say(f"- {sentence}")
    _tell(planned.parameters, args.output, given)
    if args.output is None or args.json:
        terminal.emit_text(text)
    return 0


def _tell(planned: Parameters, output: str | None, given: Sequence[str]) -> None:
    """The plan in a few lines on stderr, the next command, and what is to be known beside them."""
    from ..planning import summary

    for line in summary.lines(planned):
        terminal.say(line)
    named = planned.data.dataset is not None or bool(planned.data.sources)
    if output is None:
        keeping = shlex.join([*given, "--output", outputs.unused("params.json")])
        terminal.say(f"next: generate_fft_params.py {keeping}")
    elif named:
        session = shlex.quote(outputs.unused("run-1"))
        terminal.say(f"next: unsloth_fft_tool.py init --params {word(output)} --session {session}")
    for warning in planned.plan.warnings if planned.plan else ():
        terminal.say(f"warning: {warning}")
    if not named:
        terminal.say("note: a run needs its data by name: plan again with --dataset, or --dataset-elsewhere as well")
    elif output is not None:
        script = word(outputs.unused("train_fft.py"))
        terminal.say(f"elsewhere: unsloth_fft_tool.py render --params {word(output)} --target script --output {script}")


def _searched(args: argparse.Namespace) -> tuple[Request, Outcome]:
    """The request and its search; of several cards those of the card to take, after a table of all."""
    from ..planning.search import search

    requests = requests_from(args)
    if len(requests) == 1:
        return requests[0], search(requests[0])
    from ..planning import comparison

    entries = comparison.compare(requests, more_gpus=args.gpu == ANY and args.gpus is None)
    terminal.say(comparison.table(entries, brief=args.gpu == ANY))
    best = comparison.chosen(entries)
    price = _listed_price(args, best.request.hardware)
    if price is not None:
        name = best.request.hardware.name
        terminal.say(f"note: {name} at {price.usd_per_hour:g} USD an hour ({price.source}, {price.date})")
    assert best.outcome is not None
    return best.request, best.outcome


def requests_from(args: argparse.Namespace) -> list[Request]:
    """A request for each card of --gpu, where several are named with commas; the rest is read once."""
    names = [name.strip() for name in (args.gpu or "").split(",")]
    if names == [ANY]:
        names = [gpu.name for gpu in cards.gpus()]
    if len(names) == 1:
        return [request_from(args)]
    if not all(names):
        raise BadInput(f"--gpu {args.gpu} names an empty card", hint="write --gpu A,B,C")
    first = request_from(argparse.Namespace(**{**vars(args), "gpu": names[0]}))
    found = {first.hardware.name: first}
    for name in names[1:]:
        machine = _hardware(argparse.Namespace(**{**vars(args), "gpu": name}))
        found.setdefault(machine.name, replace(first, hardware=machine, price_per_hour=_price(args, machine)))
    one_price = len(found) > 1 and args.price_per_hour is not None
    return [replace(request, one_price=one_price) for request in found.values()]


def request_from(args: argparse.Namespace) -> Request:
    """The request that parsed flags ask for. Raises BadInput or MissingHere where they cannot be met."""
    from ..models import catalogue, source
    from ..planning import default_batch, held_out

    _check_names(args)
    _check_data(args)
    amount = Amount(args.epochs, args.max_steps, args.tokens)
    _check_amount(args, amount)
    shape = source.resolve(args.model)
    machine = _hardware(args)
    columns = columns_flag.read(args.columns)
    facts = _facts(args, columns)
    length = _length(args.seq_length, shape.max_positions, args.model)
    batch = args.effective_batch or default_batch.rows_for(machine.gpus * machine.nodes)
    share = held_out.usual_share(facts, amount, batch * length)
    eval_fraction = share if args.eval_fraction is None else args.eval_fraction
    return Request(
        model=args.model_name or catalogue.published_name(args.model),
        shape=shape,
        hardware=machine,
        seq_length=length,
        effective_batch=batch,
        batch_by_default=args.effective_batch is None,
        exactness=args.exactness,
        objective=args.objective,
        amount=amount,
        learning_rate=args.learning_rate,
        data=facts,
        unread=args.dataset if facts is None else None,
        price_per_hour=_price(args, machine),
        pins=Pins(
            weights=args.precision,
            optimizer=args.optimizer,
            state_offload=None if args.state_offload is None else args.state_offload == "on",
            gradient_offload=None if args.gradient_offload is None else args.gradient_offload == "on",
            checkpointing=args.gradient_checkpointing,
            checkpointed_layers=args.checkpointed_layers,
            compute=args.compute,
            weight_offload=None if args.weight_offload is None else args.weight_offload == "on",
            micro_batch=args.micro_batch,
            accumulation=args.grad_accumulation,
        ),
        given=_hardware_flags(args),
        prefer=args.prefer,
        report_to=args.report_to,
        reading=Reading(
            chat_template=args.chat_template,
            sample_by=args.sample_by,
            eval_fraction=eval_fraction,
            form=args.format,
            columns=tuple(columns.items()),
            ignored_columns=tuple(args.ignore_columns),
            allow_cut_ends=args.allow_cut_ends,
        ),
    )


def _facts(args: argparse.Namespace, columns: dict[str, str]) -> DataFacts | None:
    """What is known of the rows: read from the file, or as they were described; None where neither."""
    from ..planning import data_facts

    read_here = args.dataset is not None and not args.dataset_elsewhere
    told = (args.sample_by, columns, args.ignore_columns)
    named = {"form": args.format or "auto", "model": args.model, "template": args.chat_template}
    found = data_facts.read_facts(args.dataset, *told, **named) if read_here else None
    if args.rows is None and args.tokens_per_row is None:
        return found
    if found is not None:
        raise BadInput(
            f"--rows and --tokens-per-row describe data that are elsewhere, and {args.dataset} was read here:"
            f" {found.rows:,} rows",
            hint="leave them out, or add --dataset-elsewhere",
        )
    if args.rows is None or args.tokens_per_row is None:
        given, lacking = ("--rows", "--tokens-per-row X") if args.rows else ("--tokens-per-row", "--rows N")
        raise BadInput(f"{given} alone does not say how much data there is", hint=f"add {lacking}")
    from ..planning import described_rows

    form = args.format or ("text" if args.objective == "pretrain" else None)
    return described_rows.facts(args.rows, args.tokens_per_row, form)


def _hardware_flags(args: argparse.Namespace) -> frozenset[str]:
    flags = {"--vram-gib": args.vram_gib, "--host-ram-gib": args.host_ram_gib, "--gpus": args.gpus}
    return frozenset(flag for flag, value in flags.items() if value is not None)


def _check_names(args: argparse.Namespace) -> None:
    """Refuse what no parameters file may hold, before it is looked for."""
    flags = {"--model": args.model, "--model-name": args.model_name, "--dataset": args.dataset}
    for flag, name in {**flags, "--chat-template": args.chat_template}.items():
        if name is not None and (found := control.first_control(name)) is not None:
            raise BadInput(
                f"{flag} {name} holds {found}, a line break, control character or byte that is not UTF-8",
                hint="rename it: job files and other programs cannot carry such a name",
            )


def _check_data(args: argparse.Namespace) -> None:
    if args.dataset is None:
        for flag, value in (("--dataset-elsewhere", args.dataset_elsewhere), ("--sample-by", args.sample_by != "line")):
            if value:
                raise BadInput(f"{flag} says something about data, and none are named", hint="add --dataset FILE")
        return
    from ..data import folders, opening  # only a plan with data pays for it

    if args.sample_by != "line" and opening.kind(Path(args.dataset)) in (*folders.JSON, *folders.TABLES):
        raise BadInput(
            f"--sample-by {args.sample_by} is for text files, and {args.dataset} has rows of its own",
            hint="leave --sample-by out",
        )


def _check_amount(args: argparse.Namespace, amount: Amount) -> None:
    if args.dataset is None and args.rows is None and amount.in_passes:
        raise BadInput(
            "neither data nor an amount of training was given",
            hint="add --dataset FILE, or --rows N --tokens-per-row X, or say how much with --max-steps N or --tokens N",
        )


def _length(asked: int | None, limit: int, model: str) -> int:
    if asked is None:
        return min(DEFAULT_LENGTH, limit)
    if asked > limit:
        raise BadInput(
            f"--seq-length {asked} is longer than the {limit} positions {model} has",
            hint=f"use --seq-length {limit} or less",
        )
    return asked


def _hardware(args: argparse.Namespace) -> Hardware:
    if args.network_gbs is None:
        return _machine(args)
    if args.nodes == 1:
        raise BadInput(
            "--network-gbs is of the network between nodes, and one node was asked for", hint="add --nodes N"
        )
    return replace(_machine(args), network_gbs=args.network_gbs)


def _machine(args: argparse.Namespace) -> Hardware:
    gpus, nodes, host = args.gpus or 1, args.nodes, args.host_ram_gib
    if args.gpu not in (None, "auto"):
        machine = cards.on_gpu(cards.find_gpu(args.gpu), gpus=gpus, nodes=nodes, host_ram_gib=host)
        return _capped(machine, args.vram_gib)
    if args.vram_gib is not None:
        return cards.on_memory(args.vram_gib, gpus=gpus, nodes=nodes, host_ram_gib=host)
    from ..hardware import detection  # looking at this machine is slower than planning for another

    found = detection.detect()
    if found.is_cpu and gpus * nodes > 1:
        raise BadInput("this machine has no GPU to plan several of", hint="name the card: --gpu NAME --gpus N")
    if found.is_cpu:
        return found if host is None else replace(found, vram_gib=host, host_ram_gib=host)
    return replace(found, gpus=args.gpus or found.gpus, nodes=nodes, host_ram_gib=host or found.host_ram_gib)


def _capped(machine: Hardware, vram_gib: float | None) -> Hardware:
    if vram_gib is None:
        return machine
    if vram_gib > machine.vram_gib:
        raise BadInput(
            f"--vram-gib {vram_gib:g} is more than the {machine.vram_gib:g} GiB a {machine.name} has",
            hint="leave --vram-gib out, or name another card",
        )
    return replace(machine, vram_gib=vram_gib)


def _price(args: argparse.Namespace, machine: Hardware) -> float | None:
    if args.price_per_hour is not None:
        if args.prices is not None:
            raise BadInput("--price-per-hour and --prices both name the price", hint="leave one of them out")
        return float(args.price_per_hour)
    price = _listed_price(args, machine)
    return price.usd_per_hour if price else None


def _listed_price(args: argparse.Namespace, machine: Hardware) -> cards.Price | None:
    """The price of one card in the table of --prices."""
    if args.prices is None:
        return None
    return cards.price_per_hour(machine.name, cards.SHIPPED_PRICES if args.prices == SHIPPED else Path(args.prices))


def _lengths(text: str) -> Lengths:
    from ..planning import described_rows

    try:
        return described_rows.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {described_rows.EXPECTED}") from None


def _tokens(text: str) -> int:
    """A whole number that may end in k, M or B, for thousands, millions and billions."""
    zeros = {"k": "e3", "m": "e6", "b": "e9"}.get(text[-1:].lower())
    try:
        return _MANY(text[:-1] + zeros if zeros else text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text[:60]!r} is not a whole number from 1 to 1e18, like 1e9, 500k, 100M or 1B"
        ) from None


_MANY = whole(1, 10**18)
