"""predict: the share of weights whose updates will survive rounding, before training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core import files, installing, outputs, terminal
from ..core.arguments import number, precision
from ..core.columns import aligned
from ..core.errors import BadInput
from ..settings.recipes import OPTIMIZERS

EPILOG = """examples:
  unsloth_fft_tool.py predict --model Qwen/Qwen2.5-0.5B --learning-rate 1e-5 --precision bfloat16
  unsloth_fft_tool.py predict --model models/base --learning-rate 2e-5 --precision bfloat16 --plot survival.png
  unsloth_fft_tool.py predict --model models/base --learning-rate 1e-5 --precision float32 --json

A folder, a safetensors file or a downloaded Hub model is streamed and its real weights are counted. For a name of
the catalogue, or a folder with only a config.json, the models whose weights were counted stand in, and the answer is a
range: its curve is the middle one's, and the rate that is needed holds for all of them."""


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "predict",
        help="the share of weights whose updates will survive, before training",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("--model", required=True, metavar="NAME|DIR", help="checkpoint, downloaded or catalogue name")
    command.add_argument("--learning-rate", type=number(0, 1), required=True, metavar="X", help="peak learning rate")
    command.add_argument(
        "--precision",
        type=precision,
        choices=("float32", "bfloat16"),
        required=True,
        help="type of the weights while training",
    )
    command.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw_8bit", help="default: adamw_8bit")
    command.add_argument(
        "--stochastic-rounding", action="store_true", help="adamw_torch_8bit with bf16_stochastic_round=True"
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="also write the whole JSON there")
    command.add_argument("--plot", type=Path, metavar="FILE", help="write the curve as PNG (needs matplotlib)")
    command.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table: a summary")
    command.add_argument("--full", action="store_true", help="with --json: the whole curve")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `predict` command."""
    from ..auditing import predict, summary

    if args.stochastic_rounding and args.optimizer != "adamw_torch_8bit":
        raise BadInput(
            f"--stochastic-rounding is an option of adamw_torch_8bit, not of {args.optimizer}",
            hint="add --optimizer adamw_torch_8bit",
        )
    outputs.refuse_overwriting({"--output": args.output, "--plot": args.plot}, models=[args.model])
    options = {"bf16_stochastic_round": True} if args.stochastic_rounding else {}
    found = predict.predict(args.model, args.learning_rate, args.precision, args.optimizer, options)
    value = found.to_json()
    if args.output is not None:
        files.write_json(args.output, value)
    if args.plot is not None:
        files.write_bytes(args.plot, _plot(value))
    if args.json and args.full:
        terminal.emit(value)
    elif args.json:
        terminal.emit_short(summary.of_prediction(value))
    else:
        terminal.show(_table(value))
    return 0


def _table(value: dict[str, Any]) -> str:
    from ..reporting.audit_table import share

    if value["source"] == "checkpoint":
        source = f"{value['elements']:,} weights of {value['model']}"
    else:
        source = f"{value['model']}, whose weights were not seen: the models known stand in"
    smallest = value["smallest_learning_rate"]
    survives = share(value["survival"])
    if value["survival_range"] is not None:
        low, high = value["survival_range"]
        survives = f"{share(low)} to {share(high)} (middle {survives})"
    seen = value["source"] == "checkpoint"
    whose = "" if seen or not smallest else " in all models known, not only the middle one"
    lines = [
        f"model      {source}",
        f"update     {value['precision']}, {value['optimizer']}: {value['explanation']}",
        f"survives   {survives} of the weights move in a step at {value['learning_rate']:g}",
        f"needed     {f'{smallest:g} or more' if smallest else 'any learning rate'} for {value['wanted']:.0%}{whose}",
    ]
    if value["remedy"]:
        lines.append(f"remedy     {value['remedy']}")
    rows = [("learning rate", "survives" if seen else "survives in the middle one")]
    rows += [(f"{point['learning_rate']:g}", share(point["survival"])) for point in _around(value)]
    groups = [("group", "weights", "survives")]
    groups += [(name, f"{group['elements']:,}", share(group["survival"])) for name, group in value["groups"].items()]
    known = [("known model", "survives")]
    known += [(name, share(found)) for name, found in (value["known_models"] or {}).items()]
    tables = [aligned(table, figures=True) for table in (groups, known, rows) if len(table) > 1]
    return "\n".join([*lines, "", "\n\n".join(tables)])


def _around(value: dict[str, Any]) -> list[dict[str, float]]:
    """The part of the curve that is neither nothing nor everything, and the points beside it."""
    curve = value["curve"]
    inner = [index for index, point in enumerate(curve) if 0.001 < point["survival"] < 0.999]
    if not inner:
        return [point for point in curve if 1e-6 <= point["learning_rate"] <= 1e-4]
    return list(curve[max(inner[0] - 1, 0) : inner[-1] + 2])


def _plot(value: dict[str, Any]) -> bytes:
    try:
        from ..reporting.survival_plot import curve_png
    except ModuleNotFoundError as error:
        raise installing.missing(str(error.name), "--plot needs it") from None
    return curve_png(value)
