"""The GPU table is cited and sane, names find their card, and the machine is read without torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.hardware import cards, detection

TABLE = json.loads(cards.GPU_TABLE.read_text(encoding="utf-8"))
CARDS = cards.gpus()
REFERENCE = Path(__file__).parents[2] / "references" / "hardware.md"


def test_the_table_matches_its_schema_and_holds_at_least_25_cards():
    assert schema.problems(TABLE, "gpus") == []
    assert len(CARDS) >= 25
    assert len({card.name for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_figure_of_a_card_names_a_source_that_the_table_explains(card):
    assert re.fullmatch(r"memory: .+; speed: .+; bandwidth: .+; host link: .+; capability: .+", card.source)
    for figure in re.split(r"; (?=speed:|bandwidth:|host link:|capability:)", card.source):
        assert any(name in figure for name in TABLE["sources"]), figure
    assert "2026-01-01" <= card.read <= "2030-01-01"


@pytest.mark.parametrize("source", TABLE["sources"])
def test_every_source_is_used(source):
    assert any(source in card.source for card in CARDS)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_figures_lie_where_such_cards_lie(card):
    assert 8 < card.vram_gib < 300
    assert 20 < card.bf16_tflops < 3000
    assert 200 < card.memory_bandwidth_gbs < 10_000
    assert 15 < card.host_link_gbs <= 450
    # A byte read from memory feeds tens to several hundred operations on every tensor-core card; a figure with sparsity
    # counted in, or a bandwidth in bits, falls out of this band.
    assert 30 < 1000 * card.bf16_tflops / card.memory_bandwidth_gbs < 500


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_bfloat16_begins_with_compute_capability_8(card):
    if not card.compute_capability.startswith("gfx"):
        assert card.has_bf16 == (float(card.compute_capability) >= 8.0)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_nominal_size_in_the_name_is_more_than_what_is_usable(card):
    for size in re.findall(r"(\d+)GB", card.name):
        assert 0.9 * float(size) < card.vram_gib < float(size)


def test_no_two_cards_answer_to_one_spelling():
    owners: dict[str, str] = {}
    for card in CARDS:
        for spelling in {cards._key(name) for name in (card.name, *card.aliases)}:
            assert owners.setdefault(spelling, card.name) == card.name, spelling


@given(st.sampled_from(CARDS), st.data())
def test_every_spelling_finds_its_card_in_any_case_and_with_any_separator(card, data):
    spelling = data.draw(st.sampled_from((card.name, *card.aliases)))
    separator = data.draw(st.sampled_from([" ", "-", "_"]))
    change = data.draw(st.sampled_from([str.lower, str.upper, str.title]))
    assert cards.find_gpu(change(spelling.replace(" ", separator))) == card


@pytest.mark.parametrize(
    ("spelling", "card"),
    [
        ("H100", "H100 SXM 80GB"),
        ("h100-sxm", "H100 SXM 80GB"),
        ("RTX 4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("A100-80GB", "A100 80GB SXM"),
        ("A100 PCIe 80 GB", "A100 80GB PCIe"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB SXM"),
        ("Tesla T4", "T4"),
        ("l40", "L40"),
        ("L40S", "L40S"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_common_spellings(spelling, card):
    assert cards.find_gpu(spelling).name == card


@pytest.mark.parametrize(
    ("spelling", "choices"),
    [("A100", ["A100 40GB SXM", "A100 80GB PCIe"]), ("V100", ["V100 16GB PCIe", "V100 32GB SXM2"])],
)
def test_an_ambiguous_name_lists_the_choices(spelling, choices):
    with pytest.raises(BadInput, match="could be any of") as error:
        cards.find_gpu(spelling)
    assert all(choice in error.value.message for choice in choices)


@pytest.mark.parametrize("other", ["RTX 4070 Ti", "RTX 5070", "RTX 4090 Laptop GPU", "RTX 4090 D", "H200 NVL", "GB200"])
def test_a_card_of_a_similar_name_is_not_taken_for_another(other):
    with pytest.raises(BadInput, match="the closest are"):
        cards.find_gpu(other)


def test_an_unknown_name_offers_the_closest_and_the_way_without_a_name():
    with pytest.raises(BadInput) as error:
        cards.find_gpu("RTX 4099")
    assert "RTX 4090" in error.value.message
    assert "--vram-gib" in error.value.hint


@given(st.text(max_size=40))
def test_any_text_finds_a_card_or_is_refused_in_words(text):
    try:
        assert cards.find_gpu(text) in CARDS
    except BadInput as error:
        assert error.message and error.hint


def test_a_named_card_makes_a_machine():
    machine = cards.on_gpu(cards.find_gpu("H200"), gpus=8, nodes=2, host_ram_gib=1024)
    assert (machine.vram_gib, machine.gpus, machine.nodes, machine.has_bf16) == (139.8, 8, 2, True)


# Reading the machine. nvidia-smi is played by small programs on PATH.

H100 = "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559, 570.148.08, 551, 9.0"


def nvidia_smi(folder: Path, body: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def smi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda body: nvidia_smi(tmp_path, body)


def test_without_a_gpu_the_machine_is_its_cpu_with_its_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = detection.detect()
    assert machine.is_cpu and machine.gpu is None and machine.gpus == 1 and machine.notes == ()
    assert machine.vram_gib == machine.host_ram_gib == detection.host_memory_gib()
    assert 0.5 < machine.host_ram_gib <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30 + 0.01


def test_a_known_gpu_is_read_with_the_memory_the_driver_leaves(smi):
    smi(f"echo '{H100}'")
    machine = detection.detect()
    assert machine.name == "H100 SXM 80GB" and machine.gpu == cards.find_gpu("H100")
    assert machine.vram_gib == pytest.approx((81559 - 551) / 1024, abs=0.01)
    assert machine.has_bf16 and not machine.is_cpu and machine.notes == ()


def test_several_gpus_are_counted_and_the_smallest_is_planned_for(smi):
    smi(f"echo '{H100}'; echo '1, GPU-bbbb, Tesla T4, 15360, 570.148.08, 447, 7.5'")
    machine = detection.detect()
    assert (machine.name, machine.gpus, machine.has_bf16) == ("T4", 2, False)
    assert "several kinds" in machine.notes[0]


@pytest.mark.parametrize(("visible", "gpus"), [("0", 1), ("0,1", 2), ("GPU-bb", 1), ("", 0), ("-1", 0)])
def test_hidden_gpus_are_not_counted(smi, monkeypatch, visible, gpus):
    smi(f"echo '{H100}'; echo '{H100.replace('0, GPU-aaaa', '1, GPU-bbbb')}'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine = detection.detect()
    assert machine.is_cpu if gpus == 0 else machine.gpus == gpus


def test_an_old_driver_that_knows_fewer_fields_is_asked_again(smi):
    smi("case \"$*\" in *compute_cap*) exit 2;; esac; echo '0, GPU-aaaa, Tesla V100-SXM2-32GB, 32510, 450.80.02'")
    machine = detection.detect()
    assert machine.name == "V100 32GB SXM2" and not machine.has_bf16
    assert machine.vram_gib == pytest.approx(32510 * (1 - detection.RESERVED_SHARE) / 1024, abs=0.01)


def test_a_gpu_outside_the_table_is_planned_for_by_its_memory(smi):
    smi("echo '0, GPU-aaaa, NVIDIA Future 1, 262144, 700.1, 1024, 13.0'")
    machine = detection.detect()
    assert (machine.name, machine.gpu, machine.vram_gib, machine.has_bf16) == ("NVIDIA Future 1", None, 255.0, True)
    assert "not in the GPU table" in machine.notes[0]


@pytest.mark.parametrize(
    "answer", ["echo complete garbage", "printf '\\377\\376,,,\\n'", "echo '0, GPU-a, X, [N/A], 1, 1, 9.0'"]
)
def test_garbage_is_reported_and_the_cpu_is_planned_for(smi, answer):
    smi(answer)
    machine = detection.detect()
    assert machine.is_cpu and "not a GPU" in machine.notes[0]


def test_a_failing_nvidia_smi_is_reported(smi):
    smi("echo 'NVIDIA-SMI has failed' >&2; exit 9")
    assert "nvidia-smi failed" in detection.detect().notes[0]


def test_a_hanging_nvidia_smi_is_given_up_with_whatever_it_started(smi, monkeypatch, tmp_path):
    monkeypatch.setattr(detection, "QUERY_TIMEOUT_S", 2.0)  # a busy machine needs that to start the child at all
    smi(f"sleep 120 & echo $! > {tmp_path}/child; wait")
    begin = time.monotonic()
    machine = detection.detect()
    assert time.monotonic() - begin < 60
    assert machine.is_cpu and "did not answer" in machine.notes[0]
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    assert is_gone_soon(child)


def is_gone_soon(stat: Path) -> bool:
    """Whether the process of this /proc file ends within 10 s: a kill takes effect when it next runs."""
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if stat.read_text().split()[2] != "Z":
                time.sleep(0.1)
                continue
        return True
    return False


# Prices.


def price_file(folder: Path, *rows: dict) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps({"schema_version": "1.0", "prices": list(rows)}))
    return path


ROW = {"gpu": "h100-sxm", "usd_per_hour": 2.5, "source": "my contract", "date": "2026-11-01"}


def test_a_price_is_found_by_any_spelling_of_the_card(tmp_path):
    price = cards.price_per_hour("NVIDIA H100 80GB HBM3", price_file(tmp_path, ROW))
    assert price == cards.Price(2.5, "my contract", "2026-11-01")


def test_a_card_without_a_row_has_no_price(tmp_path):
    assert cards.price_per_hour("H200", price_file(tmp_path, ROW)) is None


def test_a_card_of_ones_own_can_be_priced(tmp_path):
    assert cards.price_per_hour("My Card", price_file(tmp_path, {**ROW, "gpu": "my-card"})).usd_per_hour == 2.5


@pytest.mark.parametrize("change", [{"date": "yesterday"}, {"source": ""}, {"usd_per_hour": -1}, {"currency": "EUR"}])
def test_a_price_without_source_date_or_sense_is_refused(tmp_path, change):
    with pytest.raises(BadInput, match="prices.schema.json"):
        cards.price_per_hour("H100", price_file(tmp_path, {**ROW, **change}))


def test_two_prices_for_one_card_are_refused(tmp_path):
    with pytest.raises(BadInput, match="2 rows"):
        cards.price_per_hour("H100", price_file(tmp_path, ROW, {**ROW, "gpu": "H100"}))


def test_the_shipped_prices_match_the_schema_and_name_cards_of_the_table():
    table = json.loads(cards.SHIPPED_PRICES.read_text(encoding="utf-8"))
    assert schema.problems(table, "prices") == []
    for row in table["prices"]:
        assert cards.find_gpu(row["gpu"]).name == row["gpu"]
        assert cards.price_per_hour(row["gpu"], cards.SHIPPED_PRICES).source == row["source"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_the_reference_page_has_the_row_of_every_card(card):
    rows = [line.split(" | ") for line in REFERENCE.read_text(encoding="utf-8").splitlines()]
    (found,) = [row for row in rows if row[0] == f"| {card.name}" and len(row) == 6]
    speed = f"{card.bf16_tflops:g}" + ("" if card.has_bf16 else " (float16)")
    assert found[1:5] == [
        f"{card.vram_gib:g} {card.vram_basis}", speed, f"{card.memory_bandwidth_gbs:g}", f"{card.host_link_gbs:g}",
    ]  # fmt: skip
    assert found[5] == f"{card.compute_capability} |"


def test_the_reference_page_explains_every_source():
    page = REFERENCE.read_text(encoding="utf-8")
    assert [name for name in TABLE["sources"] if f"\n- `{name}`: " not in page] == []


def test_the_reference_page_lists_every_shipped_price_with_its_date():
    page = REFERENCE.read_text(encoding="utf-8")
    for row in json.loads(cards.SHIPPED_PRICES.read_text(encoding="utf-8"))["prices"]:
        assert f"| {row['gpu']} | {row['usd_per_hour']:g} | {row['date']} |" in page
