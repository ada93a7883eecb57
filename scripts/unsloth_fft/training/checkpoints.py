"""Checkpoints that are complete or absent: each is written beside its place, flushed to disk and moved there whole.

A checkpoint holds weights (safetensors), optimizer, scheduler, random state and data position, as the Trainer saves
them, and a manifest that says what belongs to it. A kill at any moment leaves at worst a staging folder, which the
next run removes.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import FFTError, MissingHere, TrainingFailed
from ..core.shell_words import word
from . import manifest
from .model import require_finite

STAGING = ".staging"
STATE_FILE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d{1,18})")


def present(checkpoints: Path) -> list[Path]:
    """Checkpoint folders, oldest first, whole or damaged."""
    if not checkpoints.is_dir():
        return []
    found = [path for path in checkpoints.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def newest(checkpoints: Path) -> Path | None:
    """The checkpoint of the highest step that has its manifest, or None. Its files are not read."""
    found = [path for path in present(checkpoints) if (path / manifest.FILE).is_file()]
    return found[-1] if found else None


def step_of(checkpoint: Path) -> int:
    """The optimizer step a checkpoint folder was saved at."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match.group(1))


def remove_leftovers(checkpoints: Path) -> None:
    """Remove what a killed save left behind."""
    shutil.rmtree(checkpoints / STAGING, ignore_errors=True)


def whole_checkpoints(trainer_class: type) -> type:
    """A subclass of `trainer_class` (a transformers.Trainer) whose checkpoints appear whole or not at all.

    Saving raises TrainingFailed when the weights are not finite and MissingHere when the disk is full; the
    checkpoints that were there stay.
    """

    class WholeCheckpoints(trainer_class):  # type: ignore[misc]
        _staging = False

        def _get_output_dir(self, trial: Any) -> str:
            folder = super()._get_output_dir(trial)
            return str(Path(folder) / STAGING) if self._staging else str(folder)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            folder, step = Path(self.args.output_dir), self.state.global_step
            require_finite(self.model, step)
            with _explained(folder, step):
                if self.args.should_save:
                    remove_leftovers(folder)
                self.accelerator.wait_for_everyone()
                self._staging = True
                try:
                    super()._save_checkpoint(model, trial)
                finally:
                    self._staging = False
                self.accelerator.wait_for_everyone()  # every process has written its random state
                self._name_best_where_it_will_be(folder)
                if self.args.should_save:
                    staged = folder / STAGING / f"checkpoint-{step}"
                    self.state.save_to_json(str(staged / STATE_FILE))
                    _publish(staged, folder, step)
                    best = self.state.best_model_checkpoint
                    keep_newest(folder, self.args.save_total_limit, Path(best) if best else None)
                self.accelerator.wait_for_everyone()

        def _name_best_where_it_will_be(self, folder: Path) -> None:
            """The Trainer notes the best checkpoint by the path it has just written, which is the staging folder."""
            best = self.state.best_model_checkpoint
            if best is not None and Path(best).parent.name == STAGING:
                self.state.best_model_checkpoint = str(folder / Path(best).name)

        def _init_training_state(self, *args: Any, **settings: Any) -> Any:
            done = super()._init_training_state(*args, **settings)
            self.find_best()
            return done

        def restore(self, checkpoint: Path) -> None:
            """Load the weights and the state of a run that had ended at `checkpoint`, as `train` would leave them."""
            from transformers import TrainerState

            self.state = TrainerState.load_from_json(str(checkpoint / STATE_FILE))
            self.find_best()
            self._load_from_checkpoint(str(checkpoint))
            if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
                self._load_best_model()

        def find_best(self) -> None:
            """A saved state names the best checkpoint by its absolute path; a moved or copied session has another."""
            step = self.state.best_global_step
            best = Path(self.args.output_dir) / f"checkpoint-{step}"
            self.state.best_model_checkpoint = str(best) if step and best.is_dir() else None

        def _load_best_model(self) -> None:
            best = Path(self.state.best_model_checkpoint)
            reason = manifest.problem(best, step_of(best))
            if reason is not None:
                raise TrainingFailed(
                    f"training is done, but its best checkpoint {best.name} is damaged: {reason}",
                    hint=f"take the model out of another checkpoint in {best.parent}, or train anew",
                )
            super()._load_best_model()

    return WholeCheckpoints


def _publish(staged: Path, folder: Path, step: int) -> None:
    """Move a finished checkpoint to its place, its bytes on disk first: a rename may outlive a power cut, data not."""
    (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
    manifest.write(staged, step)
    flush(staged)
    target = folder / staged.name
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    _sync(folder)
    remove_leftovers(folder)


def flush(folder: Path) -> None:
    """Have the kernel write every file of `folder` to disk. Raises OSError when it cannot."""
    for path in (folder, *folder.rglob("*")):
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders; NTFS keeps its own log of them
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes what may be written alone
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_newest(checkpoints: Path, limit: int | None, best: Path | None = None) -> None:
    """Remove all but the `limit` newest checkpoints; `best` stays, counted among them where `limit` allows two."""
    if limit is None:
        return
    found = present(checkpoints)
    kept = found[-limit:]
    if best is not None and best in found and best not in kept:
        kept = [best, *found[-max(limit - 1, 1) :]]
    for old in found:
        if old not in kept:
            remove(old)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint folder; of a symbolic link only the link."""
    if checkpoint.is_symlink():
        checkpoint.unlink()
    else:
        shutil.rmtree(checkpoint)


@contextmanager
def _explained(folder: Path, step: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        remove_leftovers(folder)
        if isinstance(error, FFTError):
            raise
        refusal = disk_refusal(error, folder, f"the checkpoint of step {step}")
        if refusal is None:
            raise
        raise refusal from error


def disk_refusal(error: BaseException, folder: Path, what: str) -> FFTError | None:
    """The clear error when `error` is the disk's doing while `what` was written into `folder`, else None.

    A full disk, a quota or a file-size limit is MissingHere; a disk that refuses writing is BadInput.
    """
    refused = files.os_error_in(error)
    if refused is None and not files.is_failed_write(error):
        return None
    if refused is not None and refused.errno not in files.NO_ROOM:
        return files.os_refusal(refused, folder)
    reason = "torch's writer failed" if refused is None else os.strerror(refused.errno or errno.ENOSPC)
    last = newest(folder)
    kept = "no earlier one exists" if last is None else f"{last.name} is the newest and complete"
    return MissingHere(
        f"{what} could not be written to {folder}: {reason} ({_free_gib(folder):.2f} GiB free); {kept}",
        hint=f"free space there, then: unsloth_fft_tool.py train {word(folder.parent)} --resume",
    )


def _free_gib(folder: Path) -> float:
    return shutil.disk_usage(folder if folder.exists() else folder.parent).free / 2**30
