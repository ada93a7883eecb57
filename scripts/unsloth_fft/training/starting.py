"""Where a run starts: the newest checkpoint that is still what was saved, or step 0."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.shell_words import word
from ..core.terminal import say
from . import checkpoints, manifest, metrics, processes
from .session import Folder, Session


@dataclass(frozen=True)
class Start:
    """The checkpoint to go on from (None: step 0), and newer ones that are damaged with what is wrong."""

    checkpoint: Path | None
    damaged: tuple[tuple[Path, str], ...]

    @property
    def step(self) -> int:
        return 0 if self.checkpoint is None else checkpoints.step_of(self.checkpoint)


def command(folder: Folder) -> str:
    """The command that trains the session on: from its newest checkpoint where it has one, else from the start."""
    resume = " --resume" if checkpoints.present(folder.checkpoints) else ""
    return f"unsloth_fft_tool.py train {word(folder.root)}{resume}"


def find(folder: Folder, state: Session, resume: bool) -> Start:
    """Choose, changing nothing.

    Raises BadInput when the session is completed, when there is a checkpoint and `resume` is not asked for, and when
    there are checkpoints and every one is damaged.
    """
    if state.state == "completed":
        raise BadInput(
            f"{folder.root} is already completed; nothing was changed",
            hint=f"see it with: unsloth_fft_tool.py status {word(folder.root)}; train anew in a new session",
        )
    found = checkpoints.present(folder.checkpoints)
    if found and not resume:
        raise BadInput(
            f"{folder.root} has a checkpoint at step {checkpoints.step_of(found[-1])}",
            hint=f"continue with: unsloth_fft_tool.py train {word(folder.root)} --resume",
        )
    damaged: list[tuple[Path, str]] = []
    for checkpoint in reversed(found):
        reason = manifest.problem(checkpoint, checkpoints.step_of(checkpoint))
        if reason is None:
            return Start(checkpoint, tuple(damaged))
        damaged.append((checkpoint, reason))
    if damaged:
        shown = "; ".join(f"{path.name}: {reason}" for path, reason in damaged[:3])
        raise BadInput(
            f"no checkpoint in {folder.checkpoints} is whole: {shown}",
            hint=f"restore one from a backup, or start anew by removing {folder.checkpoints}",
        )
    return Start(None, ())


def refuse_different(folder: Folder, start: Path | None) -> None:
    """Raise BadInput, in all processes, where they would go on from different steps: machines that share no folder."""
    step = 0 if start is None else checkpoints.step_of(start)
    furthest = processes.largest(step)
    if processes.any_of(step != furthest):
        raise BadInput(
            f"the machines of this run do not have the same checkpoints: step {furthest} is not on every one of them",
            hint=f"copy {folder.checkpoints} of the first machine to the others, and start again",
        )


def tidy(folder: Folder, start: Start, state: Session) -> None:
    """Bring the session back to where `start` is: remove leftovers, damaged checkpoints and later metrics."""
    checkpoints.remove_leftovers(folder.checkpoints)
    for path, reason in start.damaged:
        say(f"{path.name} is damaged ({reason}); it is removed, and training goes on from step {start.step}")
        checkpoints.remove(path)
    if start.checkpoint is not None:
        metrics.cut_after(folder.metrics, start.step)
    else:
        if state.step > 0:
            say(f"{folder.checkpoints} holds no checkpoint; training starts again at step 0")
        folder.metrics.unlink(missing_ok=True)


def is_finished(checkpoint: Path) -> bool:
    """Whether training had ended when `checkpoint` was saved, by its steps or by early stopping.

    The Trainer would go on from such a checkpoint and take a step too many.
    """
    state = _trainer_state(checkpoint)
    if state["global_step"] >= state["max_steps"]:
        return True
    stopping = (state.get("stateful_callbacks") or {}).get("EarlyStoppingCallback")
    if not stopping:
        return False
    last = stopping[-1] if isinstance(stopping, list) else stopping
    return bool(last["attributes"]["early_stopping_patience_counter"] >= last["args"]["early_stopping_patience"])


def _trainer_state(checkpoint: Path) -> dict[str, Any]:
    # Not files.read_json: the log in it may hold NaN.
    try:
        state = json.loads((checkpoint / checkpoints.STATE_FILE).read_text(encoding="utf-8"))
        assert isinstance(state["global_step"], int) and isinstance(state["max_steps"], int)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AssertionError):
        raise BadInput(
            f"{checkpoint / checkpoints.STATE_FILE} is no state of a Trainer",
            hint=f"remove {checkpoint} to go on from an earlier one",
        ) from None
    return dict(state)
