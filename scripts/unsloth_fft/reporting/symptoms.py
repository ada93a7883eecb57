"""What a run's metrics show that a person should act on: spikes, divergence, vanishing gradients, overfitting.

The rules are this project's own and deliberately coarse: a run without a finding may still be a poor one. Every piece
of advice names where it comes from, as `evidence:ID` (references/evidence.md) or a heading of a reference page.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..data import cut_ends
from ..data_doctor.report import Report
from ..training.metrics import Line

WINDOW = 20  # lines a spike is compared with
FEWEST = 10  # lines before anything is said
SPIKE_DEVIATIONS = 6.0  # robust standard deviations over the window's median ...
SPIKE_SHARE = 0.5  # ... and this much of the median, so that a very even loss does not raise alarms
NORMAL_MAD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
RISE = 1.1  # mean loss of the last tenth over that of the first
VANISHED = 1e-3  # gradient norm over its median in the first lines
OVERFIT = 1.02  # last held-out loss over the lowest

WHEN_TO_CHANGE = "references/hyperparameters.md#when-to-change-them"
WHY_THESE = "references/hyperparameters.md#why-these-values"


@dataclass(frozen=True)
class Finding:
    """One thing seen in the metrics: its kind, the step it shows at, what was seen, what to change first, and why."""

    kind: str
    step: int
    seen: str
    advice: str
    source: str

    def to_json(self) -> dict[str, str | int]:
        return dataclasses.asdict(self)


def findings(lines: Sequence[Line]) -> list[Finding]:
    """Everything found in a run's metrics lines, oldest first."""
    steps = [line for line in lines if line.kind == "train"]
    evaluations = [line for line in lines if line.kind == "eval" and line.loss is not None]
    found = [
        *_not_finite(lines),
        *_spikes(steps),
        *_divergence(steps),
        *_vanishing(steps),
        *_overfitting(steps, evaluations),
        *_worse_than_base(evaluations),
    ]
    return sorted(found, key=lambda finding: finding.step)


def of_data(report: Report) -> list[Finding]:
    """What a report on the rows says of the model that was trained on them."""
    cut = report.truncation
    if not cut_ends.is_too_many(cut.rows_without_end, cut.rows_with_end):
        return []
    return [
        Finding(
            "ends_cut",
            0,
            f"{cut.rows_without_end:,} of {cut.rows_with_end:,} rows lost the end of their last answer at"
            f" {cut.at:,} tokens, so the model learned not to stop",
            f"train anew with --seq-length {report.recommended.max_seq_length}, whatever the losses say",
            "references/data.md#the-data-doctor",
        )
    ]


def _not_finite(lines: Sequence[Line]) -> list[Finding]:
    return [
        Finding(
            "not_finite",
            line.step,
            f"the {'loss' if line.kind == 'train' else 'held-out loss'} is NaN or infinite at step {line.step}",
            "halve the learning rate or lengthen the warm-up, and look at the data with the data command",
            WHEN_TO_CHANGE,
        )
        for line in lines
        if line.loss is None
    ][:1]


def _spikes(steps: Sequence[Line]) -> list[Finding]:
    """Losses far above the lines just before; one finding, with their number, at the first."""
    known = [(line.step, line.loss) for line in steps if line.loss is not None]
    spikes = []
    for index in range(FEWEST, len(known)):
        before = [loss for _, loss in known[max(index - WINDOW, 0) : index]]
        middle = statistics.median(before)
        spread = NORMAL_MAD * statistics.median(abs(loss - middle) for loss in before)
        if known[index][1] > middle + max(SPIKE_DEVIATIONS * spread, SPIKE_SHARE * abs(middle)):
            spikes.append((*known[index], middle))
    if not spikes:
        return []
    step, loss, middle = spikes[0]
    more = f", and {len(spikes) - 1} more" if len(spikes) > 1 else ""
    return [
        Finding(
            "loss_spike",
            step,
            f"the loss jumped to {loss:.3g} at step {step}, from about {middle:.3g}{more}",
            "halve the learning rate or warm up for longer; if it comes back at the same rows, look at those",
            WHEN_TO_CHANGE,
        )
    ]


def _divergence(steps: Sequence[Line]) -> list[Finding]:
    losses = [line.loss for line in steps if line.loss is not None]
    if len(losses) < 2 * FEWEST:
        return []
    tenth = max(len(losses) // 10, 2)
    first, last = statistics.fmean(losses[:tenth]), statistics.fmean(losses[-tenth:])
    if last <= RISE * first:
        return []
    return [
        Finding(
            "divergence",
            steps[-1].step,
            f"the training loss rose from {first:.3g} in the first tenth to {last:.3g} in the last",
            "halve the learning rate, then lengthen the warm-up",
            WHEN_TO_CHANGE,
        )
    ]


def _vanishing(steps: Sequence[Line]) -> list[Finding]:
    norms = [(line.step, line.grad_norm) for line in steps if line.grad_norm is not None]
    if len(norms) < 3:
        return []
    usual = statistics.median(norm for _, norm in norms[:FEWEST])
    for index in range(2, len(norms)):
        three = [norm for _, norm in norms[index - 2 : index + 1]]
        if max(three) <= VANISHED * usual or max(three) == 0:
            step = norms[index - 2][0]
            return [
                Finding(
                    "vanishing_gradient",
                    step,
                    f"the gradient norm fell to {three[0]:.3g} at step {step}, from about {usual:.3g} at the start",
                    "a norm of zero means that nothing trains: check that rows have tokens to learn (data command)"
                    " and that the audit finds no frozen tensor",
                    "evidence:report-zero-gradient",
                )
            ]
    return []


def _overfitting(steps: Sequence[Line], evaluations: Sequence[Line]) -> list[Finding]:
    if len(evaluations) < 3:
        return []
    losses = {line.step: line.loss for line in evaluations if line.loss is not None}
    last = max(losses)
    lowest = min(losses, key=losses.__getitem__)
    if lowest in (last, min(losses)) or losses[last] < OVERFIT * losses[lowest]:
        return []
    until = [line.loss for line in steps if line.loss is not None and line.step <= lowest][-WINDOW:]
    since = [line.loss for line in steps if line.loss is not None and line.step > lowest][-WINDOW:]
    if not until or not since or statistics.fmean(since) >= statistics.fmean(until):
        return []
    return [
        Finding(
            "overfitting",
            lowest,
            f"the held-out loss was lowest at step {lowest} ({losses[lowest]:.3g}) and rose to {losses[last]:.3g},"
            " while the training loss went on falling",
            "train fewer epochs first; set schedule.eval_steps and schedule.load_best_model_at_end to keep the best"
            " checkpoint",
            WHY_THESE,
        )
    ]


def _worse_than_base(evaluations: Sequence[Line]) -> list[Finding]:
    if len(evaluations) < 2:
        return []
    first, last = evaluations[0], evaluations[-1]
    if first.loss is None or last.loss is None or first.step > 0 or last.loss <= first.loss:
        return []
    return [
        Finding(
            "worse_than_base",
            last.step,
            f"the held-out loss is {last.loss:.3g} after training, {first.loss:.3g} before it",
            "lower the learning rate before anything else, then train fewer epochs; hold out general text and watch"
            " its loss, too",
            "evidence:forgetting-remedies",
        )
    ]
