"""Reading and writing that loses nothing: text is replaced whole or not at all, and errors name the file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BadInput, FFTError, MissingHere

PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout and in the ZIP the package lies in scripts/; a wheel carries what it needs from beside that in itself.
_INSIDE_A_WHEEL = PACKAGE / "bundle"
BUNDLE_ROOT = _INSIDE_A_WHEEL if _INSIDE_A_WHEEL.is_dir() else PACKAGE.parents[1]
SCHEMA_DIR = BUNDLE_ROOT / "schemas"


def read_json(path: Path, what: str, *, keys_once: bool = False) -> Any:
    """Parse `path` as JSON. `what` names it in the error, for example "parameters file".

    NaN, infinities and numbers too large for a float are refused: no schema bounds them, and no JSON may hold them.
    With `keys_once` so is a key given twice, of which a parser would silently drop one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{what} not found: {path}", hint="check the path") from None
    except IsADirectoryError:
        raise BadInput(f"{what} is a folder, a JSON file was expected: {path}", hint="name the file in it") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} {path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{what} {str(path)!r} cannot be read: {reason}", hint="check its permissions") from None
    hook = _each_key_once if keys_once else None
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error).split(";")[0]  # Python's own, of integers with thousands of digits, ends in advice
    raise BadInput(f"{what} {path} is not valid JSON: {reason}", hint="mend that line")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' is given twice")
    return found


def to_json(value: Any) -> str:
    """The one way JSON is written here: two-space indent, keys in the given order, newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of `text` as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` atomically: after a crash at any moment it holds the old content or the new, never a part.

    A link keeps pointing at its file, which is replaced; a device or a pipe is written into and stays what it is.
    """
    with explained(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        path = path.resolve()
        import tempfile  # slow to import, and a plan on stdout writes no file

        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~umask())
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
    with explained(path), path.open("a", encoding="utf-8", newline="\n") as file:
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


def give_usual_mode(folder: Path) -> None:
    """Give the files of `folder` the mode of new files: safetensors 0.8.0 lets only the owner read its own."""
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink():
            path.chmod(0o666 & ~umask())


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
