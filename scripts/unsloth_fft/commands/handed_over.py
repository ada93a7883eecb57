"""What a rendered file runs: a session made of its settings, trained and audited by the code of init and train.

The file brings this package along and calls `main`. Nothing here is reached from unsloth_fft_tool.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import files, terminal
from ..core.arguments import Parser
from ..core.errors import BadInput, MissingHere
from ..hardware import detection
from ..settings import parameters as settings
from ..settings.parameters import Parameters

WAIT_S = 900.0  # how long a machine that follows waits for the first one's session
# What torchrun and `accelerate launch` set for each process they start (torch 2.11, elastic/agent/server/
# local_elastic_agent.py). The run starts its own processes, which must not inherit the places of others.
_PLACES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
_LAUNCHERS = (*_PLACES, "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

EPILOG = """also:
  {name} tool COMMAND ...    status, eval, export, audit, data, doctor and the others of unsloth_fft_tool.py
  {name} plan ARGUMENTS      generate_fft_params.py
  {name} unpack FOLDER       write the source that this file carries there

exit codes: 0 done, 2 bad input, 4 something is missing here, 5 training failed, 130 interrupted with the state saved"""


def main(value: dict[str, Any], made_for: Mapping[str, str], argv: Sequence[str], task: str = "supervised") -> int:
    """Run the file `argv[0]` with its settings `value` (a parameters file's object); returns the exit code."""
    name, given = os.path.basename(argv[0]), list(argv[1:])
    started = "uv run" if "UV_RUN_RECURSION_DEPTH" in os.environ else "python"
    terminal.called(f"{started} {argv[0]} tool", f"{started} {argv[0]} plan")
    if given[:1] == ["tool"]:
        from . import tool

        return tool.main(given[1:])
    if given[:1] == ["plan"]:
        from . import plan

        return plan.main(given[1:])
    return terminal.run(lambda: _run(name, value, made_for, given, task), as_json=False)


def _run(name: str, value: dict[str, Any], made_for: Mapping[str, str], given: list[str], task: str) -> int:
    if given[:1] == ["unpack"]:
        return _unpack(given[1:])
    place = _place_among_processes()
    if place is None:  # the first process of this machine starts all that are needed
        return 0
    args = _parser(name).parse_args([*place, *given])
    parameters = _parameters(value, args)
    _require_planned_card(parameters)
    _note_versions(made_for)
    if args.trial_steps is not None:
        return _trial(parameters, args, task)
    return _train(parameters, args, task)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=name,
        description="Full fine-tuning from a plan; the settings stand at the head of this file.",
        epilog=EPILOG.format(name=name),
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("fft-output"),
        metavar="DIR",
        help="folder of the run (default: %(default)s)",
    )
    parser.add_argument("--dataset", metavar="PATH|NAME", help="file, folder or Hub name, instead of the planned one")
    parser.add_argument("--model", metavar="DIR|NAME", help="folder or Hub name, instead of the planned one")
    parser.add_argument("--trial-steps", type=_steps, metavar="N", help="N steps on the longest rows; keeps nothing")
    parser.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint of --output")
    parser.add_argument("--push-to-hub", metavar="NAME", help="upload to this private repository; needs HF_TOKEN")
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="where several machines meet: on the first of them")
    parser.add_argument("--follow", action="store_true", help="this is not the first of several machines")
    parser.add_argument("--nothing-shared", action="store_true", help="with --follow: DIR is not the first machine's")
    return parser


def _steps(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _unpack(given: list[str]) -> int:
    if len(given) != 1:
        raise BadInput("unpack takes one folder", hint="unpack FOLDER")
    to = Path(given[0])
    if to.exists():
        raise BadInput(f"{to} already exists; nothing was changed", hint="name a new folder")
    with files.explained(to):
        shutil.copytree(files.BUNDLE_ROOT, to, ignore=shutil.ignore_patterns("__pycache__"))
    terminal.say(f"unpacked into {to}; start with {to / 'scripts' / 'unsloth_fft' / 'commands' / 'handed_over.py'}")
    return 0


def _place_among_processes() -> list[str] | None:
    """Arguments for a process that torchrun or accelerate started, or None where another one does the work.

    The run starts one process a GPU by itself; of those that a launcher started, the first on each machine does that.
    """
    found = {name: os.environ.pop(name) for name in _LAUNCHERS if name in os.environ}
    if "LOCAL_RANK" not in found:
        return []
    if found["LOCAL_RANK"] != "0":
        return None
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC_")]:
        del os.environ[name]
    if int(found.get("GROUP_WORLD_SIZE", "1")) == 1:
        return []
    meeting = f"{found['MASTER_ADDR']}:{int(found['MASTER_PORT']) + 1}"
    return ["--rendezvous", meeting, *(["--follow"] if found.get("GROUP_RANK", "0") != "0" else [])]


def _parameters(value: dict[str, Any], args: argparse.Namespace) -> Parameters:
    found = settings.from_json(value, "SETTINGS in this file")
    if args.dataset is not None:
        found = dataclasses.replace(found, data=dataclasses.replace(found.data, dataset=args.dataset, sources=[]))
    if args.model is not None:
        found = dataclasses.replace(found, model=dataclasses.replace(found.model, name=args.model))
    return found


def _require_planned_card(parameters: Parameters) -> None:
    """Raise MissingHere for a GPU's plan where none can be seen: on a CPU it would go on for weeks."""
    planned = "cpu" if parameters.plan is None else parameters.plan.hardware.name
    if planned != "cpu" and detection.detect().is_cpu:
        raise MissingHere(
            f"planned for {planned}, and no GPU is visible here", hint="run it where nvidia-smi shows one"
        )


def _note_versions(made_for: Mapping[str, str]) -> None:
    for package, wanted in made_for.items():
        try:
            here = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # what must be there is looked for by the run itself
        if wanted[:1].isdigit() and here != wanted:
            terminal.say(f"note: {package} {here} is installed; this file was made for {wanted}")


def _trial(parameters: Parameters, args: argparse.Namespace, task: str) -> int:
    """A dry run in a session of its own, which is gone afterwards."""
    from ..training import environment
    from ..training.run import Options
    from . import init, train

    if parameters.distributed.gpus * parameters.distributed.nodes > 1:
        raise BadInput(
            "--trial-steps takes one GPU, and this plan is for several",
            hint="plan the same with --max-steps 3 into another file, render that and run it",
        )
    where = args.output.absolute().parent
    with files.explained(where):
        where.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{args.output.name}-trial-", dir=where)
    with scratch as folder:
        root = Path(folder) / "session"
        environment.begin(parameters, root)
        init.make(parameters, root, task)
        next_command = f"{_started()} --output {args.output}"
        return train.try_out(root, args.trial_steps, Options(task=task), next_command=next_command)


def _train(parameters: Parameters, args: argparse.Namespace, task: str) -> int:
    from ..finishing import export
    from ..training import environment
    from ..training.run import Options
    from . import train

    token = export.token(args.push_to_hub)
    root = args.output
    environment.begin(parameters, root)
    resumed = _opened(parameters, args, task)
    options = Options(resumed, False, args.rendezvous, args.follow, task)
    train.to_the_end(root, options, as_json=False)
    if args.push_to_hub and not args.follow:
        done = export.export(root, Path(f"{root}-export"), dtype=None, push_to=args.push_to_hub, overwrite=True)
        assert token
        terminal.say(f"pushed to {done.pushed_to} (private)")
    return 0


def _opened(parameters: Parameters, args: argparse.Namespace, task: str) -> bool:
    """Make the session, or find the one to go on with; returns whether training goes on in it."""
    from ..training import session
    from . import init

    root: Path = args.output
    if args.follow and not args.nothing_shared:
        _wait_for(root)
        return bool(args.resume)
    with files.explained(root):
        exists = root.is_dir() and any(root.iterdir())
    if not exists:
        init.make(parameters, root, task)
        return False
    if not args.resume:
        raise BadInput(
            f"{root} already exists and is not empty; nothing was changed",
            hint=f"go on with it: {_started()} --output {root} --resume; or choose another --output",
        )
    planned = session.load(root)[2]
    if _what_is_trained(planned) != _what_is_trained(init.resolved(parameters)):
        raise BadInput(
            f"{root} was begun with other settings than this file's", hint="choose another --output for these settings"
        )
    return True


def _what_is_trained(parameters: Parameters) -> dict[str, Any]:
    value = parameters.to_json()
    value.pop("plan", None)
    return value


def _wait_for(root: Path) -> None:
    """Return once the first machine has begun the run in `root`. Raises MissingHere when it does not come to that."""
    from ..training import session

    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if (root / session.SESSION_FILE).is_file() and session.load(root)[1].state == "running":
            return
        time.sleep(0.5)
    raise MissingHere(
        f"no run was begun in {root} within {WAIT_S / 60:.0f} minutes",
        hint="start the file on the first machine, in a folder that all share; where none is, add --nothing-shared",
    )


def _started() -> str:
    """How this file was started, without its arguments."""
    launcher = "uv run" if "UV_RUN_RECURSION_DEPTH" in os.environ else "python"
    return f"{launcher} {sys.argv[0]}"
