"""What came of a run: its figures, and the float32 master where the trained weights are only half of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from ..core.terminal import say
from ..settings.parameters import Parameters
from . import checkpoints, held_out, master, metrics, processes
from .session import Folder, Result


def evaluated_at(folder: Folder, step: int) -> bool:
    """Whether metrics.jsonl has the evaluation of `step`; the first process's word, as only it writes there."""
    first = processes.is_first()
    return processes.any_of(
        first and any(line.kind == "eval" and line.step == step for line in metrics.read(folder.metrics))
    )


def finish(folder: Folder, parameters: Parameters, prepared: Any, runner: Any, seconds: float) -> Result:
    """The figures of a run whose model is saved; its corrections, if it has any, are saved here."""
    lines = metrics.read(folder.metrics)
    evaluations = [line for line in lines if line.kind == "eval"]
    steps = [line for line in lines if line.kind == "train"]
    tokens, step = int(runner.state.num_input_tokens_seen), _model_step(runner)
    of_model = [line.loss for line in evaluations if line.step == step]
    after = of_model[-1] if of_model else None
    corrections, missing = _keep_corrections(folder, parameters, runner, step)
    of_master, as_bfloat16 = _losses_by_storage(parameters, prepared, runner, corrections, after)
    return Result(
        train_loss=steps[-1].loss if steps else None,
        eval_loss_before=evaluations[0].loss if evaluations else None,
        eval_loss_after=after,
        eval_rows=len(prepared.held_out or []),
        train_rows=len(prepared.train),
        tokens=tokens,
        supervised_tokens=prepared.supervised_tokens,
        seconds=round(seconds, 3),
        tokens_per_second=round(tokens / seconds, 2) if seconds > 0 else 0.0,
        peak_gib=metrics.peak_gib(),
        model_step=step,
        eval_loss_master=of_master,
        eval_loss_bfloat16=as_bfloat16,
        master_missing=missing,
    )


def _model_step(runner: Any) -> int:
    """The step whose weights the trainer holds: the best checkpoint's where it was loaded, else the last."""
    state = runner.state
    if runner.args.load_best_model_at_end and state.best_model_checkpoint is not None:
        return int(state.best_global_step)
    return int(state.global_step)


def _keep_corrections(
    folder: Folder, parameters: Parameters, runner: Any, step: int
) -> tuple[Mapping[str, Any], str | None]:
    """The corrections of the weights that model/ holds, now saved beside it; and why there are none of an adamw_flash
    run.

    The parameters say which optimizer it is: Unsloth writes `adamw_torch` into the trainer's own `optim` (unsloth
    2026.10.9, optimizers/flash_adamw.py, _FLASH_ADAMW_PLACEHOLDER).
    """
    if not master.has_corrections(parameters):
        return {}, None
    found, missing = _corrections(folder, runner, step)
    try:
        if found:
            master.save(found, folder.correction)
        else:
            shutil.rmtree(folder.correction, ignore_errors=True)
            say(f"warning: the float32 master is not kept: {missing}")
    except Exception as error:
        refusal = checkpoints.disk_refusal(error, folder.checkpoints, "the float32 master")
        if refusal is None:
            raise
        raise refusal from error
    return found, missing


def _corrections(folder: Folder, runner: Any, step: int) -> tuple[Mapping[str, Any], str | None]:
    """From the optimizer, or from the checkpoint that the weights came from; else why there are none."""
    if processes.COUNT > 1:
        return {}, "of several processes each holds a part; the checkpoints have all of it"
    found = master.corrections_of(runner.optimizer, runner.model) if step == runner.state.global_step else {}
    if not found:  # another step's weights were loaded, or a finished run's
        found = master.corrections_in(folder.checkpoints / f"checkpoint-{step}", runner)
    if found:
        return found, None
    return {}, f"neither the optimizer nor checkpoint-{step} has corrections; export writes the bfloat16 weights"


def _losses_by_storage(
    parameters: Parameters, prepared: Any, runner: Any, corrections: Mapping[str, Any], after: float | None
) -> tuple[float | None, float | None]:
    """Held-out loss of the float32 master, and of the same weights stored as bfloat16; None where there is none.

    The loss `after` training is one of the two, so the other is measured here.
    """
    columns = getattr(prepared.held_out, "column_names", None) or []
    if "labels" not in columns or processes.COUNT > 1:
        return None, None
    rows = held_out.Rows(prepared.held_out)
    if parameters.precision.weights == "float32":
        narrow = held_out.row_losses(runner.model, rows, lambda weight: weight.data.bfloat16().float())
        return after, held_out.finite(held_out.by_tokens(narrow))
    if corrections:
        wide = held_out.row_losses(runner.model, rows, master.value_of(corrections, runner.model))
        return held_out.finite(held_out.by_tokens(wide)), after
    return None, None
