"""python -m tools.grading: grade what an agent answered and wrote for the prompts of evals/evals.json, by rules alone.

The outputs folder has a folder for each prompt, named as the prompt is, with the agent's last message in answer.md, the
files it wrote, and commands.jsonl, a line for each command it ran: {"command": ..., "exit": ..., "shown": characters}.
How many commands a prompt took, and how many tokens they showed, is counted, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.grading import checks, evals, outputs
from tools.grading.evals import Eval
from unsloth_fft.core import terminal
from unsloth_fft.core.arguments import Parser
from unsloth_fft.core.errors import EXIT_DONE, EXIT_TRAINING_FAILED, BadInput

EPILOG = """examples:
  python -m tools.grading --list                       the prompts, and the files that come with them
  python -m tools.grading --outputs runs/              grade every prompt that has a folder in runs/
  python -m tools.grading --outputs runs/ --eval nothing-fits-24gb --json

exit codes: 0 every expectation met, 2 bad input, 5 at least one was not met."""


def entry(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(terminal.run(lambda: _run(parser().parse_args(given)), as_json="--json" in given))


def parser() -> argparse.ArgumentParser:
    """The flags."""
    top = Parser(prog="python -m tools.grading", description=__doc__, epilog=EPILOG)
    top.add_argument("--list", action="store_true", help="show the prompts and grade nothing")
    top.add_argument("--outputs", type=Path, metavar="DIR", help="folder with a folder for each prompt")
    top.add_argument("--eval", metavar="NAME", help="grade this prompt only")
    top.add_argument("--evals", type=Path, default=evals.EVALS, metavar="FILE", help="other prompts than the shipped")
    top.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return top


def _run(args: argparse.Namespace) -> int:
    known = evals.load(args.evals)
    if args.list:
        _emit_list(known, as_json=args.json)
        return EXIT_DONE
    if args.outputs is None:
        raise BadInput(
            "nothing to grade: --outputs is missing", hint="python -m tools.grading --outputs DIR, or --list"
        )
    graded = [grade(one, args.outputs / one.name) for one in _chosen(known, args.outputs, args.eval)]
    passed, total = sum(one["passed"] for one in graded), sum(one["total"] for one in graded)
    if args.json:
        terminal.emit({"passed": passed, "total": total, **_effort(graded), "evals": graded})
    else:
        _show(graded, passed, total)
    return EXIT_DONE if passed == total else EXIT_TRAINING_FAILED


def grade(one: Eval, folder: Path) -> dict[str, Any]:
    """The grades of one prompt's output. Raises BadInput when the folder has no answer."""
    output = outputs.read(folder)
    results = []
    for expectation in one.expectations:
        passed, found = checks.grade(output, expectation.check)
        results.append({"text": expectation.text, "passed": passed, "found": found})
    return {
        "name": one.name,
        "passed": sum(result["passed"] for result in results),
        "total": len(results),
        "calls": output.calls,
        "tokens_read": output.tokens_read,
        "opened_source": output.opened_source,
        "expectations": results,
    }


def _effort(graded: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians a prompt of commands and tokens read (None where one was not recorded), and who opened the package."""
    tokens = [one["tokens_read"] for one in graded]
    return {
        "median_calls": statistics.median(one["calls"] for one in graded),
        "median_tokens_read": None if None in tokens else statistics.median(tokens),
        "opened_source": [one["name"] for one in graded if one["opened_source"]],
    }


def _chosen(known: Sequence[Eval], folder: Path, name: str | None) -> list[Eval]:
    if name is not None:
        named = [one for one in known if one.name == name]
        if not named:
            raise BadInput(f"no prompt is called '{name}'", hint="python -m tools.grading --list shows their names")
        return named
    present = [one for one in known if (folder / one.name).is_dir()]
    if not present:
        raise BadInput(
            f"{folder} has no folder named like a prompt", hint="python -m tools.grading --list shows their names"
        )
    return present


def _emit_list(known: Sequence[Eval], *, as_json: bool) -> None:
    if as_json:
        terminal.emit({"evals": [{"name": one.name, "prompt": one.prompt, "files": one.files} for one in known]})
        return
    for one in known:
        print(f"{one.name}\n  {one.prompt}" + (f"\n  files: {', '.join(one.files)}" if one.files else ""))


def _show(graded: Sequence[dict[str, Any]], passed: int, total: int) -> None:
    for one in graded:
        print(f"{one['passed']}/{one['total']}  {one['name']}")
        for result in one["expectations"]:
            if not result["passed"]:
                print(f"      not met: {result['text']} ({result['found']})")
    effort = _effort(graded)
    print(f"{passed}/{total}  in all")
    print(f"a prompt (medians): {effort['median_calls']} commands, {effort['median_tokens_read']} tokens read")
    print(f"opened the package's source: {', '.join(effort['opened_source']) or 'nobody'}")
