"""render: the plan as a file for wherever the scripts are not. Needs no torch and no GPU."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..core import files, outputs, terminal
from ..core.errors import BadInput
from ..core.shell_words import word
from ..planning import file_warnings
from ..rendering import carried, made_for, targets
from ..rendering.target import Rendered
from ..settings import parameters

EPILOG = """examples:
  unsloth_fft_tool.py render --params p.json --target script --output train_fft.py
  unsloth_fft_tool.py render --params p.json --target skypilot > task.yaml

references/handoff.md says what each target does, what was checked and what was not."""


def add_parser(commands: Any) -> None:
    listed = "\n".join(f"  {target.name:<12} {target.summary}" for target in targets.TARGETS.values())
    command = commands.add_parser(
        "render",
        help="the plan as a script, notebook or job file for another place",
        description=f"{__doc__}\n\ntargets:\n{listed}",
        epilog=EPILOG,
    )
    command.add_argument("--params", required=True, type=Path, metavar="F", help="file from generate_fft_params.py")
    command.add_argument("--target", required=True, metavar="T", help=f"one of: {', '.join(targets.TARGETS)}")
    command.add_argument("--output", type=Path, metavar="FILE", help="written atomically (default: stdout)")
    command.add_argument(
        "--accept-lost",
        action="store_true",
        help="render even where a promise of the plan is lost",
    )
    command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `render` command."""
    target = targets.find(args.target)
    given = parameters.load(args.params)
    outputs.refuse_overwriting(
        {"--output": args.output}, files=[args.params], models=[given.model.name], data=given.data.named
    )
    here = _named(args.output)
    rendered = target.render(given, here and Path(here).name)  # the file will be taken elsewhere
    rendered = dataclasses.replace(rendered, run=target.render(given, here).run)
    for sentence in file_warnings.warnings(given):
        terminal.say(f"warning: {sentence}")
    _refuse_broken(target.name, rendered, args.accept_lost)
    if args.output is not None:
        files.write_text(args.output, rendered.text)
    if args.json:
        terminal.emit(_summary(args, rendered, made_for.versions(given)))
    elif args.output is None:
        terminal.emit_text(rendered.text)
    else:
        terminal.say(f"wrote {args.output}")
        for note in carried.reading_note(rendered.text, word(args.output)):
            terminal.say(note)
    for loss in rendered.lost:
        terminal.say(f"lost: {loss.sentence}")
    terminal.say(f"run it with: {rendered.run}")
    return 0


def _named(output: Path | None) -> str | None:
    """The name that the file's own comments and commands use: the one it is written under."""
    if output is None:
        return None
    if not str(output).isprintable():
        raise BadInput(
            f"--output {str(output)!r} cannot be named in a command", hint="choose a name without line breaks"
        )
    return str(output)


def _refuse_broken(target: str, rendered: Rendered, accepted: bool) -> None:
    broken = [loss.sentence for loss in rendered.lost if loss.breaks]
    if broken and not accepted:
        raise BadInput(
            f"{target} cannot keep what the plan promises: {'; '.join(broken)}",
            hint="render --target script keeps all of it; --accept-lost renders this all the same",
        )


def _summary(args: argparse.Namespace, rendered: Rendered, versions: dict[str, str]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "target": args.target,
        "output": None if args.output is None else str(args.output),
        "run": rendered.run,
        "environment_variables": list(rendered.variables),
        "lost": [dataclasses.asdict(loss) for loss in rendered.lost],
        "made_for": versions,
    }
    if args.output is None:
        summary["text"] = rendered.text
    return summary
