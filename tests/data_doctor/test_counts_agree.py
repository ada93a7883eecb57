"""The planner, init, the data doctor and training count the same rows, the same empty ones and the same tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import SCRIPTS, write_jsonl
from data_helpers import CHATML, STRICT, THINKING, data_settings, doctor_report, prepared_rows, tokenizer_folder
from unsloth_fft.data import scanning
from unsloth_fft.data.sources import Source
from unsloth_fft.data_doctor import checking
from unsloth_fft.planning import data_facts

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

words = st.text(alphabet="ab é\n日", max_size=12)
answers = st.one_of(st.just(""), st.just("  "), words)
spoken = words.filter(str.strip)


def turns(question: str, answer: str, **more: object) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]


FORMATS = {
    "messages": st.builds(
        lambda q, first, a, weight: {"messages": [*turns(q, first, weight=weight), *turns(q, a)]},
        spoken,
        spoken,
        answers,
        st.sampled_from([0, 1]),
    ),
    "sharegpt": st.builds(
        lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}], "system": "Be."},
        spoken,
        answers,
    ),
    "alpaca": st.builds(lambda q, i, a: {"instruction": q, "input": i, "output": a}, spoken, words, answers),
    "prompt-completion": st.builds(lambda q, a: {"prompt": q, "completion": a}, words, answers),
    "turns": st.builds(
        lambda q, shot, a: {"prompt": [*turns(q, shot), turns(q, "")[0]], "completion": [turns(q, a)[1]]},
        spoken,
        answers,
        answers,
    ),
    "text": st.builds(lambda text: {"text": text}, answers),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tokenizer_folder(tmp_path_factory.mktemp("models") / "chatml")


@pytest.mark.train
@pytest.mark.parametrize("form", list(FORMATS))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_all_who_count_rows_count_alike(tmp_path_factory, model, form, data):
    pytest.importorskip("unsloth")
    rows = data.draw(st.lists(FORMATS[form], min_size=3, max_size=14), label="rows")
    rows += [data.draw(FORMATS[form].filter(lambda row: any(str(v).strip() for v in _answers(row))))] * 2
    folder = tmp_path_factory.mktemp("rows")
    apart = data.draw(st.integers(0, 3), label="rows in a file of their own") % len(rows)
    (folder / "data").mkdir()
    file = write_jsonl(folder / "data" / "rows.jsonl", rows[apart:])
    if apart:
        write_jsonl(folder / "data" / "test.jsonl", rows[:apart])
        file = folder / "data"
    loss_on = "all" if form == "text" else "responses"
    checked = checking.check(data_settings(dataset=str(file)))
    counts = scanning.check(Source(str(file)), data_settings())
    facts = data_facts.read_facts(str(file), model=str(model))
    report = doctor_report(file, model, loss_on=loss_on, eval_fraction=0.25)
    prepared, _ = prepared_rows(file, model, folder / "space", loss_on=loss_on, eval_fraction=0.25)
    assert facts is not None and facts.is_counted
    assert checked.rows == counts.rows == report.rows == prepared.rows == facts.rows + facts.empty == len(rows)
    assert checked.empty_rows == counts.empty == report.duplicates.empty_rows == prepared.empty == facts.empty
    held_out = facts.held_out(0.25)
    assert report.leakage.held_out_rows == held_out == len(prepared.held_out or ())
    assert report.epoch.examples == facts.rows - held_out == len(prepared.train)
    assert prepared.dropped == prepared.empty
    assert sum(facts.lengths) == report.tokens.total
    every = [*prepared.train["input_ids"], *(prepared.held_out["input_ids"] if prepared.held_out else ())]
    assert sorted(map(len, every)) == list(facts.lengths)
    shown = [part.text for sample in report.samples for part in sample]
    assert shown and len(report.samples) == min(facts.rows, 2)


def _answers(row: dict) -> list[str]:
    if "messages" in row:
        return [row["messages"][-1]["content"]]
    if "conversations" in row:
        return [row["conversations"][-1]["value"]]
    if isinstance(row.get("completion"), list):
        return [row["completion"][-1]["content"]]
    return [row.get("output", row.get("completion", row.get("text", "")))]


def test_held_out_rows_are_drawn_from_those_that_hold_something(tmp_path, model):
    """tatsu-lab/stanford_alpaca#265: every second output is empty; 18 + 2 + 18 of 40 rows were counted."""
    rows = [{"instruction": f"Name {n}.", "input": "", "output": "" if n % 2 else "Blue."} for n in range(40)]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    report = doctor_report(file, model, eval_fraction=0.1)
    assert (report.rows, report.duplicates.empty_rows) == (40, 20)
    assert (report.epoch.examples, report.leakage.held_out_rows) == (18, 2)


@pytest.mark.parametrize("template", [CHATML, THINKING, STRICT], ids=["chatml", "thinking", "strict"])
def test_the_planners_template_is_rendered_as_transformers_renders_it(template):
    from transformers.utils.chat_template_utils import render_jinja_template

    from unsloth_fft.data_doctor.plain_template import PlainTemplate

    marked = template.replace(
        "{{ message['content'] }}", "{% generation %}{{ message['content'] }}{%- endgeneration %}"
    )
    for text in (template, marked):
        for messages in (turns("a", "b", reasoning_content="c"), [*turns("é\n", " b"), *turns("c", "d")]):
            theirs, _ = render_jinja_template([messages], chat_template=text, bos_token="<s>", tools=[{"name": "é<"}])
            assert PlainTemplate(text, {"bos_token": "<s>"}).render(messages, [{"name": "é<"}]) == theirs[0]


def test_counting_for_a_plan_loads_nothing_heavy(tmp_path, model):
    file = write_jsonl(tmp_path / "rows.jsonl", [{"messages": turns("a", "b")}] * 3)
    script = (
        "import sys; from unsloth_fft.planning import data_facts;"
        f"facts = data_facts.read_facts({str(file)!r}, model={str(model)!r}); assert facts.is_counted;"
        "print(sorted({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_tokenizer_tokens_are_estimated_and_the_plan_says_how_well(tmp_path, model):
    rows = [{"messages": turns("What is a flat white?", "Coffee with milk and little foam. " * 9)}] * 30
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    named = data_facts.read_facts(str(file), model=str(model), template="chatml")
    nowhere = data_facts.read_facts(str(file), model="meta-llama/Llama-3.1-8B")
    assert named is not None and nowhere is not None
    assert named.basis == nowhere.basis == "estimated" and named.lengths == nowhere.lengths


def test_a_held_out_file_of_empty_rows_holds_nothing_out_and_nothing_takes_its_place(tmp_path, model):
    """The planner held out a tenth of the others then, which training learned."""
    write_jsonl(tmp_path / "train.jsonl", [{"prompt": "a", "completion": "b"}] * 20)
    write_jsonl(tmp_path / "test.jsonl", [{"prompt": "a", "completion": ""}] * 2)
    facts = data_facts.read_facts(str(tmp_path), model=str(model))
    report = doctor_report(tmp_path, model)
    assert facts is not None and (facts.rows, facts.empty, facts.held_out(0.1)) == (20, 2, 0)
    assert (report.epoch.examples, report.leakage.held_out_rows) == (20, 0)


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no rows today') }}"], ids=["none", "refusing"])
def test_rows_that_no_template_takes_are_estimated_and_a_missing_template_is_said(tmp_path, template):
    """A base model's folder: dividing by the tokens counted, of which there were none, was a traceback."""
    folder = tokenizer_folder(tmp_path / "base", template)
    facts = data_facts.read_facts(
        str(write_jsonl(tmp_path / "a.jsonl", [{"messages": turns("a", "b")}])), model=str(folder)
    )
    assert facts is not None and facts.basis == "estimated" and facts.lengths[0] > 0
    assert facts.lacks_template is (template is None)
    plain = data_facts.read_facts(str(write_jsonl(tmp_path / "b.jsonl", [{"text": "a b"}])), model=str(folder))
    assert plain is not None and plain.is_counted and not plain.lacks_template


def test_a_downloaded_model_counts_the_rows_of_a_plan_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--harbour--tiny-chat"
    tokenizer_folder(home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    facts = data_facts.read_facts(
        str(write_jsonl(tmp_path / "a.jsonl", [{"messages": turns("a", "b")}])), model="harbour/tiny-chat"
    )
    assert facts is not None and facts.is_counted


def test_of_many_rows_some_are_counted_and_the_others_scaled(tmp_path, model, monkeypatch):
    from unsloth_fft.data_doctor import row_tokens

    monkeypatch.setattr(row_tokens, "MOST_CHARACTERS", 20_000)
    rows = [{"messages": turns("What is it?", "Coffee. " * (1 + n % 40))} for n in range(1500)]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    sampled = data_facts.read_facts(str(file), model=str(model))
    monkeypatch.undo()
    counted = data_facts.read_facts(str(file), model=str(model))
    assert sampled is not None and counted is not None
    assert (sampled.basis, counted.basis) == ("sampled", "counted")
    assert sum(sampled.lengths) == pytest.approx(sum(counted.lengths), rel=0.1)


def test_a_length_that_cuts_ends_off_is_refused_with_the_one_that_keeps_them(tmp_path, model):
    """234 rows planned at 64 tokens because "the longest has 63"; 231 lost their end, and nobody said so."""
    from unsloth_fft.core.errors import BadInput
    from unsloth_fft.data_doctor import before_training
    from unsloth_fft.reporting import symptoms

    file = write_jsonl(tmp_path / "rows.jsonl", [{"messages": turns(f"What is {n}?", "One more.")} for n in range(234)])
    facts = data_facts.read_facts(str(file), model=str(model))
    assert facts is not None
    longest = facts.lengths[-1]
    with pytest.raises(BadInput, match="234 of 234 rows lose the end") as caught:
        before_training.check(data_settings(dataset=str(file)), model, longest - 8)
    assert f"--seq-length {-(-longest // 64) * 64}" in caught.value.hint and "--allow-cut-ends" in caught.value.hint
    assert before_training.check(data_settings(dataset=str(file)), model, longest).remarks == []
    allowed = data_settings(dataset=str(file), allow_cut_ends=True)
    assert before_training.check(allowed, model, longest - 8).ends.lost == 234
    report = doctor_report(file, model, length=longest - 8)
    assert report.is_refused and "learn not to stop" in report.warnings[0]
    finding = symptoms.of_data(report)[0]
    assert finding.kind == "ends_cut" and "did not stop" not in finding.seen and "234 of 234" in finding.seen
    whole = doctor_report(file, model, length=longest)
    assert not whole.is_refused and symptoms.of_data(whole) == []


@pytest.mark.usefixtures("unsloth")
def test_the_rows_shown_are_the_tokens_that_are_trained_on(tmp_path, model):
    from unsloth_fft.data.supervision import IGNORED
    from unsloth_fft.data_doctor import learned_view

    two = [*turns("a", "WRONG", weight=0), *turns("b", "RIGHT")]
    shown = (
        ({"messages": turns("a", "b")}, "responses"),
        ({"messages": two}, "responses"),
        ({"messages": two}, "all"),
        ({"prompt": two[:3], "completion": two[3:]}, "responses"),
        ({"messages": [*turns("a", ""), *turns("b", "RIGHT")]}, "responses"),
        ({"prompt": "a b", "completion": " c"}, "responses"),
        ({"text": "a b c"}, "all"),
    )
    for one, loss_on in shown:
        file = write_jsonl(tmp_path / "rows.jsonl", [one] * 3)
        report = doctor_report(file, model, loss_on=loss_on, eval_fraction=0.0)
        prepared, tokenizer = prepared_rows(file, model, tmp_path / "s", loss_on=loss_on, eval_fraction=0.0)
        row = prepared.train[0]
        trained = learned_view.of_tokens(row["input_ids"], row["labels"], IGNORED, tokenizer.decode)
        assert trained == report.samples[0]
        line = learned_view.line(trained)
        assert line.count("⟦") == line.count("⟧") >= 1 and "\n" not in line
        assert not any("WRONG" in part.text for part in trained if part.learned)


def test_the_doctor_shows_what_is_learned_and_names_what_it_did_not_use(tmp_path, model, capsys):
    from unsloth_fft.commands import tool

    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(folder / "rows.jsonl", [{"messages": turns("a", "b"), "source": "web"}] * 4)
    (folder / "notes.md").write_text("About the rows.\n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    assert tool.main(["data", str(folder), "--model", str(model), "--full"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "⟦b<|im_end|>⟧" in said and "source (4 rows)" in said and "notes.md, picture.png" in said
    assert tool.main(["data", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unused_keys"] == [{"key": "source", "rows": 4}] and len(found["skipped_files"]) == 2
