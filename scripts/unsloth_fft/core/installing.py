"""What to say of a missing package: the command that installs it, or, without a package index, where to go instead."""

from __future__ import annotations

import functools
import os
import sys

from .errors import MissingHere

# A package that every index holds: whether anything can be installed is asked with it. pip knows this machine's index.
PROBE = "packaging"
PIP_ANSWERS_WITHIN_S = 5
PATIENCE_S = 1.5


def missing(package: str, purpose: str, *others: str) -> MissingHere:
    """The error for `package`, which `purpose` needs; `others` are wanted with it."""
    return MissingHere(f"the Python package {package} is not installed; {purpose}", hint=hint(package, *others))


def hint(*packages: str, command: str | None = None) -> str:
    """How to get `packages`, by `command` where that is not pip's own; without a network, what to do elsewhere."""
    if can_fetch():
        return command or f"pip install {' '.join(packages)}"
    return (
        "nothing can be installed here (no package index answers): take your files to a machine that has"
        f" {', '.join(packages)}, and run the same command there"
    )


@functools.cache
def can_fetch() -> bool:
    """Whether this machine's package index answers pip. Asked only where a package is missing: it takes a second.

    Without pip nobody is asked: uv may fetch, and without either nothing can.
    """
    if os.environ.get("PIP_NO_INDEX") or os.environ.get("UV_OFFLINE"):
        return False
    import importlib.util
    import shutil
    import subprocess  # a plan is asked for more often than a package is missing

    if importlib.util.find_spec("pip") is None:
        return shutil.which("uv") is not None
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    asked = [*pip, "index", "versions", PROBE, "--retries", "0", "--timeout", str(PATIENCE_S)]
    try:
        answer = subprocess.run(asked, capture_output=True, timeout=PIP_ANSWERS_WITHIN_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
