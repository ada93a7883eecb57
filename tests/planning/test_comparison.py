"""Several cards in one call, and which of them is taken; plans that prefer memory to speed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from unsloth_fft.commands import plan
from unsloth_fft.core import schema
from unsloth_fft.hardware import cards

LLAMA = "--model meta-llama/Llama-3.1-8B --host-ram-gib 128 --tokens 1e7"
CARDS = ("L40S", "A100-80GB", "H200")


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]):
    """Run the planner: (exit code, the plan or None, stderr)."""

    def run(line: str):
        capsys.readouterr()
        code = plan.main(shlex.split(line))
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def lines_of(error: str) -> dict[str, str]:
    """The table's lines by card, the marked one without its mark."""
    rows = error.split("~:")[0].split("warning:")[0].splitlines()[1:]
    return {line.lstrip("* ").split("  ")[0]: line for line in rows if line.strip() and not line.startswith("     ")}


def test_each_card_is_planned_and_the_fastest_is_taken(planned) -> None:
    alone = {card: planned(f"{LLAMA} --gpu {card}")[1] for card in CARDS}
    fastest = min(alone.values(), key=lambda found: found["plan"]["predicted"]["hours"])
    code, found, error = planned(f"{LLAMA} --gpu {','.join(CARDS)}")
    assert code == 0
    assert found == fastest, "the JSON is that of the card alone"
    assert schema.problems(found, "parameters") == []
    table = lines_of(error)
    assert len(table) == 3
    for each in alone.values():
        predicted, line = each["plan"]["predicted"], table[each["plan"]["hardware"]["name"]]
        assert f"{predicted['tokens_per_second']:,.0f}" in line and f"{predicted['peak_vram_gib']:.1f}/" in line
        assert line.startswith("*") == (each == fastest)
    low, high = alone["L40S"]["plan"]["predicted"]["tokens_per_second_range"]
    assert f"extrapolated: {low:,.0f} to {high:,.0f} tokens/s" in error.split(table["L40S"])[1].splitlines()[1]
    assert max(len(line) for line in error.split("next:")[0].splitlines()) <= 80


def test_with_prices_the_cheapest_is_taken(planned, tmp_path: Path) -> None:
    rows = [
        {"gpu": gpu, "usd_per_hour": price, "source": "a test", "date": "2026-11-23"}
        for gpu, price in (("L40S", 0.1), ("H200", 50.0))
    ]
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"schema_version": "1.0", "prices": rows}))
    code, found, error = planned(f"{LLAMA} --gpu H200,A100-80GB,L40S --prices {prices}")
    assert code == 0, error
    assert found["plan"]["hardware"]["name"] == "L40S"
    table = lines_of(error)
    assert f"{found['plan']['predicted']['cost_usd']:.2f}" in table["L40S"]
    assert table["A100 80GB SXM"].endswith("-"), "a card without a price has no cost, and is not taken for cheap"
    assert "no price is known for A100 80GB SXM;" in error, "the dash is explained"


def test_one_price_for_several_cards_is_warned_about(planned) -> None:
    warning = "one price for several cards; --prices FILE gives each its own"
    code, found, error = planned(f"{LLAMA} --gpu H200,L40S --price-per-hour 2.5")
    assert found["plan"]["hardware"]["name"] == "H200"
    assert warning in " ".join(error.split()) and any(warning in text for text in found["plan"]["warnings"])
    for one_card in ("H200", "H200,h200"):
        code, found, error = planned(f"{LLAMA} --gpu {one_card} --price-per-hour 2.5")
        assert code == 0 and warning not in error and not any(warning in text for text in found["plan"]["warnings"])


def test_a_card_that_does_not_fit_or_is_refused_stays_in_the_table(planned) -> None:
    code, found, error = planned(f"{LLAMA} --gpu T4,L40S --optimizer adamw_flash")
    assert code == 0 and found["plan"]["hardware"]["name"] == "L40S"
    assert "refused: " in lines_of(error)["T4"]
    code, found, error = planned(f"{LLAMA} --gpu T4,L40S")
    assert code == 0 and "no, lacks " in lines_of(error)["T4"]


def test_the_table_shows_the_host_memory_that_plans_need_or_lack(planned) -> None:
    code, found, error = planned(f"{LLAMA} --gpu L40S,A100-80GB")
    for card in ("L40S", "A100-80GB"):
        alone = planned(f"{LLAMA} --gpu {card}")[1]["plan"]
        line = lines_of(error)[alone["hardware"]["name"]]
        assert f" {alone['predicted']['host_ram_gib']:.0f} " in line
    short = LLAMA.replace("128", "40")
    code, found, error = planned(f"{short} --gpu L40S,H200")
    assert code == 0
    lacks = re.search(r"no, lacks ([\d.]+) GiB of host memory", lines_of(error)["L40S"])
    assert lacks is not None
    enough = 40 + float(lacks[1]) + 0.1
    assert planned(f"{LLAMA.replace('128', f'{enough:.1f}')} --gpu L40S")[0] == 0


def test_where_no_card_fits_the_nearest_is_explained(planned) -> None:
    code, found, error = planned("--model meta-llama/Llama-3.1-70B --max-steps 5 --gpu L4,L40S --host-ram-gib 64")
    assert (code, found) == (3, None)
    assert "no, lacks" in error and "on L40S" in error and "hint: " in error
    code, found, error = planned(f"{LLAMA} --gpu T4,MI300X --optimizer adamw_flash")
    assert (code, found) == (2, None)
    assert planned(f"{LLAMA} --gpu L4,,T4")[0] == 2


@pytest.mark.slow
def test_any_compares_every_card_of_the_table_and_takes_several_where_one_is_not_enough(planned) -> None:
    line = "--model Qwen/Qwen2.5-7B --rows 20000 --tokens-per-row 600 --epochs 3 --gpu any"
    code, found, error = planned(f"{line} --prices shipped")
    said = error.split("next:")[0]
    assert code == 0 and max(len(text) for text in said.splitlines()) <= 80
    table = [text.lstrip("* ").split("  ")[0] for text in said.splitlines()[1:]]
    for card in cards.gpus():
        assert any(card.name in text for text in table) or card.name in " ".join(said.split())
    assert any(re.match(r"[248]x RTX", text) for text in table)
    costs = [float(cost) for cost in re.findall(r"(?:min|h) +([\d.,]+)$", said, re.MULTILINE)]
    assert costs == sorted(costs) and found["plan"]["predicted"]["cost_usd"] == pytest.approx(costs[0], abs=0.01)
    assert "any amount was assumed" in " ".join(said.split())
    code, found, error = planned(line)
    assert "No prices" in error and found["plan"]["predicted"]["cost_usd"] is None


def test_preferring_memory_takes_the_smallest_plan_that_fits(planned) -> None:
    fast, small = (planned(f"{LLAMA} --gpu H200 --alternatives 50 --prefer {what}")[1] for what in ("speed", "memory"))
    peaks = [one["peak_vram_gib"] for one in fast["plan"]["alternatives"]]
    assert small["plan"]["predicted"]["peak_vram_gib"] <= min(peaks)
    assert small["plan"]["predicted"]["tokens_per_second"] < fast["plan"]["predicted"]["tokens_per_second"]
    assert small["precision"]["exactness"] == "exact"
    assert small["plan"]["why"][0].startswith("Least memory of ")
    order = [one["peak_vram_gib"] for one in small["plan"]["alternatives"]]
    assert order == sorted(order)
    assert planned(f"{LLAMA} --gpu H200 --alternatives 50")[1] == fast, "speed is the default"


def test_a_cost_that_ranges_leave_open_is_called_undecided(planned) -> None:
    prices = Path(__file__).resolve().parents[2] / "scripts" / "unsloth_fft" / "hardware" / "prices.json"
    code, _, error = planned(f'{LLAMA} --gpu "RTX A6000,H200" --prices {prices}')
    assert code == 0
    assert re.search(r"^Not decided: (H200|RTX A6000) \([\d.]+( to [\d.]+)?\)\s+may\s+cost\s+less", error, re.MULTILINE)
    assert "~: extrapolated" in error and "measured" in error
    _, _, alone = planned(f"{LLAMA} --gpu H200,H100 --price-per-hour 2")
    assert "Not decided" not in alone
