"""Runs of unsloth_fft_tool.py and of rendered scripts in processes of their own that share one import of Unsloth.

A server process imports it once and forks a child for each run. A child is a process like any other: it can be
killed at any moment, limited, and leaves a real exit code; what it does not repeat is ten seconds of imports.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
SCRIPTS = TESTS.parent / "scripts"


@dataclass(frozen=True)
class Finished:
    """How a run ended: exit code (minus the signal's number when one killed it) and what it said."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


class Run:
    """A command under way."""

    def __init__(self, server: Workers, pid: int, folder: Path) -> None:
        self._server = server
        self.pid = pid
        self._folder = folder
        self._began = time.monotonic()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def hold(self) -> None:
        """Stop the process where it is, until SIGCONT; at once back when it has ended."""
        self.send(signal.SIGSTOP)
        while self._state() not in ("T", "Z"):
            time.sleep(0.0005)

    def is_over(self) -> bool:
        """Whether it ended; a child stays a zombie until it is waited for."""
        return self._state() == "Z"

    def _state(self) -> str:
        """The process's state as /proc has it: R, S, D, T (stopped), Z (ended)."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return "Z"

    def said(self) -> str:
        return (self._folder / "stderr").read_text(errors="replace")

    def wait(self) -> Finished:
        code = self._server.ask({"wait": self.pid})
        return Finished(code, (self._folder / "stdout").read_text(), self.said(), time.monotonic() - self._began)


class Workers:
    """The server as a context manager; `run` and `start` take the arguments of unsloth_fft_tool.py."""

    def __enter__(self) -> Workers:
        self._scratch = tempfile.TemporaryDirectory()
        self._count = 0
        quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "UNSLOTH_DISABLE_STATISTICS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SCRIPTS, TESTS))), **quiet},
        )
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._scratch.cleanup()

    def start(self, *arguments: object, env: dict[str, str] | None = None, file_bytes: int | None = None) -> Run:
        """Start a command; `file_bytes` limits the size of any file it writes (RLIMIT_FSIZE)."""
        return self._start(arguments, env=env, file_bytes=file_bytes)

    def run_in(self, folder: Path, *arguments: object) -> Finished:
        """Run a command from `folder`, for relative names."""
        return self._start(arguments, env=None, cwd=str(folder)).wait()

    def killed_after(self, step: int, *arguments: object) -> Finished:
        """Run a command that SIGKILL ends as soon as metrics.jsonl holds a training line of `step`: no race."""
        return self._start(arguments, env=None, kill_after=step).wait()

    def _start(self, arguments: tuple[object, ...], *, env: dict[str, str] | None, **order: object) -> Run:
        self._count += 1
        folder = Path(self._scratch.name) / str(self._count)
        folder.mkdir()
        for name in ("stdout", "stderr"):
            (folder / name).touch()
        given = [str(argument) for argument in arguments]
        return Run(self, self.ask({"argv": given, "folder": str(folder), "env": env or {}, **order}), folder)

    def run(self, *arguments: object, env: dict[str, str] | None = None, file_bytes: int | None = None) -> Finished:
        """Start a command and wait for its end."""
        return self.start(*arguments, env=env, file_bytes=file_bytes).wait()

    def run_script(self, script: Path, *arguments: object, env: dict[str, str] | None = None) -> Finished:
        """Run a Python file in its own folder, with Unsloth imported and nothing of this bundle within reach."""
        return self.start_script(script, *arguments, env=env).wait()

    def start_script(self, script: Path, *arguments: object, env: dict[str, str] | None = None) -> Run:
        return self._start(arguments, env=env, script=str(script))

    def start_helper(self, name: str, *arguments: object) -> Run:
        """Start `main` of the test helper `name`, whose arguments are text."""
        return self._start(arguments, env=None, helper=name)

    def make_tiny_model(self, folder: Path) -> None:
        """Write the tests' tiny Llama-shaped model into `folder`."""
        self.ask({"tiny_model": str(folder)})

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server of training processes ended"
        return json.loads(line)


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import unsloth  # noqa: F401  (first: it patches what the others define)

    import unsloth_fft.auditing.audit
    import unsloth_fft.reporting.report
    import unsloth_fft.training.run  # noqa: F401

    # What is imported stays: no collection in a child needs to look at its million objects, which takes half a second.
    gc.freeze()
    _tell(answers, "ready")
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            _tell(answers, os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            _child(order)
        if "tiny_model" in order:
            os.waitpid(pid, 0)
        _tell(answers, pid)


def _tell(answers: Any, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _child(order: dict[str, Any]) -> None:
    code = 99
    try:
        if "tiny_model" in order:
            _make_tiny_model(Path(order["tiny_model"]))
            os._exit(0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            handle = os.open(Path(order["folder"]) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, number)
        _set_environment(order["env"])
        os.chdir(order.get("cwd", "."))
        if order.get("file_bytes") is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
        if "kill_after" in order:
            _kill_after(order["kill_after"])
        code = _ran(order)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _set_environment(changes: dict[str, str]) -> None:
    """As if they had been there before the imports, at which huggingface_hub and datasets read one of them."""
    os.environ.update(changes)
    if "HF_HUB_OFFLINE" in changes:
        for name in ("huggingface_hub.constants", "datasets.config"):
            sys.modules[name].HF_HUB_OFFLINE = changes["HF_HUB_OFFLINE"] == "1"  # type: ignore[attr-defined]


def _kill_after(step: int) -> None:
    from unsloth_fft.training import metrics

    append = metrics.append

    def last(path: Path, line: Any) -> None:
        append(path, line)
        if line.kind == "train" and line.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    metrics.append = last


def _ran(order: dict[str, Any]) -> int:
    if "script" in order:
        return _script(Path(order["script"]), order["argv"])
    if "helper" in order:
        importlib.import_module(order["helper"]).main(*order["argv"])
        return 0
    return _command(order["argv"])


def _command(arguments: list[str]) -> int:
    from unsloth_fft.commands import tool

    return tool.main(arguments)


def _script(script: Path, arguments: list[str]) -> int:
    """Run a file as `python FILE` does, without this bundle: its modules are forgotten and cannot be found again."""
    import runpy

    for name in [name for name in sys.modules if name.partition(".")[0] == "unsloth_fft"]:
        del sys.modules[name]
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() not in (SCRIPTS, SCRIPTS.parent)]
    os.environ.pop("PYTHONPATH", None)
    os.chdir(script.parent)
    sys.argv = [script.name, *arguments]
    try:
        runpy.run_path(script.name, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _make_tiny_model(folder: Path) -> None:
    from conftest import conversation_rows
    from unsloth_fft.demo import small_model

    texts = [turn["content"] for row in conversation_rows(60) for turn in row["messages"]]
    small_model.make(folder, texts, max_length=128, size=small_model.TINY)


if __name__ == "__main__":
    _serve()
