"""audit: count which weights of a trained checkpoint differ from its base, and say why the others do not."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..core import files, outputs, terminal
from ..core.errors import EXIT_DONE, EXIT_TRAINING_FAILED, BadInput

EPILOG = """examples:
  unsloth_fft_tool.py audit base/ trained/                 two folders, Hub cache folders or safetensors files
  unsloth_fft_tool.py audit runs/first                     a session, whose settings explain more; or --session DIR
  unsloth_fft_tool.py audit --session runs/first --require full --json
  unsloth_fft_tool.py audit base/ trained/ --json --full   every tensor; or --output audit.json

verdicts:
  full          every tensor moved, or the session's settings explain what storage cannot show
  partial       something did not move; the likely causes are listed, worst first
  frozen        nothing moved
  incomparable  the two do not hold the same tensors

exit codes: 0 done, 2 bad input, 5 the verdict is not the one that --require asks for, 130 interrupted"""

_REQUIRED = {"full": ("full",), "partial": ("full", "partial")}


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "audit",
        help="which weights really moved, and why the others did not",
        description=__doc__,
        epilog=EPILOG,
    )
    command.add_argument("base", nargs="?", metavar="BASE", help="checkpoint or downloaded Hub name; alone, a session")
    command.add_argument("trained", nargs="?", metavar="TRAINED", help="checkpoint after training")
    command.add_argument("--session", type=Path, metavar="DIR", help="audit this session's model against its base")
    command.add_argument(
        "--require", choices=sorted(_REQUIRED), help="exit with 5 unless the verdict is this one or better"
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="also write the whole JSON there")
    command.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on stdout instead of a table: a summary, worst tensors first",
    )
    command.add_argument("--full", action="store_true", help="with --json: every tensor and layer")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The `audit` command. One name alone is a session, where it is one."""
    from ..auditing import audit, summary
    from ..reporting import audit_table
    from ..weights.checkpoint import locate

    named = [name for name in (args.base, args.trained) if name is not None]
    root = args.session
    if root is None and len(named) == 1 and _is_session(named[0]):
        root, named = Path(named[0]), []
    if (root is None) != (len(named) == 2) or (root is not None and named):
        raise BadInput(
            "audit needs either two checkpoints, BASE and TRAINED, or --session DIR",
            hint="unsloth_fft_tool.py audit --help",
        )
    outputs.refuse_overwriting({"--output": args.output}, **_inputs(root, named))
    progress = _bar if sys.stderr.isatty() else None
    if root is not None:
        found = audit.audit_session(root, progress=progress)
    else:
        found = audit.audit_folders(locate(args.base), locate(args.trained), progress=progress)
    value = found.to_json()
    if args.output is not None:
        files.write_json(args.output, value)
    if args.json and args.full:
        terminal.emit(value)
    elif args.json:
        terminal.emit_short(summary.of_audit(value))
    else:
        terminal.show(audit_table.render(value, root))
    return _exit_code(args.require, found.verdict, found.summary)


def _inputs(root: Path | None, named: list[str]) -> dict[str, list[Any]]:
    """What the audit reads, by its kind."""
    if root is None:
        return {"models": named}
    from ..training import session

    _, state, parameters = session.load(root)
    return {"sessions": [root], "models": [state.base_model], "data": parameters.data.named}


def _is_session(name: str) -> bool:
    return (Path(name) / "session.json").is_file()  # its name in training/session.py, which an audit does not need


def _exit_code(required: str | None, verdict: str, summary: str) -> int:
    if required is None or verdict in _REQUIRED[required]:
        return EXIT_DONE
    terminal.say(f"error: the verdict is '{verdict}', '{required}' was required: {summary}")
    terminal.say("hint: references/exactness.md explains the causes; plan again for settings that are exact")
    return EXIT_TRAINING_FAILED


def _bar(done: int, total: int) -> None:
    """A progress bar on stderr that a finished run wipes away."""
    width = 30
    filled = width * done // max(total, 1)
    text = f"\raudit [{'#' * filled}{'.' * (width - filled)}] {done / 2**30:.1f} of {total / 2**30:.1f} GiB"
    sys.stderr.write(text if done < total else "\r" + " " * (len(text) + 4) + "\r")
    sys.stderr.flush()
