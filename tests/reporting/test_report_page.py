"""What every written page keeps without a browser; tools/pages/look_at_page.mjs looks at it in one."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from conftest import minimal_parameters
from unsloth_fft.reporting import audit_heatmap, explanations, next_steps, page, report, symptoms
from unsloth_fft.settings.parameters import Plan, PlannedHardware, Predicted, from_json
from unsloth_fft.training import metrics
from unsloth_fft.training.session import DataRecord, Folder, Result, Session

# The least contrast of text by WCAG 2.2, success criterion 1.4.3.
READABLE = 4.5


def audit(moved: int) -> dict:
    """An audit of ten weights of one layer, with as much of it as the page reads."""
    share = moved / 10
    counted = {"elements": 10, "moved": moved, "moved_fraction": share, "changed": moved, "changed_fraction": share}
    counted["relative_change"] = moved / 1000
    cause = {"elements": 10 - moved, "tensors": ["a", "b"], "explanation": "rounded away", "explained": False}
    return {
        "verdict": "full" if moved == 10 else "partial",
        **counted,
        "groups": {"attention": counted},
        "layers": [{"layer": 0, **counted, "groups": {"attention": counted}}],
        "causes": [] if moved == 10 else [cause],
        "unchanged_tensors": [] if moved == 10 else ["b"],
    }


def written(moved: int = 10, found: tuple = (), plan: Plan | None = None, **changes: object) -> str:
    parameters = replace(from_json(minimal_parameters("owner/model", "rows.jsonl"), "test"), plan=plan)
    result = Result(2.0, 3.0, 1.5, 5, 45, 4000, 900, 8.0, 500.0, 1.25, 6)
    state = Session(
        "completed", "2026-11-23T08:00:00+00:00", "2026-11-23T08:01:00+00:00", "0" * 64,
        DataRecord("rows.jsonl", None, "messages", 50), "owner/model", 6, 6, {"torch": "2.14.1"}, None, result, None,
    )  # fmt: skip
    picture = report.Picture(b"light", b"dark", 880, 462)
    samples = [report.Sample("What is <b>?", "noise", "an answer")]
    return report.render(
        Folder(Path("runs/my run")),
        state,
        parameters,
        {**audit(moved), **changes},
        (picture, picture),
        samples,
        found,
        "The data was not looked at.",
        850.0,
    )


class Tags(HTMLParser):
    """Every opening tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


@pytest.fixture(scope="module")
def tags() -> Tags:
    return Tags(written())


def test_nothing_is_loaded_from_anywhere(tags):
    for name, attributes in tags.found:
        assert name not in ("script", "link", "iframe", "object", "embed", "base"), name
        for key in ("src", "srcset", "href", "data", "action", "poster"):
            assert (attributes.get(key) or "data:").startswith("data:"), (name, attributes)
    assert not re.search(r"url\(|@import", written())


def test_the_language_is_said_and_there_is_one_main_landmark_and_one_first_heading(tags):
    assert tags.named("html") == [{"lang": "en"}]
    assert len(tags.named("main")) == len(tags.named("h1")) == 1
    assert "<title>Full fine-tuning of model</title>" in written()


def test_headings_skip_no_level(tags):
    levels = [int(name[1]) for name, _ in tags.found if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_pictures_have_words_for_those_who_do_not_see_them(tags):
    assert all((image["alt"] or "").startswith("Loss over 6 optimizer steps") for image in tags.named("img"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in tags.named("svg"))


def test_every_header_of_a_table_says_what_it_heads(tags):
    assert {header.get("scope") for header in tags.named("th")} == {"row", "col"}
    assert "<th></th>" not in written() and '<th scope="col"></th>' not in written()


def test_what_may_be_wider_than_a_phone_scrolls_by_keyboard(tags):
    scrolling = [box for box in tags.named("div") if box.get("class") == "wide"]
    assert scrolling and all(box["tabindex"] == "0" and box["role"] == "region" for box in scrolling)
    assert len({box["aria-label"] for box in scrolling}) == len(scrolling)


@pytest.mark.parametrize("verdict", ["full", "partial", "frozen", "incomparable"])
def test_every_verdict_is_explained(verdict):
    assert explanations.VERDICTS[verdict].endswith(".")


def test_what_stood_still_is_named_with_its_cause():
    text = written(moved=4)
    assert explanations.VERDICTS["partial"] in text and "Unchanged: b" in text and "rounded away" in text
    assert "not move, and the likely cause" in text


def test_figures_come_with_units_and_a_legend():
    text = written()
    for words in ("nats a token", "tokens a second", "GiB", "held-out loss, 3.00 to 1.50", "-50%"):
        assert words in text, words
    assert "2026-11-23 08:01 UTC" in text and "What is &lt;b&gt;?" in text


def test_the_next_commands_name_this_session():
    text = written()
    for name in ("eval", "export", "audit"):
        assert f"unsloth_fft_tool.py {name} " in text
    assert "'runs/my run'" in next_steps.steps(Path("runs/my run"), "full")[0].command


def test_symptoms_are_said_and_their_absence_too():
    seen = symptoms.Finding("loss_spike", 3, "the loss jumped", "halve the learning rate", "evidence:x")
    assert "the loss jumped" in written(found=(seen,)) and "Nothing. No loss spike" in written()


def plan_for(card: str) -> Plan:
    """A plan of 1,000 tokens/s and a peak of 0.3 GiB."""
    predicted = Predicted(
        peak_vram_gib=0.3, vram_breakdown_gib={}, host_ram_gib=2.3, tokens_per_second=1000.0,
        tokens_per_second_range=None, steps=6, tokens=4000, hours=0.1, cost_usd=None, cost_usd_range=None,
        update_survival=1.0,
    )  # fmt: skip
    hardware = PlannedHardware(card, 23.5, 0.5, 1, 1, 23.5, None)
    return Plan(hardware, predicted, "extrapolated", ["The peak is 0.3 GiB of 23.5 on the host."], [], [])


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of `Planned and measured` by their first column."""
    table = text[text.index("<h2>Planned and measured") :]
    found = re.findall(r'<th scope="row">([^<]*)</th>((?:<td class="n">[^<]*</td>)+)', table)
    return {name: re.findall(">([^<]*)</td>", cells) for name, cells in found}


def test_the_planned_speed_is_compared_with_that_of_steps_after_compilation():
    rows = rows_of(written(plan=plan_for("cpu")))
    assert rows[report.STEADY] == ["1,000", "850", "0.85"]
    assert rows[report.MEAN] == ["", "500", ""], "what else the run did is in it"


def test_the_steady_speed_is_the_median_after_the_first_two_logged_steps():
    def line(speed: float | None, kind: str = "train") -> metrics.Line:
        return metrics.Line(kind, 1, None, 1.0, None, None, 9, speed, None, "2026-11-23T08:00:00+00:00")

    assert metrics.steady_speed([line(1), line(2, "eval"), line(30), line(700), line(900), line(800)]) == 800
    assert metrics.steady_speed([line(1), line(30)]) is None
    assert metrics.steady_speed([line(1), line(30), line(None)]) is None


def test_on_a_processor_the_two_planned_peaks_are_explained():
    text = written(plan=plan_for("cpu"))
    assert rows_of(text)["peak memory, GiB"][0] == "2.30" and "The peak is 0.3 GiB" in text
    assert "planned are 0.3 GiB for training, the peak that is named below, and 2.0 GiB for Python" in text
    assert "for Python" not in written(plan=plan_for("H100"))


def test_a_small_model_is_not_expected_to_answer():
    assert "With only 10 weights it learns words" in written()
    assert "it learns words" not in written(elements=8_000_000_000)


# --- contrast ---


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def palettes() -> list[dict[str, str]]:
    """The colours of the light and of the dark page."""
    return [dict(re.findall(r"--(\w+):(#\w{6})", block)) for block in re.findall(r":root \{[^}]*\}", page.STYLE)]


@pytest.mark.parametrize("colors", palettes())
@pytest.mark.parametrize("ink", ["ink", "soft", "good", "bad"])
def test_words_stand_out_from_the_page_and_from_cards(colors, ink):
    assert min(contrast(colors[ink], colors[back]) for back in ("back", "card")) >= READABLE


def test_where_all_moved_the_heat_map_says_by_how_much():
    everything, some = written(), written(moved=4)
    assert "most: 1%" in everything and "by 1% of their size" in everything and "changed by" in everything
    assert "99% or more" in some and "40.00%" in some
    assert [audit_heatmap.size_level_of(size, 0.4) for size in (0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4)] == list(range(7))
    assert audit_heatmap.size_words(None) == "from 0" and audit_heatmap.size_words(0.00012) == "0.012%"


@pytest.mark.parametrize("level", range(7))
def test_figures_stand_out_from_the_colours_of_the_heat_map(level):
    for fills, inks in (
        (audit_heatmap._LIGHT, audit_heatmap._LIGHT_INK),
        (audit_heatmap._DARK, audit_heatmap._DARK_INK),
        (audit_heatmap._LIGHT_SIZES, audit_heatmap._LIGHT_SIZES_INK),
        (audit_heatmap._DARK_SIZES, audit_heatmap._DARK_INK),
    ):
        assert contrast(fills[level], inks[level]) >= READABLE
