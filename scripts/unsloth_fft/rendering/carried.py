"""The package that every rendered file carries, compressed: what trains elsewhere is the code that trains here.

One archive serves all targets. It leaves out what a machine that trains has no use for: other hand-offs, the demo and
benchmarks. An adapter's script carries less: the modules that it imports, and those that these import.
"""

from __future__ import annotations

import ast
import base64
import functools
import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..core.files import BUNDLE_ROOT, PACKAGE

PLACE = PurePosixPath("scripts/unsloth_fft")
LEFT_OUT = (
    "rendering",
    "demo",
    "benchmarking",
    "commands/render.py",
    "commands/lora.py",
    "commands/demo.py",
    "commands/benchmark.py",
)
BESIDE = ("pyproject.toml", "LICENSE", "schemas/*.json")
WIDTH = 118
# How the archive stands in Python source.
BEGIN, END = 'PACKAGE = """', '"""'
# As preset 9, with a dictionary of the archive's own size: the preset's 64 MiB would take 674 MiB of memory to pack.
FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 4 * 2**20}


@functools.cache
def text(only: tuple[str, ...] = ()) -> str:
    """The archive as lines of base85 (an alphabet without quotes and backslashes). The same bytes every time."""
    encoded = base64.b85encode(archive(only)).decode("ascii")
    return "\n".join(encoded[start : start + WIDTH] for start in range(0, len(encoded), WIDTH))


@functools.cache
def archive(only: tuple[str, ...] = ()) -> bytes:
    """A tar of the carried files, compressed with xz; nothing in it tells of the machine or the time it was made on.

    `only`: the modules asked for (`data.preparing`) and all that they import of the package, without its schemas.
    """
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(_modules(only) if only else _files()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return lzma.compress(held.getvalue(), filters=[FILTER])


def reading_note(text: str, file: str) -> list[str]:
    """How to read the rendered `text`, called `file`, without the library packed in it; empty where none is in lines.

    `file` is a word of a command line.
    """
    lines = [line.strip() for line in text.split("\n")]  # YAML indents them
    if BEGIN not in lines:
        return []
    above = lines.index(BEGIN)
    last = lines.index(END, above) + 1
    return [
        f"note: lines {above + 1:,} to {last:,} are the library, packed: do not print the file; what it does is above:"
        f" head -n {above} {file}"
    ]


def _modules(only: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    found: set[Path] = set()
    wanted = [PACKAGE / "__init__.py", *(_file_of(name.split(".")) for name in only)]
    while wanted:
        path = wanted.pop()
        if path is None or path in found:
            continue
        found.add(path)
        wanted += [path.parent / "__init__.py", *map(_file_of, _imports(path))]
    for path in found:
        yield (PLACE / path.relative_to(PACKAGE).as_posix()).as_posix(), path


def _imports(path: Path) -> Iterator[list[str]]:
    """What `path` imports of the package, at its top or inside functions: modules, and names that may be modules."""
    folders = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = [*folders[: len(folders) + 1 - node.level], *(node.module.split(".") if node.module else ())]
            yield module
            yield from ([*module, name.name] for name in node.names)


def _file_of(module: list[str]) -> Path | None:
    place = PACKAGE.joinpath(*module)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _files() -> Iterator[tuple[str, Path]]:
    """What is carried: its place in the archive, and where it lies here."""
    left_out = [PACKAGE / name for name in (*LEFT_OUT, "bundle")]
    for path in PACKAGE.rglob("*"):
        inside = any(path == other or other in path.parents for other in left_out)
        if path.suffix in (".py", ".json") and path.is_file() and not inside:
            yield (PLACE / path.relative_to(PACKAGE).as_posix()).as_posix(), path
    for pattern in BESIDE:
        for path in BUNDLE_ROOT.glob(pattern):
            yield path.relative_to(BUNDLE_ROOT).as_posix(), path
