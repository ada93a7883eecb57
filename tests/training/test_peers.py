"""The launchers of a run's machines stay in touch: who is gone is named, who takes leave is not missed."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

import two_hosts
from unsloth_fft.core.errors import Interrupted, TrainingFailed
from unsloth_fft.training import peers
from unsloth_fft.training.peers import Peers


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], Peers]]:
    """A launcher's side of one run on this machine, the first's or another's; beats are quick."""
    monkeypatch.setattr(peers, "BEAT_S", 0.1)
    monkeypatch.setattr(peers, "SILENCE_S", 3.0)
    place, made = f"127.0.0.1:{two_hosts.free_port()}", []

    def one(first: bool) -> Peers:
        made.append(Peers(place, "run-1", first=first))
        return made[-1]

    yield one
    for each in made:
        each.leave()


def know_each_other(*all_of_them: Peers) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if all(each._peers and all(peer.name for peer in each._peers) for each in all_of_them):
            return
        time.sleep(0.02)
    raise AssertionError("they never met")


def cut(one: Peers) -> None:
    """As the system does for a process that is killed."""
    one._over.set()
    one._thread.join()
    for peer in one._peers:
        peer.line.shutdown(socket.SHUT_RDWR)


def test_machines_that_beat_are_not_lost_and_may_take_leave(meet: Callable[[bool], Peers]) -> None:
    first, other = meet(True), meet(False)
    know_each_other(first, other)
    assert first.lost(4) is None and other.lost() is None
    other.leave()
    assert first.lost(1.5) is None


def test_a_machine_whose_launcher_is_killed_is_lost_at_once_to_all(meet: Callable[[bool], Peers]) -> None:
    first, other, third = meet(True), meet(False), meet(False)
    know_each_other(first, other, third)
    cut(other)
    here = socket.gethostname()
    assert first.lost(5) == f"machine {here} ended without a word"
    assert third.lost(5) == first.lost()


def test_a_machine_that_is_not_heard_of_is_lost(meet: Callable[[bool], Peers]) -> None:
    first, other = meet(True), meet(False)
    know_each_other(first, other)
    other._over.set()  # its connection stays open, as that of a machine without power does
    assert "has not been heard of for 3 s" in str(first.lost(20))


def test_a_failure_on_one_machine_reaches_the_others_in_its_words(meet: Callable[[bool], Peers]) -> None:
    first = meet(True)
    with (
        pytest.raises(TrainingFailed),
        peers.in_touch(f"127.0.0.1:{first._place[1] - 1}", "run-1", first=False) as other,
    ):
        assert other is not None
        know_each_other(first, other)
        raise TrainingFailed("out of GPU memory", hint="")
    assert str(first.lost(5)).endswith("failed: out of GPU memory")


def test_a_stop_that_saved_is_no_loss(meet: Callable[[bool], Peers]) -> None:
    first = meet(True)
    with pytest.raises(Interrupted), peers.in_touch(f"127.0.0.1:{first._place[1] - 1}", "run-1", first=False) as other:
        assert other is not None
        know_each_other(first, other)
        raise Interrupted("stopped", hint="")
    assert first.lost(1.5) is None


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"unsloth-fft another-run elsewhere\n", b"", b"x" * 5000])
def test_strangers_are_nobodys_machine(words: bytes, meet: Callable[[bool], Peers]) -> None:
    first, other = meet(True), meet(False)
    know_each_other(first, other)
    with socket.create_connection(("127.0.0.1", first._place[1])) as stranger:
        stranger.sendall(words)
        time.sleep(0.2)
    assert first.lost(0.5) is None
    assert len(first._peers) == 1


def test_a_port_that_is_taken_is_said_and_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("", 0)) as taken:
        first = Peers(f"127.0.0.1:{taken.getsockname()[1] - 1}", "run-1", first=True)
        assert first.lost() is None
        first.leave()
    assert "cannot be listened on" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("rendezvous", "place"),
    [
        ("head:29500", ("head", 29501)),
        ("[fe80::1]:29500", ("fe80::1", 29501)),
        ("head", ("head", 29401)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
    ],
)
def test_launchers_meet_at_the_port_after_the_rendezvous(rendezvous: str, place: tuple[str, int]) -> None:
    assert peers.place_of(rendezvous) == place
