"""A learning rate by short runs: halving finds the best, a stop loses no try, and the rate says where it came from."""

from __future__ import annotations

import json
from math import log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import TOOL, assert_clear_error, minimal_parameters, run_script, write_parameters
from unsloth_fft.commands import tool
from unsloth_fft.core import locks
from unsloth_fft.core.errors import BadInput, Interrupted
from unsloth_fft.reporting import tuning_curve
from unsloth_fft.settings import parameters
from unsloth_fft.tuning import halving, short_runs

RATES = (1e-5, 5e-5, 2e-4, 5e-4, 1e-3)


def bowl(best: float):
    """A held-out loss that is lowest at `best`, whatever the steps."""
    return lambda rate, steps: 2.0 + log(rate / best) ** 2 / (10 + steps)


@given(best=st.sampled_from(RATES), budget=st.integers(min_value=halving.least_budget(len(RATES)), max_value=10_000))
def test_halving_keeps_the_best_rate_and_its_budget(best: float, budget: int) -> None:
    tried = list(halving.search(RATES, budget, bowl(best)))
    assert halving.best(tried[-1]).learning_rate == best
    assert sum(one.steps for tries in tried for one in tries) <= budget
    assert [len(tries) for tries in tried] == [5, 3, 2]
    assert tried[-1][0].steps == 4 * tried[0][0].steps


def test_a_rate_that_diverges_is_out_and_all_diverging_is_said() -> None:
    tried = list(halving.search(RATES, 500, lambda rate, steps: None if rate > 1e-4 else bowl(5e-5)(rate, steps)))
    assert halving.best(tried[-1]).learning_rate == 5e-5
    with pytest.raises(BadInput, match="every learning rate failed"):
        list(halving.search(RATES, 500, lambda rate, steps: None))


def test_a_budget_too_small_says_what_is_needed() -> None:
    with pytest.raises(BadInput, match=f"{halving.least_budget(5):,} are needed"):
        halving.rounds(5, 20)


def test_a_small_budget_tries_fewer_rates_over_the_same_range() -> None:
    many, some, few = (halving.rates_around(1e-5, budget) for budget in (1000, 160, 60))
    assert [len(rates) for rates in (many, some, few)] == [7, 5, 3]
    assert max(many) == max(some) == max(few) == 1.6e-4
    assert all(1e-5 in rates for rates in (many, some, few))


def test_the_edge_is_named() -> None:
    assert halving.at_edge(1e-3, RATES) == "upper"
    assert halving.at_edge(1e-5, RATES) == "lower"
    assert halving.at_edge(5e-5, RATES) is None


def short(tmp_path: Path) -> Path:
    value = minimal_parameters("model", "rows.jsonl", schedule={"max_steps": 400, "warmup_steps": 40})
    value["data"]["eval_fraction"] = 0.1
    return write_parameters(tmp_path / "p.json", value)


def test_a_short_run_is_the_run_with_less_of_it(tmp_path: Path) -> None:
    made = short_runs.shortened(parameters.load(short(tmp_path)), 3e-4, 20)
    assert (made.optimizer.learning_rate, made.schedule.max_steps) == (3e-4, 20)
    assert made.schedule.warmup_steps == 0.1  # the same share of it
    assert made.schedule.eval_steps is None and made.schedule.save_steps is None


def test_a_stop_loses_no_try_and_the_rate_tells_where_it_came_from(tmp_path: Path, monkeypatch) -> None:
    made: list[Path] = []

    def trained(self: short_runs.ShortRuns, file: Path, root: Path) -> float:
        made.append(root)
        if len(made) == 4:
            raise Interrupted("stopped", hint="again")
        value = json.loads(file.read_text(encoding="utf-8"))
        return bowl(2e-4)(value["optimizer"]["learning_rate"], value["schedule"]["max_steps"])

    monkeypatch.setattr(short_runs.ShortRuns, "_trained", trained)
    monkeypatch.setattr(short_runs, "require_held_out", lambda _: None)
    file, output = short(tmp_path), tmp_path / "tuned.json"
    command = ["tune", "--params", file, "--folder", tmp_path / "t", "--rates", "1e-5,5e-5,2e-4,5e-4", "--share", "0.5",
               "--output", output]  # fmt: skip
    assert tool.main([str(word) for word in command]) == 130
    assert not output.exists()
    assert tool.main([str(word) for word in command]) == 0
    assert len(made) == len(set(made)) + 1  # only the try that was stopped was made twice
    tuned = parameters.load(output)
    assert tuned.optimizer.learning_rate == 2e-4
    assert "lowest held-out loss" in (tuned.optimizer.learning_rate_from or "")
    found = json.loads((tmp_path / "t" / "tuning.json").read_text(encoding="utf-8"))
    assert found["chosen"] == 2e-4 and found["edge"] is None and found["planned"] == 0.002
    drawn = (tmp_path / "t" / "tuning.html").read_text(encoding="utf-8")
    assert drawn.count("<circle") == sum(map(len, found["rounds"])) and "lowest at 0.0002" in drawn
    other = parameters.load(file).to_json()
    other["schedule"]["seed"] = 5
    changed = [*command[:2], write_parameters(tmp_path / "q.json", other), *command[3:]]
    assert tool.main([str(word) for word in changed]) == 2  # the folder's tries are of other parameters


def test_a_try_that_diverged_is_drawn_as_a_cross() -> None:
    tries = [{"learning_rate": 1e-5, "steps": 8, "loss": 2.5}, {"learning_rate": 1e-3, "steps": 8, "loss": None}]
    drawn = tuning_curve.page({"chosen": 1e-5, "planned": 5e-5, "edge": "lower", "rounds": [tries]})
    assert drawn.count("<circle") == 1 and "0.001, 8 steps: diverged" in drawn and "a smaller rate" in drawn


def test_what_it_takes_is_said_and_nothing_trained(tmp_path: Path) -> None:
    done = run_script(TOOL, "tune", "--params", short(tmp_path), "--folder", tmp_path / "t", "--share", "1", "--plan")
    said = " ".join(done.stderr.split())
    assert done.returncode == 0 and "5 x 21 then 3 x 42 then 2 x 84 steps, 399 in all" in said, done.stderr
    assert not (tmp_path / "t").exists()
    few = run_script(TOOL, "tune", "--params", short(tmp_path), "--folder", tmp_path / "t", "--share", "0.03")
    assert_clear_error(few, 2, "are needed", "--share")


def spoiled(tmp_path: Path, spoil) -> list[str]:
    """The command of a tuning in `t`, which already holds its parameters and what `spoil` makes there."""
    file, folder = short(tmp_path), tmp_path / "t"
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(short_runs.shortened(parameters.load(file), 1e-5, 1).to_json()))
    (tmp_path / "precious").write_text("mine")
    spoil(folder)
    return [str(word) for word in ("tune", "--params", file, "--folder", folder, "--rates", "1e-5,5e-5", "--share", 1,
                                   "--output", tmp_path / "o.json")]  # fmt: skip


SPOILS = {
    "a line that is no try": lambda folder: (folder / "tries.jsonl").write_text('{"learning_rate": 1e-5}\n'),
    "a loss of 400 digits": lambda folder: (folder / "tries.jsonl").write_text(
        '{"learning_rate": 1e-5, "steps": 8, "loss": ' + "9" * 400 + "}\n"
    ),
    "a list of tries that is a folder": lambda folder: (folder / "tries.jsonl").mkdir(),
    "a link out of the folder": lambda folder: (folder / "try.json").symlink_to(folder.parent / "precious"),
    "a log that is a link": lambda folder: (folder / "rate-1e-05-steps-200.log").symlink_to(folder.parent / "precious"),
    "a log that is a folder": lambda folder: (folder / "rate-1e-05-steps-200.log").mkdir(),
    "an answer that is a folder": lambda folder: (folder.parent / "o.json").mkdir(),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_folder_that_is_not_as_tuning_left_it_is_refused_in_two_lines(tmp_path, monkeypatch, capsys, spoil) -> None:
    monkeypatch.setattr(short_runs, "require_held_out", lambda _: None)
    command = spoiled(tmp_path, SPOILS[spoil])
    assert tool.main(command) == 2
    heads = [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()]
    assert heads[-2:] == ["error", "hint"]
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_try_that_a_kill_cut_short_is_made_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(short_runs, "require_held_out", lambda _: None)
    monkeypatch.setattr(short_runs.ShortRuns, "_trained", lambda self, file, root: 2.0)
    command = spoiled(tmp_path, lambda folder: (folder / "tries.jsonl").write_text('{"learning_rate": 1e-5, "st'))
    assert tool.main(command) == 0
    lines = (tmp_path / "t" / "tries.jsonl").read_text().splitlines()
    assert [json.loads(line)["learning_rate"] for line in lines] == [1e-5, 5e-5]


def test_two_tunings_of_one_folder_are_refused_and_so_are_numbers_beyond_use(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(short_runs, "require_held_out", lambda _: None)
    command = spoiled(tmp_path, lambda folder: None)
    with locks.take(tmp_path / "t" / "lock", 0):
        assert tool.main(command) == 2
    assert "another process is tuning" in capsys.readouterr().err
    for flag in ("--minutes", "--share"):
        for value in ("nan", "inf", "1e400", "-1", "0"):
            assert tool.main([*command[:5], flag, value]) == 2
            assert "Traceback" not in capsys.readouterr().err


def test_the_log_of_a_rate_with_a_point_has_the_whole_rate_in_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(short_runs, "_TRAIN", "raise SystemExit(2)")
    runs = short_runs.ShortRuns(parameters.load(short(tmp_path)), tmp_path)
    for rate in (2.5e-5, 2.6e-5):
        with pytest.raises(BadInput):
            runs.attempt(rate, 8)
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [
        "rate-2.5e-05-steps-8.log",
        "rate-2.6e-05-steps-8.log",
    ]


@pytest.mark.train
def test_rates_are_compared_by_real_short_runs(tmp_path: Path, home: Path) -> None:
    value = minimal_parameters(home / "tiny", home / "rows.jsonl", schedule={"max_steps": 16})
    value["data"]["eval_fraction"] = 0.2
    file = write_parameters(tmp_path / "p.json", value)
    where = ("--params", file, "--folder", tmp_path / "t", "--output", tmp_path / "tuned.json")
    done = run_script(TOOL, "tune", *where, "--rates", "1e-6,3e-3", "--share", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chosen"] == 3e-3 and found["edge"] == "upper" and found["tuning_steps"] == 16
    assert not [path for path in (tmp_path / "t").iterdir() if path.is_dir()]  # no model is left
