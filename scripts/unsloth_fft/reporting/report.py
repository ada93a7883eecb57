"""report.html: one page about one run, with no outside requests, readable in light and dark and on a phone."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files
from ..data import doctor_page
from ..data.doctor_report import Report
from ..planning.parameters import Parameters
from ..training import metrics, session
from ..training.session import Folder, Session
from . import plots, session_data, symptoms
from .symptoms import Finding

STYLE = """
:root { color-scheme: light dark; --ink:#1f2430; --soft:#5a6272; --line:#d9dde5; --back:#ffffff; --card:#f5f6f9;
  --good:#1b7f4b; --bad:#b3401a; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e8ee; --soft:#a7aebd; --line:#3a4050; --back:#171a21;
  --card:#20242e; --good:#63d296; --bad:#ff9a62; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 62rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-weight: 650; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } img, svg { max-width: 100%; height: auto; }
blockquote { margin: .3rem 0; padding: .5rem .9rem;
  border-left: 3px solid var(--line); background: var(--card); white-space: pre-wrap; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Sample:
    """One question and the model's answers before and after training."""

    question: str
    before: str
    after: str


def write(root: Path, samples: Sequence[Sample], data: Report | str) -> None:
    """Write loss.png and report.html into the session `root` from what its other files say.

    `data` is the report on its data, or a sentence that says why there is none.
    """
    folder, state, parameters = session.load(root)
    lines = metrics.read(folder.metrics)
    light = plots.loss_png(lines)
    files.write_bytes(folder.loss_plot, light)
    audit = files.read_json(folder.audit, "audit")
    pictures = light, plots.loss_png(lines, plots.DARK)
    page = render(folder, state, parameters, audit, pictures, samples, symptoms.findings(lines), data)
    files.write_text(folder.report, page)


def render(
    folder: Folder,
    state: Session,
    parameters: Parameters,
    audit: dict[str, Any],
    loss_plots: tuple[bytes, bytes],
    samples: Sequence[Sample],
    found: Sequence[Finding],
    data: Report | str,
) -> str:
    """The page as HTML; `loss_plots` are the light and the dark picture."""
    sections = [
        _headline(state, parameters, audit),
        _cards(state, audit),
        _section("How the loss fell", _picture(*loss_plots) + _loss_words(state)),
        _section("What to look at", _advice(found)),
        _section("Which weights moved", _moved(audit)),
        _section("Before and after", "".join(_sample(sample) for sample in samples)) if samples else "",
        _section("The data", _data(folder, data)),
        _section("Planned and measured", _plan(state, parameters)),
        _section("Settings", _settings(parameters)),
        _section("Made with", _versions(state)),
    ]
    title = f"Full fine-tuning of {Path(parameters.model.name).name}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(sections)
        + "</main></body></html>\n"
    )


def _headline(state: Session, parameters: Parameters, audit: dict[str, Any]) -> str:
    tone = "good" if audit["verdict"] == "full" else "bad"
    return (
        f"<h1>Full fine-tuning of {html.escape(Path(parameters.model.name).name)}</h1>"
        f'<p>Audit verdict: <strong class="{tone}">{html.escape(audit["verdict"])}</strong>. '
        f"{audit['moved']:,} of {audit['elements']:,} weights moved from where the base model has them.</p>"
        f'<p class="soft">Finished {html.escape(state.updated)} UTC</p>'
    )


def _cards(state: Session, audit: dict[str, Any]) -> str:
    result = state.result
    assert result is not None
    figures = [(f"{audit['moved_fraction']:.2%}", "of the weights moved")]
    if result.eval_loss_before and result.eval_loss_after is not None:
        fall = result.eval_loss_after / result.eval_loss_before - 1
        figures.append(
            (f"{fall:+.0%}", f"held-out loss, {result.eval_loss_before:.2f} to {result.eval_loss_after:.2f}")
        )
    figures.append((f"{result.tokens_per_second:,.0f}", "tokens/s"))
    figures.append((f"{result.seconds:,.0f} s", f"for {result.tokens:,} tokens"))
    if result.peak_gib is not None:
        figures.append((f"{result.peak_gib:.2f} GiB", "peak memory of the process"))
    cards = "".join(
        f'<div class="card"><b>{html.escape(value)}</b>{html.escape(words)}</div>' for value, words in figures
    )
    return f'<div class="cards">{cards}</div>'


def _loss_words(state: Session) -> str:
    result = state.result
    assert result is not None
    return (
        f'<p class="soft">{result.train_rows:,} rows to train on, {result.eval_rows:,} held out;'
        f" {result.supervised_tokens:,} tokens a pass count in the loss.{_kept(state)}</p>"
    )


def _kept(state: Session) -> str:
    step = state.result.model_step if state.result is not None else None
    if step is None or step == state.step:
        return ""
    return f" The model is that of step {step:,} of {state.step:,}, where the held-out loss was lowest."


def _advice(found: Sequence[Finding]) -> str:
    if not found:
        return (
            '<p class="soft">No loss spike, divergence, vanishing gradient or overfitting was found in the metrics.</p>'
        )
    rows = "".join(
        f'<li data-kind="{html.escape(one.kind)}"><strong class="bad">{html.escape(one.seen)}</strong>.'
        f' {html.escape(one.advice)}. <span class="soft">Source: {html.escape(one.source)}</span></li>'
        for one in found
    )
    return f"<ul>{rows}</ul>"


def _moved(audit: dict[str, Any]) -> str:
    from ..auditing.heatmap import heat_map

    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{group["elements"]:,}</td>'
        f'<td class="n">{group["moved"]:,}</td><td class="n">{group["moved_fraction"]:.2%}</td></tr>'
        for name, group in sorted(audit["groups"].items())
    )
    still = audit["unchanged_tensors"]
    words = (
        f'<p class="bad">Unchanged: {html.escape(", ".join(still[:8]))}{" ..." if len(still) > 8 else ""}</p>'
        if still
        else '<p class="soft">No tensor is unchanged.</p>'
    )
    table = (
        '<div class="wide"><table><thead><tr><th>group</th><th class="n">weights</th><th class="n">moved</th>'
        f'<th class="n">share</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    return f'<div class="wide">{heat_map(audit)}</div>{table}{words}'


def _data(folder: Folder, data: Report | str) -> str:
    if isinstance(data, Report):
        return doctor_page.section(data)
    later = html.escape(session_data.command(folder))
    return f'<p class="soft">{html.escape(data)} See them with:</p><p><code>{later}</code></p>'


def _sample(sample: Sample) -> str:
    return (
        f"<p><strong>{html.escape(sample.question)}</strong></p>"
        f'<p class="soft">before</p><blockquote>{html.escape(sample.before)}</blockquote>'
        f'<p class="soft">after</p><blockquote>{html.escape(sample.after)}</blockquote>'
    )


def _plan(state: Session, parameters: Parameters) -> str:
    result = state.result
    if parameters.plan is None or result is None:
        return '<p class="soft">The parameters carried no plan.</p>'
    predicted, hardware = parameters.plan.predicted, parameters.plan.hardware
    # On a CPU the measured peak is that of the whole process, libraries included, which the plan counts as host memory.
    peak = predicted.host_ram_gib if hardware.name == "cpu" else predicted.peak_vram_gib
    rows = [
        (
            "peak memory, GiB",
            f"{peak:.2f}",
            "-" if result.peak_gib is None else f"{result.peak_gib:.2f}",
        ),
        ("speed, tokens/s", f"{predicted.tokens_per_second:,.0f}", f"{result.tokens_per_second:,.0f}"),
        ("training time, s", f"{predicted.hours * 3600:,.0f}", f"{result.seconds:,.0f}"),
    ]
    body = "".join(f'<tr><td>{a}</td><td class="n">{b}</td><td class="n">{c}</td></tr>' for a, b, c in rows)
    why = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in [*parameters.plan.why, *parameters.plan.warnings])
    return (
        f"<p>Planned for {html.escape(hardware.name)} with {hardware.vram_gib:.1f} GiB; the prediction is "
        f"{html.escape(parameters.plan.basis)}.</p>"
        '<div class="wide"><table><thead><tr><th></th><th class="n">planned</th><th class="n">measured</th></tr>'
        f"</thead><tbody>{body}</tbody></table></div><ul>{why}</ul>"
    )


def _settings(parameters: Parameters) -> str:
    rows = []
    for section in ("model", "data", "precision", "optimizer", "memory", "batch", "schedule", "distributed"):
        values = dataclasses.asdict(getattr(parameters, section))
        words = ", ".join(f"{key} {value}" for key, value in values.items() if value not in (None, {}))
        rows.append(f"<tr><td>{section}</td><td><code>{html.escape(words)}</code></td></tr>")
    return f'<div class="wide"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _versions(state: Session) -> str:
    words = ", ".join(f"{name} {version}" for name, version in sorted(state.versions.items()))
    return f'<p class="soft">{html.escape(words)}</p>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _picture(light: bytes, dark: bytes) -> str:
    sources = [f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}" for picture in (light, dark)]
    return (
        f'<picture><source srcset="{sources[1]}" media="(prefers-color-scheme: dark)">'
        f'<img src="{sources[0]}" width="880" height="462" alt="Loss over optimizer steps, training and held-out rows">'
        "</picture>"
    )
