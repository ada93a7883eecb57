"""How a command speaks: JSON on stdout, words on stderr, errors as two lines and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from . import beginning, hub, installing
from .control import kept_on_page
from .errors import EXIT_DONE, EXIT_FAULT, FFTError, Interrupted, MissingHere
from .stopping import Stoppable

TOOL, PLANNER = "unsloth_fft_tool.py", "generate_fft_params.py"
_COMMAND = re.compile(rf"(?<![\w/.'-])({re.escape(TOOL)}|{re.escape(PLANNER)})(?= [a-z.-])")
WIDTH = 80  # columns
_SENTENCE = re.compile(r"(?m)^(warning|note|lost|what to do|row): |^- ")
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


def _folded(text: str) -> str:
    """`text` with sentences folded at WIDTH; lines with a command (hint, next) stay whole, to be pasted."""
    if len(text) <= WIDTH or not _SENTENCE.search(text):
        return text
    return "\n".join(fold(line) if _SENTENCE.match(line) else line for line in text.split("\n"))


def fold(line: str, indent: int = 2) -> str:
    """`line` in lines of at most WIDTH columns, between words; those after the first are indented.

    A next command stays whole: it is there to be pasted.
    """
    if len(line) <= WIDTH or line.startswith("next: "):
        return line
    import textwrap  # many commands say nothing that long

    return textwrap.fill(line, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def say(text: str = "") -> None:
    """Words for a person, on stderr."""
    from .redaction import without_secrets

    try:
        print(_folded(kept_on_page(without_secrets(pasteable(text)))), file=sys.stderr, flush=True)
    except (OSError, ValueError):  # full, closed, or its reader (`2>&1 | head`) has left: no reason to end a run
        _forget(sys.stderr, 2)
    except RuntimeError:  # a signal's words in the middle of others
        pass


def show(text: str) -> None:
    """The answer of a command on stdout, ended by a line end. Raises MissingHere where it cannot be written."""
    _write(kept_on_page(text) + "\n")


def emit(value: Any) -> None:
    """One JSON object on stdout."""
    _write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", as_json=True)


def emit_text(text: str) -> None:
    """JSON, or a file's own text, on stdout as it is."""
    _write(text, as_json=True)


def _write(text: str, *, as_json: bool = False) -> None:
    """Characters that stdout's encoding lacks are escaped, in JSON so that it stays the same JSON."""
    stream = sys.stdout
    if stream is None or stream.closed:
        raise MissingHere("stdout is closed, so the answer has nowhere to go", hint="send it to a file, or /dev/null")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = _ascii_json(text) if as_json else text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_stdout()
        raise MissingHere(
            f"stdout cannot be written: {error.strerror}", hint="free space there, or send it elsewhere"
        ) from None


def _ascii_json(text: str) -> str:
    """JSON text with every character beyond ASCII as the escape that JSON has for it."""
    return "".join(character if character.isascii() else json.dumps(character)[1:-1] for character in text)


def emit_short(value: dict[str, Any]) -> None:
    """One JSON object on stdout, a line for each of its keys: less to read than `emit`, the same to parse."""
    _write(lines(value) + "\n", as_json=True)


def lines(value: dict[str, Any]) -> str:
    """What `emit_short` prints."""
    parts = [
        f"{json.dumps(key)}: {json.dumps(part, ensure_ascii=False, allow_nan=False)}" for key, part in value.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}"


def run(command: Callable[[], int | None], *, as_json: bool) -> int:
    """Run `command`, the process's last deed, and return its exit code; an FFTError becomes two lines (or JSON).

    SIGINT and SIGTERM stop it. An error that no command foresaw is a fault of this program, which a traceback helps to
    mend; the operating system's refusals are none.
    """
    hub.strip_tokens()
    _open_missing_streams()
    with Stoppable() as stop:
        try:
            return command() or EXIT_DONE
        except BrokenPipeError:
            _forget_stdout()
            return EXIT_DONE
        except KeyboardInterrupt:
            stop.ignore()
            return _told(_interrupted(stop), as_json=as_json)
        except FFTError as error:
            return _told(error, as_json=as_json)
        except Exception as error:
            stop.ignore()
            # Whatever a library made of being stopped (a missing package, a failed load) is a stop.
            foreseen = _interrupted(stop) if stop.received else _foreseen(error)
            return _fault(error) if foreseen is None else _told(foreseen, as_json=as_json)


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


def _interrupted(stop: Stoppable) -> Interrupted:
    name = "Ctrl-C" if stop.received in (None, "SIGINT") else stop.received
    return Interrupted(f"stopped by {name}", hint=beginning.HINT)


def _foreseen(error: Exception) -> FFTError | None:
    """The clear error for what this machine lacks or refuses; None for a fault of this program."""
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("unsloth_fft"):
        return installing.missing(error.name.partition(".")[0], "this command needs it")
    if isinstance(error, MemoryError):
        return MissingHere("memory ran out", hint="end what else needs it, or use a machine with more")
    if isinstance(error, OSError):
        from . import files

        return files.os_error(error)
    return None


def _fault(error: Exception) -> int:
    """A traceback, because this should not have happened; without secrets, which it may quote."""
    import traceback

    say("".join(traceback.format_exception(error)).rstrip())
    return EXIT_FAULT


def _open_missing_streams() -> None:
    """Put /dev/null where the caller closed a standard stream: the next file opened would take its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stderr is None:  # libraries write their words there without a look
        sys.stderr = os.fdopen(2, "w")


def _forget_stdout() -> None:
    """The reader of our output (`| head`) has left: that is no fault, and Python must not complain at exit."""
    _forget(sys.stdout, 1)


def _forget(stream: Any, number: int) -> None:
    """From here on what is written to a standard stream goes nowhere, and fails nobody: libraries write there, too."""
    with contextlib.suppress(OSError, ValueError):  # closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno() if stream is not None else number)


def _told(error: FFTError, *, as_json: bool) -> int:
    if isinstance(error, Interrupted):  # a stop leaves objects half made, which complain when they are collected
        sys.unraisablehook = lambda _: None
    if as_json:
        try:
            emit(error.as_json())
        except BrokenPipeError:
            _forget_stdout()
        except MissingHere:  # stdout cannot be written; the two lines below still can
            pass
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")
    return error.exit_code
