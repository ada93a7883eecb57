"""Checkpoints that are complete or absent: each is written beside its place and moved there whole.

A checkpoint holds weights (safetensors), optimizer, scheduler, random state and data position, as the Trainer saves
them; a kill at any moment leaves at worst a staging folder, which the next run removes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

STAGING = ".staging"
_NAME = re.compile(r"checkpoint-(\d+)")


def newest(checkpoints: Path) -> Path | None:
    """The complete checkpoint of the highest step, or None."""
    found = complete(checkpoints)
    return found[-1] if found else None


def complete(checkpoints: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    if not checkpoints.is_dir():
        return []
    found = [
        path for path in checkpoints.iterdir() if _NAME.fullmatch(path.name) and (path / "trainer_state.json").is_file()
    ]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The optimizer step a checkpoint folder was saved at."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match.group(1))


def remove_leftovers(checkpoints: Path) -> None:
    """Remove what a killed save left behind."""
    shutil.rmtree(checkpoints / STAGING, ignore_errors=True)


def whole_checkpoints(trainer_class: type) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) whose checkpoints appear whole or not at all."""

    class WholeCheckpoints(trainer_class):  # type: ignore[misc]
        _staging = False

        def _get_output_dir(self, trial: Any) -> str:
            folder = super()._get_output_dir(trial)
            return str(Path(folder) / STAGING) if self._staging else str(folder)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder = Path(self.args.output_dir)
            remove_leftovers(folder)
            self._staging = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staging = False
            name = f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / STAGING / name).rename(folder / name)
            remove_leftovers(folder)
            keep_newest(folder, self.args.save_total_limit)

    return WholeCheckpoints


def keep_newest(checkpoints: Path, limit: int | None) -> None:
    """Remove all but the `limit` newest complete checkpoints."""
    if limit is not None:
        for old in complete(checkpoints)[:-limit]:
            shutil.rmtree(old)
