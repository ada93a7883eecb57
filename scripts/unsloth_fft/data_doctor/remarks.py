"""What deserves a second look in a data report, in sentences that end with what to do."""

from __future__ import annotations

from ..data import cut_ends
from . import oddities
from .report import Report

# Shares from which a warning is worth its line.
_CUT, _WASTE, _REPEATED = 0.01, 0.3, 0.01


def warnings_of(report: Report) -> list[str]:
    """Warnings, the gravest first."""
    return [
        *_ends(report),
        *_learning(report),
        *oddities.sentences(report.oddities),
        *_template(report),
        *_repeats(report),
        *_lengths(report),
    ]


def _ends(report: Report) -> list[str]:
    cut = report.truncation
    if not cut.rows_without_end:
        return []
    refused = (
        f": the model would learn not to stop. Training refuses more than {cut_ends.ALLOWED:.0%}; give --seq-length"
        f" {report.recommended.max_seq_length} ({report.recommended.why}), or allow it (data.allow_cut_ends)"
        if cut.ends_refused
        else ""
    )
    return [
        f"{cut.rows_without_end:,} of {cut.rows_with_end:,} rows lose the end of their last answer to the cut{refused}."
    ]


def _learning(report: Report) -> list[str]:
    found = []
    cut, unexpected = report.truncation, report.supervision.rows_with_unexpected_turns
    if report.epoch.examples == 0:
        found.append(f"No row keeps a token to learn at {cut.at:,} tokens: raise --max-seq-length.")
    elif cut.rows_without_answer:
        found.append(f"{cut.rows_without_answer:,} rows are cut before any answer and teach nothing: raise the length.")
    if unexpected:
        found.append(
            f"In {unexpected:,} rows the learned stretches are not one for each assistant turn: a turn is empty or left"
            " out by the template, or a message contains the template's own markers."
        )
    if report.usable_rows and report.supervision.share < 0.05:
        found.append(
            f"Only {report.supervision.share:.1%} of tokens are learned: most of each step is spent on prompts."
        )
    return found


def _template(report: Report) -> list[str]:
    template, found = report.template, []
    if template.end_of_turn is None:
        found.append(
            "Nothing ends an answer, so the model will not learn to stop: choose a template with an end token."
        )
    elif template.end_is_one_token is False:
        found.append(
            f"The end of a turn, {template.end_of_turn!r}, is no token of this vocabulary: it is learned in pieces, and"
            " in earlier turns Unsloth's mask leaves it out. Choose the template of the model's own family."
        )
    elif template.end_stops_generation is False:
        found.append(
            f"Answers end with {template.end_of_turn!r}, which is not among the model's eos_token_id: the base does not"
            " stop there. train adds it to the generation_config.json of what it saves."
        )
    if template.every_turn_ends is False and template.end_of_turn is not None:
        found.append("Only the last answer of a conversation is learned with its end; earlier ones lose it.")
    if template.rows_begun_twice:
        found.append(
            f"{template.rows_begun_twice:,} rows would begin with the begin token twice: remove it from the text"
            " (training here keeps one in raw text)."
        )
    return found


def _repeats(report: Report) -> list[str]:
    found, repeats = [], report.duplicates
    if report.leakage.leaked_rows:
        found.append(
            f"{report.leakage.leaked_rows:,} of {report.leakage.held_out_rows:,} held-out rows repeat a training row,"
            " so held-out loss is too good: remove duplicates."
        )
    if repeats.exact_rows + repeats.near_rows > _REPEATED * report.rows:
        found.append(
            f"{repeats.exact_rows:,} rows repeat another exactly and {repeats.near_rows:,} nearly: they count more than"
            " once in each pass."
        )
    if repeats.empty_rows:
        found.append(f"{repeats.empty_rows:,} rows are empty and will be left out.")
    return found


def _lengths(report: Report) -> list[str]:
    found = []
    if report.truncation.share > _CUT:
        better = report.recommended
        advice = f"; {better.max_seq_length:,} {better.why}" if better.max_seq_length != report.truncation.at else ""
        found.append(f"{report.truncation.share:.1%} of rows are cut at {report.truncation.at:,} tokens{advice}.")
    padding = report.padding
    if padding.padding_waste - padding.packed_waste > _WASTE:
        found.append(
            f"{padding.padding_waste:.0%} of positions are padding at micro-batch {padding.micro_batch}; packing leaves"
            f" {padding.packed_waste:.0%} (on a GPU; Unsloth turns packing off on a CPU)."
        )
    return found
