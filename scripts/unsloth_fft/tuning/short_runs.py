"""One short run in a session of its own, through the same `init` and `train` as any other; only its loss is kept."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ..core import files, json_text
from ..core.errors import EXIT_INTERRUPTED, EXIT_TRAINING_FAILED, BadInput, Interrupted, MissingHere, TrainingFailed
from ..settings.parameters import Parameters
from ..training import environment

PARAMETERS, TRY, TRIES, RESULT, LOCK = "params.json", "try.json", "tries.jsonl", "tuning.json", "lock"
CURVE = "tuning.html"
_TRAIN = "from unsloth_fft.commands import tool; from unsloth_fft.core import terminal; terminal.leave(tool.main())"


def shortened(parameters: Parameters, rate: float, steps: int) -> Parameters:
    """The same run at `rate` for `steps` optimizer steps: one evaluation at its end, no checkpoints before it."""
    schedule, whole = parameters.schedule, planned_steps(parameters)
    warmup = schedule.warmup_steps
    return dataclasses.replace(
        parameters,
        optimizer=dataclasses.replace(parameters.optimizer, learning_rate=rate, learning_rate_from=None, tuning=None),
        schedule=dataclasses.replace(
            schedule,
            num_train_epochs=None,
            max_steps=steps,
            warmup_steps=warmup if warmup < 1 or whole is None else min(warmup / whole, 0.5),
            eval_steps=None,
            save_steps=None,
            load_best_model_at_end=False,
            early_stopping_patience=None,
            report_to="none",
        ),
    )


def planned_steps(parameters: Parameters) -> int | None:
    """Optimizer steps of the whole run, where the file says or its plan worked them out."""
    if parameters.schedule.max_steps is not None:
        return parameters.schedule.max_steps
    return None if parameters.plan is None else parameters.plan.predicted.steps


def files_of(folder: Path) -> tuple[Path, ...]:
    """What tuning in `folder` writes, beside a folder and a log for each try."""
    return tuple(folder / name for name in (PARAMETERS, TRY, TRIES, RESULT, CURVE, LOCK))


class ShortRuns:
    """Tries in `folder`: each trained once, its loss kept in tries.jsonl, its model removed."""

    def __init__(self, parameters: Parameters, folder: Path) -> None:
        self.parameters = parameters
        self.folder = folder
        self._file = folder / TRIES
        self._refuse_other_parameters()

    def _refuse_other_parameters(self) -> None:
        """Raise BadInput where the folder holds tries of another run; its losses would be taken for this one's."""
        file, mine = self.folder / PARAMETERS, shortened(self.parameters, 1e-5, 1).to_json()
        if not file.exists():
            files.write_json(file, mine)
        elif files.read_json(file, "parameters of the tries") != mine:
            raise BadInput(f"{self.folder} holds tries of other parameters", hint="name a new --folder")

    def done(self) -> dict[tuple[float, int], float | None]:
        """Losses of the tries that ended, by rate and steps."""
        if not self._file.exists():
            return {}
        text = files.read_text(self._file, "list of tries")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a kill while the last line was written
            files.write_text(self._file, whole)
        return dict(self._entry(number, line) for number, line in enumerate(whole.split("\n")[:-1], start=1))

    def _entry(self, number: int, line: str) -> tuple[tuple[float, int], float | None]:
        try:
            value = json_text.parse(line)
            rate, steps, loss = value["learning_rate"], value["steps"], value["loss"]
            if loss is None or type(loss) in (int, float):
                return (float(rate), int(steps)), loss
        except (ValueError, TypeError, KeyError, OverflowError):
            pass
        raise BadInput(f"{self._file}: line {number} is no try", hint="remove that line; its try is made again")

    def attempt(self, rate: float, steps: int) -> float | None:
        """The held-out loss of a run at `rate` for `steps`; None where it diverged. Raises what else ended it."""
        known = self.done()
        if (rate, steps) in known:
            return known[rate, steps]
        root = self.folder / f"rate-{rate:g}-steps-{steps}"
        shutil.rmtree(root, ignore_errors=True)  # a try that was interrupted is made again
        file = self.folder / TRY
        files.write_json(file, shortened(self.parameters, rate, steps).to_json())
        loss = self._trained(file, root)
        shutil.rmtree(root, ignore_errors=True)
        files.append_line(self._file, {"learning_rate": rate, "steps": steps, "loss": loss})
        return loss

    def _trained(self, file: Path, root: Path) -> float | None:
        log = self.folder / f"{root.name}.log"  # not with_suffix: the rate may have a point
        with files.explained(log):
            said = log.open("w", encoding="utf-8")
        with said:
            done = subprocess.run(
                [sys.executable, "-c", _TRAIN, "train", "--params", str(file), "--session", str(root)],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**environment.for_children(), "PYTHONIOENCODING": "utf-8"},
                cwd=os.getcwd(),
            )
        if done.returncode == EXIT_INTERRUPTED:
            raise Interrupted("tuning was stopped", hint="the same command goes on with the tries that are left")
        if done.returncode:
            kind = {BadInput.exit_code: BadInput, MissingHere.exit_code: MissingHere}.get(
                done.returncode, TrainingFailed
            )
            words = _last_error(log)
            if done.returncode == EXIT_TRAINING_FAILED and "loss" in words:  # not a number: this rate is too large
                return None
            raise kind(words, hint=f"the run's own words are in {log}")
        state = files.read_json(root / "session.json", "session")
        loss = (state.get("result") or {}).get("eval_loss_after")
        if loss is None:
            raise BadInput(
                "the short runs held out no rows to compare rates by", hint="set data.eval_fraction, for example 0.1"
            )
        return float(loss)


def _last_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next(
        (line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "a run failed"
    )


def require_held_out(parameters: Parameters) -> None:
    """Raise BadInput where no rows are held out, and MissingHere without the training packages."""
    if not parameters.data.eval_fraction:
        raise BadInput("rates are compared by held-out rows, and data/eval_fraction is 0", hint="set it to 0.1")
    try:
        environment.require_packages()
    except MissingHere as missing:
        raise MissingHere(f"tuning trains: {missing.message}", hint=missing.hint) from None
