"""report.html: one page about one run, with no outside requests, readable in light and dark and on a phone."""

from __future__ import annotations

import base64
import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import files
from ..core.markup import fill
from ..data_doctor import page as doctor_page
from ..data_doctor.report import Report
from ..settings.parameters import Parameters, Plan
from ..training import metrics, session
from ..training.metrics import Line
from ..training.session import Folder, Session
from . import evaluation_section, next_steps, plots, session_data, symptoms, tuning_curve
from .explanations import BASES, VERDICTS
from .page import document, section, table, wide
from .symptoms import Finding

if TYPE_CHECKING:
    from markupsafe import Markup

STEADY = "tokens a second, median of the logged steps after the first two"
MEAN = "tokens a second, mean of the whole run: first steps, evaluations and saves included"
FEW_WEIGHTS = 10_000_000


@dataclass(frozen=True)
class Sample:
    """One question and the model's answers before and after training."""

    question: str
    before: str
    after: str


@dataclass(frozen=True)
class Picture:
    """A plot as PNG for a light and a dark page, in `width` x `height` pixels of the page."""

    light: bytes
    dark: bytes
    width: int
    height: int


def write(root: Path, samples: Sequence[Sample], data: Report | str) -> None:
    """Write loss.png and report.html into the session `root` from what its other files say.

    `data` is the report on its data, or a sentence that says why there is none.
    """
    folder, state, parameters = session.load(root)
    lines = metrics.read(folder.metrics)
    audit = files.read_json(folder.audit, "audit")
    desktop, phone = pictures(lines)
    files.write_bytes(folder.loss_plot, desktop.light)
    of_data = symptoms.of_data(data) if isinstance(data, Report) else []
    found, speed = [*of_data, *symptoms.findings(lines)], metrics.steady_speed(lines)
    page = render(folder, state, parameters, audit, (desktop, phone), samples, found, data, speed)
    files.write_text(folder.report, page)


def pictures(lines: Sequence[Line]) -> tuple[Picture, Picture]:
    """The loss plot for a desktop and for a phone, where the same words need more room."""
    desktop, phone = (
        Picture(plots.loss_png(lines, plots.LIGHT, shape), plots.loss_png(lines, plots.DARK, shape), *shape.pixels)
        for shape in (plots.DESKTOP, plots.PHONE)
    )
    return desktop, phone


def render(
    folder: Folder,
    state: Session,
    parameters: Parameters,
    audit: dict[str, Any],
    loss_plots: tuple[Picture, Picture],
    samples: Sequence[Sample],
    found: Sequence[Finding],
    data: Report | str,
    steady_speed: float | None,
) -> Markup:
    """The page as HTML; `loss_plots` are for a desktop and for a phone, `steady_speed` is in tokens/s."""
    title = f"Full fine-tuning of {Path(parameters.model.name).name}"
    sections = [
        _headline(title, state, audit),
        _cards(state, parameters, audit),
        section("How the loss fell", _loss(loss_plots, state)),
        section("Symptoms: what to look at", _advice(found)),
        section("Which weights moved", _moved(audit)),
        section("Answers before and after", _samples(samples, audit["elements"])) if samples else fill(""),
        evaluation_section.slot(folder),
        section("The data", _data(folder, data)),
        tuning_curve.of_session(folder, parameters.optimizer.learning_rate),
        section("Planned and measured", _plan(state, parameters, steady_speed)),
        section("What to do next", next_steps.section_body(folder.root, audit["verdict"])),
        section("Settings", _settings(parameters)),
        section("Made with", _versions(state)),
    ]
    return document(title, fill("\n").join(sections))


def _headline(title: str, state: Session, audit: dict[str, Any]) -> Markup:
    finished = datetime.datetime.fromisoformat(state.updated).astimezone(datetime.UTC)
    return fill(
        """<h1>{{ title }}</h1>\
<p>Audit verdict: <strong class="{{ 'good' if audit.verdict == 'full' else 'bad' }}">{{ audit.verdict }}</strong>.
{{ meaning }} {{ audit.moved | comma }} of {{ audit.elements | comma }} weights differ from the base model.</p>\
<p class="soft">Finished {{ finished }} UTC.</p>""",
        title=title,
        audit=audit,
        meaning=VERDICTS[audit["verdict"]],
        finished=f"{finished:%Y-%m-%d %H:%M}",
    )


def _cards(state: Session, parameters: Parameters, audit: dict[str, Any]) -> Markup:
    result = state.result
    assert result is not None
    figures = [(_share(audit["moved_fraction"]), "of the weights moved")]
    if result.eval_loss_before and result.eval_loss_after is not None:
        fall = result.eval_loss_after / result.eval_loss_before - 1
        words = f"held-out loss, {result.eval_loss_before:.2f} to {result.eval_loss_after:.2f}; lower is better"
        figures.append((f"{fall:+.0%}", words))
    figures.append((f"{result.tokens_per_second:,.0f}", "tokens a second over the whole run"))
    figures.append((f"{result.seconds:,.0f} s", f"of training, {result.tokens:,} tokens"))
    if result.peak_gib is not None:
        figures.append((f"{result.peak_gib:.2f} GiB", f"peak memory of {_whose_memory(parameters)}"))
    return fill(
        """<div class="cards">\
{% for value, words in figures %}<div class="card"><b>{{ value }}</b>{{ words }}</div>{% endfor %}</div>""",
        figures=figures,
    )


def _whose_memory(parameters: Parameters) -> str:
    return "the process" if _on_cpu(parameters) else "a GPU"


def _on_cpu(parameters: Parameters) -> bool:
    return parameters.plan is None or parameters.plan.hardware.name == "cpu"


def _share(fraction: float) -> str:
    from .audit_table import share

    return share(fraction)


def _loss(loss_plots: tuple[Picture, Picture], state: Session) -> Markup:
    result = state.result
    assert result is not None
    return fill(
        """<figure>{{ picture }}<figcaption>Loss says how unexpected the right next token
was to the model, in nats a token: 0 is certainty, and every 0.69 more means half as likely. The held-out
rows were never trained on, so their loss is the one that counts; where it rises while the training loss
falls, the model is learning its rows by heart. {{ result.train_rows | comma }} rows to train on,
{{ result.eval_rows | comma }} held out; {{ result.supervised_tokens | comma }} tokens a pass count in the loss.\
{{ kept }}{{ storing }}</figcaption></figure>""",
        picture=_picture(*loss_plots, _plot_words(state)),
        result=result,
        kept=_kept(state),
        storing=_storing(state),
    )


def _storing(state: Session) -> Markup:
    """What storing as bfloat16 gives up of what float32 learned."""
    result = state.result
    if result is not None and result.master_missing is not None:
        return fill(" The float32 master of this run was not kept: {{ why }}.", why=result.master_missing)
    if result is None or result.eval_loss_master is None or result.eval_loss_bfloat16 is None:
        return fill("")
    return fill(
        """ In float32 the trained weights have a held-out loss of {{ master }}, stored as bfloat16
{{ stored }} ({{ given_up }}); <code>export --dtype float32</code> keeps all of it.""",
        master=f"{result.eval_loss_master:.4f}",
        stored=f"{result.eval_loss_bfloat16:.4f}",
        given_up=f"{result.eval_loss_bfloat16 - result.eval_loss_master:+.4f}",
    )


def _plot_words(state: Session) -> str:
    """The plot for those who do not see it."""
    result = state.result
    assert result is not None
    words = f"Loss over {state.step:,} optimizer steps, training and held-out rows."
    if result.eval_loss_before is not None and result.eval_loss_after is not None:
        words += f" The held-out loss goes from {result.eval_loss_before:.2f} to {result.eval_loss_after:.2f}."
    return words


def _kept(state: Session) -> str:
    step = state.result.model_step if state.result is not None else None
    if step is None or step == state.step:
        return ""
    return f" The model is that of step {step:,} of {state.step:,}, where the held-out loss was lowest."


def _advice(found: Sequence[Finding]) -> Markup:
    return fill(
        """{% if found %}<ul>{% for one in found %}
<li data-kind="{{ one.kind }}"><strong class="bad">{{ one.seen }}</strong>. {{ one.advice }}.
<span class="soft">Source: {{ one.source }}</span></li>{% endfor %}</ul>{% else %}
<p>Nothing. No loss spike, divergence, vanishing gradient or overfitting was found in the metrics, no loss that is not a
number, and no held-out loss above the base model's.</p>{% endif %}""",
        found=found,
    )


def _moved(audit: dict[str, Any]) -> Markup:
    from .audit_heatmap import all_moved, heat_map, size_words

    figure = "The figure is the share of those weights that differ from the base model: blue moved, orange stood still."
    if all_moved(audit):
        figure = (
            "All of it moved, so the figure is the size of the change: the root mean square of what was added over that"
            " of the base's weights. Layers and parts that stay far behind the others learned less."
        )
    rows = [
        (
            name,
            f"{group['elements']:,}",
            f"{group['moved']:,}",
            _share(group["moved_fraction"]),
            size_words(group["relative_change"]),
        )
        for name, group in sorted(audit["groups"].items())
    ]
    return fill(
        """<figure>{{ map }}<figcaption>One row is one layer of the model, one
column one kind of weight in it; empty where a layer has none. {{ figure }}</figcaption></figure>\
{{ groups }}{{ still }}""",
        map=wide("Heat map of what moved", heat_map(audit)),
        figure=figure,
        groups=table("What moved, by group", ("group", "weights", "moved", "share moved", "changed by"), rows),
        still=_still(audit),
    )


def _still(audit: dict[str, Any]) -> Markup:
    """What did not move, and why."""
    return fill(
        """{% if still %}<p class="bad">Unchanged: {{ still[:8] | join(', ') }}\
{% if still | length > 8 %} and {{ still | length - 8 }} more{% endif %}</p>\
{% else %}<p class="soft">No tensor is unchanged.</p>{% endif %}\
{% if causes %}<ul>{% for cause in causes %}
<li>{{ cause.elements | comma }} weights in {{ cause.tensors | length }} tensors:
{{ cause.explanation }}{{ ' (expected, and no fault)' if cause.explained }}.</li>{% endfor %}</ul>{% endif %}""",
        still=audit["unchanged_tensors"],
        causes=audit["causes"],
    )


def _data(folder: Folder, data: Report | str) -> Markup:
    if isinstance(data, Report):
        return doctor_page.section(data)
    return fill(
        """<p class="soft">{{ why }} See them with:</p><p><code>{{ later }}</code></p>""",
        why=data,
        later=session_data.command(folder),
    )


def _samples(samples: Sequence[Sample], weights: int) -> Markup:
    return fill(
        """<p class="soft">The same questions to the base model and to the trained one, each taking its likeliest token
every time.{{ few }}</p>{% for sample in samples %}<h3>{{ sample.question }}</h3>\
<p class="soft">before</p><blockquote>{{ sample.before }}</blockquote>\
<p class="soft">after</p><blockquote>{{ sample.after }}</blockquote>{% endfor %}""",
        few=_few(weights),
        samples=samples,
    )


def _few(weights: int) -> str:
    """What not to expect of a model as small as the demo's."""
    if weights >= FEW_WEIGHTS:
        return ""
    return (
        f" A base that was never trained answers noise. With only {weights:,} weights it learns words and the shape of"
        " an answer; a right answer would be luck."
    )


def _plan(state: Session, parameters: Parameters, steady_speed: float | None) -> Markup:
    result = state.result
    if parameters.plan is None or result is None:
        return fill("""<p class="soft">The parameters carried no plan.</p>""")
    predicted, hardware, basis = parameters.plan.predicted, parameters.plan.hardware, parameters.plan.basis
    # On a CPU the measured peak is that of the whole process, libraries included, which the plan counts as host memory.
    peak = predicted.host_ram_gib if hardware.name == "cpu" else predicted.peak_vram_gib
    rows = [
        _against("peak memory, GiB", peak, result.peak_gib, ".2f"),
        _against(STEADY, predicted.tokens_per_second, steady_speed, ",.0f"),
        (MEAN, "", format(result.tokens_per_second, ",.0f"), ""),
        _against("training time, s", predicted.hours * 3600, result.seconds, ",.0f"),
    ]
    return fill(
        """<p>Planned for {{ hardware }}. The plan's figures are {{ basis }}: {{ meaning }}.</p>\
<p>Memory is that of {{ whose }}{{ process }}. The ratio is measured over planned: 1 is as planned.</p>{{ table }}\
<h3>Why this plan</h3><ul>{% for sentence in why %}<li>{{ sentence }}</li>{% endfor %}</ul>""",
        hardware=_hardware(parameters),
        basis=basis,
        meaning=BASES[basis],
        whose=_whose_memory(parameters),
        process=_process_memory(parameters.plan),
        table=table("Planned and measured", ("figure", "planned", "measured", "ratio"), rows),
        why=[*parameters.plan.why, *parameters.plan.warnings],
    )


def _process_memory(plan: Plan) -> str:
    """On a CPU, why the planned peak is above that of "Why this plan"."""
    if plan.hardware.name != "cpu":
        return ""
    training = plan.predicted.peak_vram_gib
    return (
        f": planned are {training:.1f} GiB for training, the peak that is named below, and"
        f" {plan.predicted.host_ram_gib - training:.1f} GiB for Python and the libraries"
    )


def _hardware(parameters: Parameters) -> str:
    assert parameters.plan is not None
    hardware = parameters.plan.hardware
    if hardware.name == "cpu":
        return f"this machine's processor, with {hardware.vram_gib:.1f} GiB of memory"
    nodes = f" on each of {hardware.nodes} machines" if hardware.nodes > 1 else ""
    return f"{hardware.gpus} x {hardware.name} with {hardware.vram_gib:.1f} GiB{nodes}"


def _against(name: str, planned: float, measured: float | None, form: str) -> tuple[str, str, str, str]:
    if measured is None:
        return name, format(planned, form), "not measured", ""
    return name, format(planned, form), format(measured, form), f"{measured / planned:.2f}" if planned else ""


def _settings(parameters: Parameters) -> Markup:
    """Every setting by the name it has in params.json; what is off, empty or not set is left out."""
    parts = {}
    for name in ("model", "data", "precision", "optimizer", "memory", "batch", "schedule", "distributed"):
        values = dataclasses.asdict(getattr(parameters, name))
        parts[name] = {key: value for key, value in values.items() if value not in (None, {}, [], False)}
    rows = fill(
        """<table><tbody>{% for name, values in parts.items() %}
<tr><th scope="row">{{ name }}</th><td>{% for key, value in values.items() %}
<code class="pair">{{ key }}={{ value }}</code> {% else %}all off{% endfor %}</td></tr>{% endfor %}</tbody></table>""",
        parts=parts,
    )
    return fill(
        """<p class="soft">As params.json names them; what is off or not set is left out.</p>{{ rows }}""",
        rows=wide("Settings", rows),
    )


def _versions(state: Session) -> Markup:
    words = ", ".join(f"{name} {version}" for name, version in sorted(state.versions.items()))
    return fill("""<p class="soft">{{ words }}</p>""", words=words)


def _picture(desktop: Picture, phone: Picture, words: str) -> Markup:
    """One of four pictures, by the page's width and colours; all are in the page itself."""
    narrow, dark = "(max-width: 600px)", "(prefers-color-scheme: dark)"
    sources = [
        (phone, _inline(phone.dark), f"{narrow} and {dark}"),
        (phone, _inline(phone.light), narrow),
        (desktop, _inline(desktop.dark), dark),
    ]
    return fill(
        """<picture>{% for shape, data, media in sources %}\
<source srcset="{{ data }}" media="{{ media }}" width="{{ shape.width }}" height="{{ shape.height }}">{% endfor %}\
<img src="{{ shown }}" width="{{ desktop.width }}" height="{{ desktop.height }}" alt="{{ words }}"></picture>""",
        sources=sources,
        shown=_inline(desktop.light),
        desktop=desktop,
        words=words,
    )


def _inline(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
