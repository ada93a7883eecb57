"""Reading and writing that loses nothing: text is replaced whole or not at all, and errors name the file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import json_text
from .errors import BadInput, FFTError, MissingHere
from .shell_words import word

PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout and in the ZIP the package lies in scripts/; a wheel carries what it needs from beside that in itself.
_INSIDE_A_WHEEL = PACKAGE / "bundle"
BUNDLE_ROOT = _INSIDE_A_WHEEL if _INSIDE_A_WHEEL.is_dir() else PACKAGE.parents[1]
SCHEMA_DIR = BUNDLE_ROOT / "schemas"
MAX_TEXT_BYTES = 2**30  # larger than any JSON or text that is read whole here
# Already open, so reading them waits for nobody: what `<(command)` and `-` stand for.
_OPEN_ALREADY = re.compile(r"/dev/(stdin|fd/\d+)|/proc/self/fd/\d+")
# What a file system says when it is full, over quota, or limits the size of a file (ulimit -f).
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors writes from Rust and names the error so; torch's own writer names no reason at all.
_NO_TEMPORARY = re.compile(r"temporary (directory|folder)|writable cache directory")
_RUST_ERROR = re.compile(r"os error (\d+)")
_TORCH_WRITER = re.compile(r"PytorchStreamWriter|unexpected pos|iostream error|inline_container")
_NAME_IN_STAGING = 40  # characters: with them and 4 bytes each, a temporary name stays below the usual limit of 255


def expanded(name: str | Path) -> Path:
    """The path `name`, `~` replaced; the home of a user nobody knows stays as it is, and is then not found."""
    return Path(os.path.expanduser(name))


def is_there(name: str | Path) -> bool:
    """Whether the path `name` exists; a name that no path can have does not."""
    return os.path.exists(expanded(name))


def read_text(path: Path, what: str) -> str:
    """The UTF-8 text of `path`; `what` names it in errors, for example "parameters file".

    Raises BadInput where it is missing, a folder, a device, a pipe that nobody has opened, or no text.
    """
    try:
        _refuse_special(path, what)
        with path.open("rb") as file:
            content = read_at_most(file, MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise BadInput(f"{what} {path} is larger than {MAX_TEXT_BYTES // 2**30} GiB", hint="check the path")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{what} not found: {path}", hint="check the path") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} {path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{what} {str(path)!r} cannot be read: {reason}", hint="check its permissions") from None


def read_at_most(file: BinaryIO, most: int) -> bytes:
    """The rest of `file`, at most `most` bytes. Its own read() would first make room for all of `most`: 1 GiB here."""
    pieces = []
    while most and (piece := file.read(min(most, 2**20))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _refuse_special(path: Path, what: str) -> None:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise BadInput(f"{what} is a folder, a file was expected: {path}", hint="name the file in it")
    if not stat.S_ISREG(mode) and not (stat.S_ISFIFO(mode) and _OPEN_ALREADY.fullmatch(str(path))):
        raise BadInput(f"{what} {path} is a device or a pipe, a file was expected", hint="name a file")


def read_json(path: Path, what: str, *, keys_once: bool = False) -> Any:
    """Parse `path` as JSON. `what` names it in the error, for example "parameters file".

    Refused is what core/json_text.py refuses; with `keys_once` also a key given twice.
    """
    try:
        return json_text.parse(read_text(path, what), keys_once=keys_once)
    except json_text.Refused as reason:
        raise BadInput(f"{what} {path} is not valid JSON: {reason}", hint="mend that line") from None


def to_json(value: Any) -> str:
    """The one way JSON is written here: two-space indent, keys in the given order, newline at the end.

    Characters stay as they are, but where one cannot be encoded (a name that is not UTF-8) all are escaped.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=2, allow_nan=False) + "\n"
    return text


def require_place(path: Path) -> None:
    """Raise BadInput where no file can be written at `path`, for commands that write it after long work."""
    with explained(path):
        if path.is_dir():
            raise BadInput(f"{path} is a folder, a file was expected", hint="name a file in it")
        if not path.parent.is_dir():
            raise BadInput(f"folder does not exist: {path.parent}", hint=f"mkdir -p {word(path.parent)}")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise BadInput(f"cannot write {path}: no permission", hint="choose a path you may write to")


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
        path = Path(os.path.realpath(path))
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        import tempfile  # slow to import, and a plan on stdout writes no file

        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{short_name(path)}.", suffix=".tmp")
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


def short_name(path: Path) -> str:
    """The beginning of a file's name, for the temporary one beside it, which must not be too long for any folder."""
    return path.name[:_NAME_IN_STAGING]


@contextlib.contextmanager
def folders_above(place: Path) -> Iterator[None]:
    """Make the folders above `place`, and take back those that were made here when the block fails."""
    missing = _missing_above(place)
    try:
        with explained(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        _remove_empty(missing)
        raise


def require_folder(place: Path) -> None:
    """Raise BadInput or MissingHere where no folder `place` can be made and written to. Nothing is left behind."""
    probe = place / ".writable"
    missing = _missing_above(probe)
    try:
        with explained(place):
            probe.mkdir(parents=True)
            probe.rmdir()
    finally:
        _remove_empty(missing)


def _missing_above(place: Path) -> list[Path]:
    """The folders above `place` that are not there, innermost first."""
    with explained(place):
        return [parent for parent in place.absolute().parents if not parent.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path`, however a library words it, into a clear error."""
    try:
        yield
    except FFTError:
        raise
    except Exception as error:
        refusal = refusal_of(error, path)
        if refusal is None:
            raise
        raise refusal from None


def refusal_of(error: BaseException, path: Path) -> FFTError | None:
    """The clear error where `error` is the operating system's about `path`, in whatever words; else None."""
    if isinstance(error, ValueError) and not _can_be(path):
        return BadInput(f"{str(path)!r} is no path that a file can have", hint="choose another name")
    refused = _os_error_of(error)
    if refused is None and is_failed_write(error):
        refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None if refused is None else os_refusal(refused, path)


def _can_be(path: Path) -> bool:
    """Whether the file system could hold a file of that name: no NUL in it, and nothing that it cannot encode."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def os_error_in(error: BaseException | None) -> OSError | None:
    """The operating system's error that `error` is or was raised from; None without one."""
    while error is not None:
        if found := _os_error_of(error):
            return found
        error = error.__cause__ or error.__context__
    return None


def _os_error_of(error: BaseException) -> OSError | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error
    match = _RUST_ERROR.search(str(error))
    return OSError(int(match.group(1)), os.strerror(int(match.group(1)))) if match else None


def is_failed_write(error: BaseException) -> bool:
    """Whether torch's writer gave up, which does not say why."""
    return _TORCH_WRITER.search(str(error)) is not None


def os_refusal(error: OSError, path: Path) -> FFTError:
    """The clear error for a failed write: no room is missing space (4), anything else a bad path (2)."""
    if error.errno in NO_ROOM:
        why = ": files may not become that large here (ulimit -f)" if error.errno == errno.EFBIG else ""
        return MissingHere(f"no room on disk to write {path}{why}", hint="free space there, or choose another folder")
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        return BadInput(f"folder does not exist: {path.parent}", hint=f"mkdir -p {word(path.parent)}")
    return BadInput(f"cannot write {path}: {error.strerror}", hint="choose a path you may write to")


def os_error(error: OSError) -> FFTError:
    """The clear error for an operating system's error that names its own file, or none."""
    name = error.filename if isinstance(error.filename, str) else None
    about = f"{name}: " if name else ""
    if error.errno in NO_ROOM:
        return MissingHere(f"{about}no room on disk: {error.strerror}", hint="free space there")
    if _NO_TEMPORARY.search(str(error)):  # tempfile's own words, and matplotlib's
        return MissingHere(
            "no folder for temporary files can be written", hint="set TMPDIR to one, for example: TMPDIR=/dev/shm"
        )
    return BadInput(
        f"{about}{error.strerror or error or type(error).__name__}", hint="check the path and its permissions"
    )


def give_usual_mode(folder: Path) -> None:
    """Give the files of `folder` the mode of new files: safetensors 0.8.0 lets only the owner read its own."""
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink():
            path.chmod(0o666 & ~umask())


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
