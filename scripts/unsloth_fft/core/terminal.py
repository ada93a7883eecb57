"""How a command speaks: JSON on stdout, words on stderr, errors as two lines and an exit code."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from . import installing
from .errors import EXIT_DONE, FFTError, Interrupted

TOOL, PLANNER = "unsloth_fft_tool.py", "generate_fft_params.py"
_COMMAND = re.compile(rf"(?<![\w/.'-])({re.escape(TOOL)}|{re.escape(PLANNER)})(?= [a-z.-])")
_called: dict[str, str] = {}


def called(tool: str, planner: str) -> None:
    """Have commands in messages begin with these words, where the two programs go by other names than their files'."""
    _called.update({TOOL: tool, PLANNER: planner})


def pasteable(text: str) -> str:
    """`text` with the commands in it as they can be typed here: both programs by the way this one was started."""
    return _COMMAND.sub(lambda found: _called.get(found[1]) or _as_started(found[1]), text)


def _as_started(name: str) -> str:
    """The program `name` as it would be started in the way that this process was, which may be another program."""
    here = sys.argv[0] if sys.argv else ""
    if os.path.basename(here) not in (TOOL, PLANNER):
        return name
    path = shlex.quote(os.path.join(os.path.dirname(here), name))
    if "UV_RUN_RECURSION_DEPTH" in os.environ:  # set by `uv run` for what it starts
        return f"uv run{' --extra train' if name == TOOL else ''} {path}"
    return f"python {path}"


def say(text: str = "") -> None:
    """Words for a person, on stderr."""
    print(pasteable(text), file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def emit_short(value: dict[str, Any]) -> None:
    """One JSON object on stdout, a line for each of its keys: less to read than `emit`, the same to parse."""
    print(lines(value), flush=True)


def lines(value: dict[str, Any]) -> str:
    """What `emit_short` prints."""
    parts = [
        f"{json.dumps(key)}: {json.dumps(part, ensure_ascii=False, allow_nan=False)}" for key, part in value.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}"


def run(command: Callable[[], int | None], *, as_json: bool) -> int:
    """Run `command`, the process's last deed, and return its exit code; an FFTError becomes two lines (or JSON)."""
    try:
        return command() or EXIT_DONE
    except BrokenPipeError:
        _forget_stdout()
        return EXIT_DONE
    except FFTError as error:
        return _told(error, as_json=as_json)
    except KeyboardInterrupt:
        return _told(Interrupted("stopped by Ctrl-C", hint="run the same command again"), as_json=as_json)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("unsloth_fft"):
            raise
        package = error.name.partition(".")[0]
        return _told(installing.missing(package, "this command needs it"), as_json=as_json)


def leave(code: int) -> NoReturn:
    """End the process with `code` at once, without Python's tear-down of every module.

    That would take a twentieth of a plan's time, and threads of the training stack would keep the process alive.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it is where the caller closed it
                stream.flush()
    finally:
        os._exit(code)


def _forget_stdout() -> None:
    """The reader of our output (`| head`) has left: that is no fault, and Python must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: FFTError, *, as_json: bool) -> int:
    if isinstance(error, Interrupted):  # a stop leaves objects half made, which complain when they are collected
        sys.unraisablehook = lambda _: None
    if as_json:
        try:
            emit(error.as_json())
        except BrokenPipeError:
            _forget_stdout()
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")
    return error.exit_code
