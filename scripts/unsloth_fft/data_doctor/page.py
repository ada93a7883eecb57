"""A data report for people: a table for the terminal, and a section of report.html."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..core.columns import aligned
from ..core.markup import fill
from . import learned_view
from .checking import fault_lines
from .lengths import Bin, Tokens
from .report import Report, Stretch

if TYPE_CHECKING:
    from markupsafe import Markup

# What may be wider than a phone scrolls by itself, by keyboard too, and has a name for those who do not see it.
_SECTION = """\
{{ plot }}<p class="soft">{{ words }}</p>
<div class="wide" role="region" tabindex="0" aria-label="Figures of the data"><table><tbody>
{% for name, value in figures %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if samples %}
<p class="soft">The first rows as the model reads them; what is marked is learned.</p>
{% for sample in samples %}
<pre>{% for part in sample %}
{% if part.learned %}<mark>{{ part.text }}</mark>{% else %}{{ part.text }}{% endif %}
{% endfor %}</pre>
{% endfor %}
{% endif %}
{% if warnings %}
<p class="bad">Worth a look:</p><ul>{% for sentence in warnings %}<li>{{ sentence }}</li>{% endfor %}</ul>
{% endif %}
{% if faults %}
<p class="bad">{{ faulty | comma }} rows cannot be used:</p>
<ul>{% for line in faults %}<li>{{ line }}</li>{% endfor %}</ul>
{% endif %}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data report</title><style>{{ style | safe }}</style></head>
<body><main><h1>Data report</h1><p><strong class="{{ 'bad' if refused else 'good' }}">\
Training would {{ 'refuse' if refused else 'take' }} these data.</strong></p>{{ section }}</main></body></html>
"""
_PLOT = """\
<svg class="lengths" viewBox="0 0 {{ width }} {{ height + foot }}" width="{{ width }}"
 height="{{ height + foot }}" role="img" aria-label="{{ words }}"><style>.lengths text{font:12px system-ui,sans-serif}
@media (max-width:600px){.lengths text{font-size:22px}}</style>
{% for bar in bars %}
<rect x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}" height="{{ bar.height }}" fill="var(--good)">
<title>{{ bar.words }}</title></rect>
{% endfor %}
{% if cut %}
<line x1="{{ cut.x }}" y1="0" x2="{{ cut.x }}" y2="{{ height }}" stroke="var(--bad)" stroke-dasharray="4 3"/>
<text x="{{ cut.x }}" y="{{ height + 44 }}" fill="var(--bad)" text-anchor="{{ cut.anchor }}">\
{{ cut.words }}</text>
{% endif %}
<line x1="0" y1="{{ height }}" x2="{{ width }}" y2="{{ height }}" stroke="var(--line)"/>
<text x="0" y="{{ height + 20 }}" fill="var(--soft)">{{ first | comma }}</text>
<text x="{{ width }}" y="{{ height + 20 }}" fill="var(--soft)" text-anchor="end">\
{{ last | comma }} tokens and more</text></svg>"""
_BAR = 36  # characters of the longest bar
_FAULTS_ON_A_PAGE = 20
_WIDTH, _HEIGHT, _FOOT = 640, 200, 52  # of the plot, in user units; a phone shows it at half its size
_LABEL = 170  # about the width of "cut at 32,768" there, in the larger letters of a phone


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


def section(report: Report) -> Markup:
    """The report as HTML, without a heading, for a page with the style of reporting/report.py."""
    return fill(
        _SECTION,
        plot=length_plot(report),
        words=_plot_words(report),
        figures=_figures(report),
        samples=report.samples,
        warnings=report.warnings,
        faulty=report.faults.count,
        faults=fault_lines(report.faults, _FAULTS_ON_A_PAGE),
    )


def page(report: Report, style: str) -> Markup:
    """A whole page around `section`."""
    return fill(_PAGE, style=style, refused=report.is_refused, section=section(report))


def length_plot(report: Report) -> Markup:
    """Rows by length as an inline SVG, with the line where rows are cut; it follows the page's colours."""
    bins = report.tokens.histogram
    most = max(part.rows for part in bins)
    step = _WIDTH / len(bins)
    return fill(
        _PLOT,
        width=_WIDTH,
        height=_HEIGHT,
        foot=_FOOT,
        words=f"Rows by length: median {report.tokens.median:,.0f}, longest {report.tokens.max:,} tokens",
        bars=[_bar(part, index, step, most) for index, part in enumerate(bins)],
        cut=_cut_line(report, step),
        first=bins[0].start,
        last=bins[-1].start,
    )


def _plot_words(report: Report) -> str:
    """What the plot shows, in letters that a phone does not shrink with the picture."""
    highest = max(report.tokens.histogram, key=lambda part: part.rows)
    until = "tokens or more" if highest.stop is None else f"to {highest.stop - 1:,} tokens"
    return (
        f"Rows by length in tokens. The highest bar is {highest.rows:,} rows of {highest.start:,} {until}. Rows cut at"
        f" {report.max_seq_length:,} tokens: {report.truncation.rows:,}."
    )


def _bar(part: Bin, index: int, step: float, most: int) -> dict[str, str]:
    height = part.rows / most * (_HEIGHT - 16)
    until = "and more" if part.stop is None else f"to {part.stop - 1:,}"
    return {
        "x": f"{index * step + 1:.1f}",
        "y": f"{_HEIGHT - height:.1f}",
        "width": f"{max(step - 2, 1):.1f}",
        "height": f"{height:.1f}",
        "words": f"{part.start:,} {until} tokens: {part.rows:,} rows",
    }


def _cut_line(report: Report, step: float) -> dict[str, str] | None:
    bins = report.tokens.histogram
    width = (bins[0].stop or bins[0].start + 1) - bins[0].start
    x = report.max_seq_length / width * step
    if x > _WIDTH:
        return None
    anchor = "start" if x < _LABEL / 2 else "end" if x > _WIDTH - _LABEL / 2 else "middle"
    return {"x": f"{x:.1f}", "anchor": anchor, "words": f"cut at {report.max_seq_length:,}"}


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
