"""Reading and writing that loses nothing: text is replaced whole or not at all, and errors name the file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BadInput, FFTError, MissingHere

BUNDLE_ROOT = Path(__file__).resolve().parents[3]
SCHEMA_DIR = BUNDLE_ROOT / "schemas"


def read_json(path: Path, what: str) -> Any:
    """Parse `path` as JSON. `what` names it in the error, for example "parameters file"."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{what} not found: {path}", hint="check the path") from None
    except IsADirectoryError:
        raise BadInput(f"{what} is a folder, a JSON file was expected: {path}", hint="name the file in it") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} {path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{what} {path} cannot be read: {error.strerror}", hint="check its permissions") from None
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it"
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise BadInput(f"{what} {path} is not valid JSON: {where}: {reason}", hint="mend that line") from None


def to_json(value: Any) -> str:
    """The one way JSON is written here: two-space indent, keys in the given order, newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of `text` as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` atomically: after a crash at any moment it holds the old content or the new, never a part."""
    with explained(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of `to_json(value)`."""
    write_text(path, to_json(value))


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line and flush it to disk, so that a kill loses at most the line being written."""
    with explained(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise os_refusal(error, path) from None


def os_refusal(error: OSError, path: Path) -> FFTError:
    """The clear error for a failed write: a full disk is missing space (4), anything else a bad path (2)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MissingHere(f"no room on disk to write {path}", hint="free space there, or choose another folder")
    if isinstance(error, FileNotFoundError):
        return BadInput(f"folder does not exist: {path.parent}", hint=f"mkdir -p {path.parent}")
    return BadInput(f"cannot write {path}: {error.strerror}", hint="choose a path you may write to")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
