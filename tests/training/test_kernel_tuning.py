"""The minutes in which Triton tries out kernels are told as what they are."""

from __future__ import annotations

from unsloth_fft.training import kernel_tuning


def test_tuning_is_told_once_and_then_every_half_minute(capsys):
    now = [0.0]
    told = kernel_tuning.Told(clock=lambda: now[0])
    for second in range(0, 70):
        now[0] = float(second)
        told.tuned(fn=None, key=(), best_config=None)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].split(",")[0] for line in lines] == ["tuning kernels"] * 3
    assert "once for this kind of card" in lines[0] and "61 done in 60 s" in lines[2]


def test_the_cache_is_where_triton_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert kernel_tuning.cache_folder() == tmp_path


def test_the_listener_is_taken_down_again():
    with kernel_tuning.told():
        pass
    knobs = kernel_tuning._knobs()
    assert knobs is None or knobs.listener is None
