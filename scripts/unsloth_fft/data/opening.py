"""Data files opened for reading as bytes, packed ones unpacked on the way; what a file is, by its name.

Standard library, but for .zst before Python 3.14: there the package zstandard or pyarrow is taken, whichever is there.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..core.errors import MissingHere

PACKED = (".gz", ".zst")
# What unpacking raises of a file that is damaged or was cut short; zstandard's and pyarrow's errors are made to these.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "is a Git LFS pointer: the data themselves were not downloaded",
     "git lfs pull in that clone, or hf download OWNER/NAME --repo-type dataset"),
    (b"\x1f\x8b", "is packed by gzip, and not named so", "name it .gz after its own suffix: rows.jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "is packed by zstd, and not named so", "name it .zst after its own suffix: rows.jsonl.zst"),
)  # fmt: skip


def misnamed(path: Path) -> tuple[str, str] | None:
    """Why `path` is not what its name says, and what to do; None where nothing speaks against it. Raises OSError."""
    with path.open("rb") as file:
        start = file.read(64)
    packed = path.suffix.lower() in PACKED
    found = (words for mark, *words in _STARTS if start.startswith(mark) and not (packed and len(mark) < 5))
    return next(((what, hint) for what, hint in found), None)


def kind(path: Path) -> str:
    """The suffix that says what the rows are in, lower case: ".jsonl" of rows.jsonl and of rows.jsonl.gz."""
    inner = Path(path.stem) if path.suffix.lower() in PACKED else path
    return inner.suffix.lower()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """`path` for reading bytes. Raises OSError, MissingHere, and while it is read one of DAMAGED."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.open(path) as file:
            yield cast(BinaryIO, file)
    elif suffix == ".zst":
        with _unpacked_zst(path) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


@contextmanager
def _unpacked_zst(path: Path) -> Iterator[BinaryIO]:
    module, error = _zst_module()
    with path.open("rb") as packed:
        if hasattr(module, "ZstdDecompressor") and hasattr(module, "ZstdCompressionReader"):  # zstandard
            file: Any = module.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        elif hasattr(module, "ZstdFile"):  # compression.zstd of Python 3.14
            file = module.ZstdFile(packed)
        else:
            file = module.CompressedInputStream(packed, "zstd")
        try:
            yield cast(BinaryIO, _Lines(file, error))
        finally:
            with contextlib.suppress(Exception):
                file.close()


def _zst_module() -> tuple[Any, type[Exception]]:
    for name, error in (("compression.zstd", "ZstdError"), ("zstandard", "ZstdError"), ("pyarrow", "ArrowException")):
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(name)
            return module, getattr(module, error, OSError)
    raise MissingHere(
        "a .zst file needs the Python package zstandard", hint="pip install zstandard, or unpack the file"
    )


class _Lines:
    """read and readline over a stream that has read alone."""

    _PIECE = 2**16

    def __init__(self, stream: Any, error: type[Exception]) -> None:
        self._stream = stream
        self._error = error
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, all that is left for -1."""
        while (size < 0 or len(self._held) < size) and (piece := self._next()):
            self._held += piece
        size = len(self._held) if size < 0 else size
        found, self._held = self._held[:size], self._held[size:]
        return found

    def readline(self, size: int = -1) -> bytes:
        """Up to the end of the line, at most `size` bytes."""
        pieces, length = [self._held], len(self._held)
        while b"\n" not in pieces[-1] and (size < 0 or length < size) and (piece := self._next()):
            pieces.append(piece)
            length += len(piece)
        self._held = b"".join(pieces)
        end = self._held.find(b"\n") + 1 or len(self._held)
        return self.read(end if size < 0 else min(end, size))

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _next(self) -> bytes:
        try:
            return bytes(self._stream.read(self._PIECE))
        except (self._error, OSError) as error:
            raise EOFError(str(error)) from None
