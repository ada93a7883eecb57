"""What to say of a missing package: the command that installs it, or, without a package index, where to go instead."""

from __future__ import annotations

import functools
import os
import re

from .errors import MissingHere

INDEX = "https://pypi.org"
# Where pip and uv are told of another index: variables, and files with a line that assigns it.
INDEX_VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
INDEX_FILES = (
    *("~/.config/pip/pip.conf", "~/.pip/pip.conf", "~/pip/pip.ini", "/etc/pip.conf"),
    *("~/.config/uv/uv.toml", "/etc/uv/uv.toml"),
)
INDEX_LINE = re.compile(r"""^\s*(?:index-url|index_url|url)\s*=\s*["']?(https?://[^\s"']+)""", re.MULTILINE)
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
    """Whether this machine's package index answers. Asked only where a package is missing: it may take a second."""
    if os.environ.get("PIP_NO_INDEX") or os.environ.get("UV_OFFLINE"):
        return False
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(_index(), method="HEAD"), timeout=PATIENCE_S):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False


def _index() -> str:
    told = next(filter(None, map(os.environ.get, INDEX_VARIABLES)), None)
    return told or next(filter(None, map(_named_in, INDEX_FILES)), INDEX)


def _named_in(place: str) -> str | None:
    try:
        with open(os.path.expanduser(place), encoding="utf-8", errors="replace") as file:
            found = INDEX_LINE.search(file.read())
    except OSError:
        return None
    return found.group(1) if found else None
