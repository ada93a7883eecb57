"""build_skill.py: the ZIP to upload, holding one folder `unsloth-fft/` with SKILL.md at its root."""

from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from unsloth_fft.core import files, terminal
from unsloth_fft.core.arguments import Parser
from unsloth_fft.core.errors import BadInput

NAME = "unsloth-fft"
CONTENTS = ("SKILL.md", "LICENSE", "pyproject.toml", ".claude-plugin/plugin.json", "schemas", "references", "scripts")
# What only developers of the bundle use: building it, the ledger that the pages of evidence are rendered from, grading
# answers. README.md is theirs, too, and so is its picture.
LEFT_OUT = {
    "__pycache__", "build_skill.py", "evals.schema.json", "evidence.json", "evidence.schema.json", "demo-loss.png",
}  # fmt: skip
SUFFIXES = {".md", ".py", ".json", ".jsonl", ".toml", ".png", ".svg", ""}
# The oldest time a ZIP can hold (APPNOTE 4.4.6): the same bytes whenever and wherever it is built.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
# A backslash or a colon in a name would be a folder or a drive where the ZIP is unpacked on Windows.
PLAIN_NAME = re.compile(r"\.?\w[\w.-]*", re.ASCII)
MAX_NAME, MAX_DESCRIPTION = 64, 1024
ALLOWED_KEYS = {"name", "description", "license", "allowed-tools", "metadata", "compatibility"}
EPILOG = """example:
  build_skill.py --output dist        writes dist/unsloth-fft.zip"""


def entry(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    parser = Parser(prog="build_skill.py", description=__doc__, epilog=EPILOG)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for unsloth-fft.zip")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(terminal.run(lambda: _build(parser.parse_args(given)), as_json="--json" in given))


def _build(args: argparse.Namespace) -> int:
    problems = frontmatter_problems((files.BUNDLE_ROOT / "SKILL.md").read_text(encoding="utf-8"))
    if problems:
        raise BadInput(f"SKILL.md: {'; '.join(problems)}", hint="mend its frontmatter")
    with files.explained(args.output):
        args.output.mkdir(parents=True, exist_ok=True)
    target = args.output / f"{NAME}.zip"
    content = archive(files.BUNDLE_ROOT)
    files.write_bytes(target, content)
    if args.json:
        terminal.emit({"zip": str(target), "bytes": len(content)})
    else:
        terminal.say(f"{target}: {len(content) / 1000:.0f} kB")
    return 0


def archive(root: Path) -> bytes:
    """The ZIP's bytes for the bundle in `root`."""
    return archive_of(root, CONTENTS)


def archive_of(root: Path, contents: Sequence[str]) -> bytes:
    """The ZIP's bytes for these files and folders of `root`, a function of their contents alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bundle:
        for path in _members(root, contents):
            info = zipfile.ZipInfo(f"{NAME}/{_plain(path.relative_to(root))}", TIMESTAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, so that the permissions below mean the same everywhere
            info.external_attr = 0o644 << 16
            bundle.writestr(info, path.read_bytes(), compresslevel=9)
    return buffer.getvalue()


def _plain(path: Path) -> str:
    """`path` as a name that means the same on every system. Raises BadInput for one that could lead elsewhere."""
    odd = next((part for part in path.parts if not PLAIN_NAME.fullmatch(part)), None)
    if odd is not None:
        raise BadInput(
            f"{path} cannot be packed: {odd!r} is no plain name", hint="rename it: letters, digits, . _ and -"
        )
    return path.as_posix()


def _members(root: Path, contents: Sequence[str]) -> Iterator[Path]:
    for name in contents:
        top = root / name
        # Sorted by name and not as paths: the same order on every system.
        inside = sorted(top.rglob("*"), key=lambda path: path.as_posix()) if top.is_dir() else [top]
        for path in inside:
            left_out = any(part in LEFT_OUT or part.startswith(".") for part in path.relative_to(top).parts)
            if path.is_file() and not path.is_symlink() and not left_out and path.suffix in SUFFIXES:
                yield path


def frontmatter_problems(text: str) -> list[str]:
    """What is wrong with SKILL.md's frontmatter by the published rules of the format; empty when nothing is.

    Rules: agentskills skills-ref `validator.py` and Anthropic skills `quick_validate.py`.
    """
    values = frontmatter(text)
    if values is None:
        return ["has no frontmatter between two lines of ---"]
    problems = [f"key '{key}' is not allowed" for key in sorted(set(values) - ALLOWED_KEYS)]
    name, description = values.get("name", ""), values.get("description", "")
    if name != NAME or len(name) > MAX_NAME:
        problems.append(f"name is '{name}', expected '{NAME}' like the folder")
    if not 0 < len(description) <= MAX_DESCRIPTION:
        problems.append(f"description has {len(description)} characters, 1 to {MAX_DESCRIPTION} are allowed")
    if "<" in description or ">" in description:
        problems.append("description holds an angle bracket")
    return problems


def frontmatter(text: str) -> dict[str, str] | None:
    """The top-level `key: value` lines between the first two lines of `---`."""
    lines = text.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return None
    inside = lines[1 : lines.index("---", 1)]
    pairs = [line.split(":", 1) for line in inside if ":" in line and not line.startswith((" ", "\t", "#"))]
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}
