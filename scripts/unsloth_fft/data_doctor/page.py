"""A data report for people: a table for the terminal, and a section of report.html."""

from __future__ import annotations

import html
from pathlib import Path

from ..core.columns import aligned
from . import learned_view
from .checking import fault_lines
from .lengths import Bin, Tokens
from .report import Report, Stretch

# What may be wider than a phone scrolls by itself, by keyboard too, and has a name for those who do not see it.
_SCROLLS = '<div class="wide" role="region" tabindex="0" aria-label'
_BAR = 36  # characters of the longest bar
_FAULTS_ON_A_PAGE = 20
_WIDTH, _HEIGHT, _FOOT = 640, 200, 34  # of the plot, in user units
_LABEL = 90  # about the width of "cut at 32,768" there


def table(report: Report) -> str:
    """The report as lines of text."""
    lines = [aligned(_figures(report)), "", "tokens a row", *_bars(report.tokens), ""]
    lines += [*sample_lines(report.samples), ""] if report.samples else []
    lines += [f"warning: {sentence}" for sentence in report.warnings]
    return "\n".join([*lines, *fault_lines(report.faults)])


def sample_lines(samples: list[list[Stretch]]) -> list[str]:
    """The first rows as the model reads them."""
    return [
        f"the first rows as the model reads them; {learned_view.LEGEND}",
        *(f"{number}: {learned_view.line(sample)}" for number, sample in enumerate(samples, start=1)),
    ]


def _samples_section(report: Report) -> str:
    if not report.samples:
        return ""
    rows = "".join(f"<pre>{''.join(map(_marked, sample))}</pre>" for sample in report.samples)
    return f'<p class="soft">The first rows as the model reads them; what is marked is learned.</p>{rows}'


def _marked(part: Stretch) -> str:
    return f"<mark>{html.escape(part.text)}</mark>" if part.learned else html.escape(part.text)


def section(report: Report) -> str:
    """The report as HTML, without a heading, for a page with the style of reporting/report.py."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in _figures(report)
    )
    warnings = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in report.warnings)
    faults = "".join(f"<li>{html.escape(line)}</li>" for line in fault_lines(report.faults, _FAULTS_ON_A_PAGE))
    return (
        f'{_SCROLLS}="Tokens a row">{length_plot(report)}</div><p class="soft">{_plot_words(report)}</p>'
        + f'{_SCROLLS}="Figures of the data"><table><tbody>{rows}</tbody></table></div>'
        + _samples_section(report)
        + (f'<p class="bad">Worth a look:</p><ul>{warnings}</ul>' if warnings else "")
        + (f'<p class="bad">{report.faults.count:,} rows cannot be used:</p><ul>{faults}</ul>' if faults else "")
    )


def page(report: Report, style: str) -> str:
    """A whole page around `section`."""
    tone = "bad" if report.is_refused else "good"
    verdict = "Training would refuse these data." if report.is_refused else "Training would take these data."
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Data report</title><style>{style}</style></head>\n<body><main><h1>Data report</h1>"
        f'<p><strong class="{tone}">{verdict}</strong></p>{section(report)}</main></body></html>\n'
    )


def length_plot(report: Report) -> str:
    """Rows by length as an inline SVG, with the line where rows are cut; it follows the page's colours."""
    bins = report.tokens.histogram
    most = max(part.rows for part in bins)
    step = _WIDTH / len(bins)
    bars = "".join(_bar(part, index, step, most) for index, part in enumerate(bins))
    last = bins[-1].start
    cut = _cut_line(report, step)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" width="{_WIDTH}" height="{_HEIGHT + _FOOT}" role="img"'
        f' aria-label="Rows by length: median {report.tokens.median:,.0f}, longest {report.tokens.max:,} tokens">'
        f'{bars}{cut}<line x1="0" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}" stroke="var(--line)"/>'
        f'<text x="0" y="{_HEIGHT + 16}" font-size="12" fill="var(--soft)">{bins[0].start:,}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" font-size="12" fill="var(--soft)" text-anchor="end">'
        f"{last:,} tokens and more</text></svg>"
    )


def _plot_words(report: Report) -> str:
    """What the plot shows, in letters that a phone does not shrink with the picture."""
    highest = max(report.tokens.histogram, key=lambda part: part.rows)
    until = "tokens or more" if highest.stop is None else f"to {highest.stop - 1:,} tokens"
    return (
        f"Rows by length in tokens. The highest bar is {highest.rows:,} rows of {highest.start:,} {until}. Rows cut at"
        f" {report.max_seq_length:,} tokens: {report.truncation.rows:,}."
    )


def _bar(part: Bin, index: int, step: float, most: int) -> str:
    height = part.rows / most * (_HEIGHT - 16)
    until = "and more" if part.stop is None else f"to {part.stop - 1:,}"
    return (
        f'<rect x="{index * step + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{max(step - 2, 1):.1f}"'
        f' height="{height:.1f}" fill="var(--good)"><title>{part.start:,} {until} tokens: {part.rows:,} rows'
        "</title></rect>"
    )


def _cut_line(report: Report, step: float) -> str:
    bins = report.tokens.histogram
    width = (bins[0].stop or bins[0].start + 1) - bins[0].start
    x = report.max_seq_length / width * step
    if x > _WIDTH:
        return ""
    anchor = "start" if x < _LABEL / 2 else "end" if x > _WIDTH - _LABEL / 2 else "middle"
    return (
        f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{_HEIGHT}" stroke="var(--bad)" stroke-dasharray="4 3"/>'
        f'<text x="{x:.1f}" y="{_HEIGHT + 30}" font-size="12" fill="var(--bad)" text-anchor="{anchor}">'
        f"cut at {report.max_seq_length:,}</text>"
    )


def _figures(report: Report) -> list[tuple[str, str]]:
    tokens, cut, padding, epoch = report.tokens, report.truncation, report.padding, report.epoch
    repeats, template = report.duplicates, report.template
    return [
        ("format", report.format),
        ("rows", f"{report.rows:,}, of them {report.usable_rows:,} to learn from, {report.faults.count:,} faulty"),
        (
            "tokens a row",
            f"min {tokens.min:,}, median {tokens.median:,.0f}, p95 {tokens.p95:,.0f}, p99 {tokens.p99:,.0f},"
            f" max {tokens.max:,}",
        ),
        (f"cut at {cut.at:,}", f"{cut.share:.2%} of rows, {cut.tokens_lost_share:.2%} of tokens"),
        (
            "waste",
            f"{padding.padding_waste:.1%} padding at micro-batch {padding.micro_batch},"
            f" {padding.packed_waste:.1%} when packed",
        ),
        ("learned", f"{report.supervision.share:.1%} of tokens (loss on {_loss_on(report)})"),
        (
            "repeats",
            f"{repeats.exact_rows:,} exact, {repeats.near_rows:,} near, {repeats.empty_rows:,} empty rows;"
            f" {report.leakage.leaked_rows:,} of {report.leakage.held_out_rows:,} held-out rows leaked",
        ),
        *_not_used(report),
        ("end of turn", "none" if template.end_of_turn is None else repr(template.end_of_turn)),
        (
            "one epoch",
            f"{epoch.examples:,} sequences, {epoch.steps:,} steps of {epoch.effective_batch}, {epoch.tokens:,} tokens",
        ),
        ("recommended", f"--seq-length {report.recommended.max_seq_length}: {report.recommended.why}"),
        ("took", f"{report.seconds:,.1f} s, {report.rows / max(report.seconds, 1e-9):,.0f} rows/s"),
    ]


def _not_used(report: Report) -> list[tuple[str, str]]:
    found = []
    if report.unused_keys:
        found.append(("keys not used", ", ".join(f"{one.key} ({one.rows:,} rows)" for one in report.unused_keys[:12])))
    if report.skipped_files:
        found.append(("files not read", named_files(report.skipped_files)))
    return found


def named_files(names: list[str], most: int = 6) -> str:
    """The first of `names` without their folders, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(Path(name).name for name in names[:most]) + more


def _loss_on(report: Report) -> str:
    """What is learned; raw text has no responses, and is learned whole whatever the setting says."""
    return "all of the text" if report.format == "text" else report.supervision.loss_on


def _bars(tokens: Tokens) -> list[str]:
    most = max(part.rows for part in tokens.histogram)
    lines = []
    for part in tokens.histogram:
        label = f"{part.start:,}+" if part.stop is None else f"{part.start:,}-{part.stop - 1:,}"
        lines.append(f"{label:>15}  {'#' * round(part.rows / most * _BAR):<{_BAR}}  {part.rows:,}".rstrip())
    return lines
