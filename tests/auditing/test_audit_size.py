"""Large checkpoints: processes that share the work, end with it and find what one finds, in little memory."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from checkpoints import UP, bf16, f32, small_weights, stored, write_folder
from conftest import SCRIPTS, TOOL
from unsloth_fft.auditing import compare
from unsloth_fft.auditing.audit import audit_folders
from unsloth_fft.core.errors import BadInput


def test_sums_do_not_depend_on_which_worker_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = (1e16, 1.0, 1.0, 1.0)  # 1e16 + 1 is 1e16 again in float64, but 1e16 + 3 is not
    monkeypatch.setattr(compare, "BLOCK", 16)
    monkeypatch.setattr(compare, "SPAN", 16)
    monkeypatch.setattr(compare, "WORKERS", 4)
    monkeypatch.setattr(compare, "PROCESSES_FROM", 0)
    monkeypatch.setattr(compare, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))

    def last_first(span: compare._Span) -> compare.Comparison:
        index = span.start // 16
        time.sleep(0.05 * (3 - index))
        return compare.Comparison(16, base_squares=squares[index])

    monkeypatch.setattr(compare, "_compare_span", last_first)
    folder = write_folder(tmp_path / "base", {UP: f32(np.ones((4, 16), np.float32))})
    assert audit_folders(folder, folder).compared[UP].base_squares == 1e16


def test_several_processes_find_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_folder(tmp_path / "good", stored(small_weights()))
    moved = write_folder(tmp_path / "moved", stored(small_weights(seed=5), bf16))
    alone = audit_folders(good, moved).to_json()
    monkeypatch.setattr(compare, "PROCESSES_FROM", 0)
    monkeypatch.setattr(compare, "WORKERS", 2)
    assert audit_folders(good, moved).to_json() == alone


def test_a_file_cut_short_while_it_is_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_folder(tmp_path / "good", stored(small_weights()))
    moved = write_folder(tmp_path / "moved", stored(small_weights(seed=5), bf16))
    read = compare._read_span

    def cut_and_read(span: compare._Span) -> compare.Comparison:
        os.truncate(span.pair.base.file, 16)
        return read(span)

    monkeypatch.setattr(compare, "_read_span", cut_and_read)
    with pytest.raises(BadInput, match="shorter"):
        audit_folders(good, moved)


def sparse_pair(folder: Path, gib: int) -> tuple[Path, Path]:
    """Two checkpoints of one matrix of zeros, of `gib` GiB each, that take no room on disk."""
    size = gib * 2**30
    header = json.dumps({UP: {"dtype": "BF16", "shape": [size // 2**17, 2**16], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    for name in ("base", "trained"):
        (folder / name).mkdir()
        with (folder / name / "model.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)
    return folder / "base", folder / "trained"


def started_audit(base: Path, trained: Path) -> subprocess.Popen:
    """The audit in a process that Ctrl-C reaches, also where the tests themselves were started with `&`."""
    command = [sys.executable, TOOL, "audit", base, trained]
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def processes_of(audit: subprocess.Popen) -> list[int]:
    """The processes that an audit started, once all of them compare."""
    while audit.poll() is None:
        children = Path(f"/proc/{audit.pid}/task/{audit.pid}/children").read_text().split()
        comparing = [int(pid) for pid in children if "model.safetensors" in Path(f"/proc/{pid}/maps").read_text()]
        if len(comparing) == compare.WORKERS - 1:  # the audit itself compares, too
            return comparing
    raise AssertionError(audit.communicate())


@pytest.mark.skipif(compare.WORKERS == 1, reason="one core: no other processes")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_no_process_of_an_interrupted_audit_stays(tmp_path: Path, number: signal.Signals, code: int) -> None:
    audit = started_audit(*sparse_pair(tmp_path, gib=16))
    started = processes_of(audit)
    audit.send_signal(number)
    _, words = audit.communicate(timeout=60)
    assert audit.returncode == code and "Traceback" not in words, words
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


@pytest.mark.skipif(compare.WORKERS == 1, reason="one core: no other processes")
def test_a_process_of_an_audit_that_is_killed_is_told_of(tmp_path: Path) -> None:
    audit = started_audit(*sparse_pair(tmp_path, gib=16))
    os.kill(processes_of(audit)[0], signal.SIGKILL)
    _, words = audit.communicate(timeout=60)
    assert audit.returncode == 4 and "ended from outside" in words and "Traceback" not in words


@pytest.mark.slow
def test_one_element_in_a_two_gib_shard_is_found_in_little_memory(tmp_path: Path) -> None:
    _, trained = sparse_pair(tmp_path, gib=2)
    with (trained / "model.safetensors").open("r+b") as file:
        file.seek(-(2**31) + 2 * 1_000_000_007, os.SEEK_END)
        file.write(b"\x80\x3f")  # 1.0
    script = (
        "import sys, json, re, resource; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from unsloth_fft.auditing.audit import audit_folders; from unsloth_fft.auditing import compare;"
        "audit = audit_folders(Path(sys.argv[2]), Path(sys.argv[3])).to_json();"
        "print(json.dumps([audit['verdict'], audit['changed'], audit['elements'], audit['largest_change'],"
        # Not getrusage for itself: what it calls its peak may be its parent's, from before it became this program.
        " int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
        " + compare.WORKERS * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, SCRIPTS, tmp_path / "base", tmp_path / "trained"],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    verdict, changed, elements, largest, peak_kib = json.loads(finished.stdout)
    assert (verdict, changed, elements, largest) == ("partial", 1, 2**30, 1.0)
    assert peak_kib < 2**20, "at most 1 GiB"
