"""No command writes over what it reads: one check of every output against every input, before any work.

    outputs.refuse_overwriting({"--output": args.output}, files=[params], models=[folder], data=[rows], sessions=[run])

Links are followed on both sides, so that a file is found under whatever name it is given.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from .errors import BadInput

# What a session is trained, resumed and audited from; its report, plots and audit are made anew at any time.
SESSION_FILES = ("session.json", "params.json", "metrics.jsonl", ".lock", "checkpoints", "model")
# What a model in Hugging Face format consists of, by suffix and by name. Other files may stand beside them.
MODEL_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".model", ".jinja", ".index.json")
MODEL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.json", "adapter_config.json"),
    *("preprocessor_config.json", "processor_config.json"),
)
DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md")

Place = str | Path | None
# Whether a file, by its path inside a folder, is one that the folder is read for.
_Belongs = Callable[[Path], bool]


def unused(name: Place) -> str:
    """`name` where nothing is there, else with the first number that makes it free: run-1 gives run-2, p.json p-2.json.

    For names in commands that are proposed: a folder that is there would be refused, and a file lost.
    """
    path = Path(str(name))
    if not os.path.lexists(path):
        return str(path)
    stem, _, number = path.stem.rpartition("-")
    if not (stem and number.isdecimal()):
        stem, number = path.stem, "1"
    return next(
        str(other)
        for count in itertools.count(int(number) + 1)
        if not os.path.lexists(other := path.with_name(f"{stem}-{count}{path.suffix}"))
    )


def refuse_overwriting(
    outputs: Mapping[str, Place],
    *,
    files: Iterable[Place] = (),
    models: Iterable[Place] = (),
    data: Iterable[Place] = (),
    sessions: Iterable[Place] = (),
) -> None:
    """Raise BadInput where an output, by the flag that names it, is an input, or a part of an input that is a folder.

    `models`, `data` and `sessions` may be folders: of a model its own files are kept, of a data set every file that
    would be read as data, of a session what it is trained and audited from. Names that are on no disk here are passed
    over, and so are streams and devices, which nothing is kept in.
    """
    inputs = [
        (Path(os.path.expanduser(path)), kind, belongs)
        for paths, kind, belongs in (
            (files, "read by this command", _is_nothing),
            (models, "a file of the model", _is_of_model),
            (data, "data that are read", _is_data),
            (sessions, "what the session is made of", _is_of_session),
        )
        for path in paths
        if path is not None
    ]
    found = {flag: Path(path) for flag, path in outputs.items() if path is not None}
    _refuse_same(found)
    for flag, output in found.items():
        _refuse_part_of_session(flag, output)
        for source, kind, belongs in inputs:
            if _hits(output, source, belongs):
                raise BadInput(
                    f"{flag} {output} is {kind}, and would be lost; nothing was written",
                    hint=f"choose another file for {flag}",
                )


def refuse_links(root: Path, own: Collection[str]) -> None:
    """Raise BadInput where a link in the folder `root`, which may come from elsewhere, leads out of it.

    Trackers link from one of their files to another, inside; what is called as one of `own`, directly in `root`, is
    never a link.
    """
    real = root.resolve()
    for place, folders, names in os.walk(root):
        for path in (Path(place) / name for name in (*folders, *names)):
            if path.is_symlink() and (path.parent == root and path.name in own or _leads_out(path, real)):
                raise BadInput(
                    f"{path} is a symbolic link; what is written in {root} stays there",
                    hint="put the file or folder itself there, or name another folder",
                )


def _leads_out(link: Path, root: Path) -> bool:
    try:
        return not link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return True


def is_within(path: Path, folder: Path) -> bool:
    """Whether `path` is `folder` or lies somewhere inside it, links followed."""
    return _real(path).is_relative_to(_real(folder))


def _refuse_same(outputs: Mapping[str, Path]) -> None:
    flags = list(outputs)
    for number, flag in enumerate(flags):
        for other in flags[number + 1 :]:
            if _real(outputs[flag]) == _real(outputs[other]) and not _is_stream(outputs[flag]):
                raise BadInput(f"{flag} and {other} name the same file", hint="give each its own")


def _refuse_part_of_session(flag: str, output: Path) -> None:
    """A session is kept from every command, also from those that read none of it."""
    real = _real(output)
    for root in real.parents:
        if _is_of_session(real.relative_to(root)) and (root / SESSION_FILES[0]).is_file():
            raise BadInput(
                f"{flag} {output} is what the session {root} is made of, and would be lost; nothing was written",
                hint=f"choose another file for {flag}",
            )


def _hits(output: Path, source: Path, belongs: _Belongs) -> bool:
    if _is_stream(output) or not os.path.exists(source):
        return False
    if _is_same_file(output, source):
        return True
    if not os.path.isdir(source):
        return False
    if os.path.exists(output) and any(_is_same_file(output, part) for part in _parts(source, belongs)):
        return True
    real, root = _real(output), _real(source)
    return real != root and real.is_relative_to(root) and belongs(real.relative_to(root))


def _parts(folder: Path, belongs: _Belongs) -> Iterator[Path]:
    """The files of a folder that belong to it; links out of it are among them (a Hub cache consists of such)."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            if belongs(path.relative_to(folder)):
                yield path


def _is_nothing(_inside: Path) -> bool:
    return False


def _is_of_model(inside: Path) -> bool:
    return inside.name in MODEL_FILES or inside.name.endswith(MODEL_SUFFIXES)


def _is_data(inside: Path) -> bool:
    return inside.suffix.lower() in DATA_SUFFIXES


def _is_of_session(inside: Path) -> bool:
    return inside.parts[0] in SESSION_FILES


def _is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe or the like: written into, never replaced."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there
        return False


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path
