"""Whether the other machines of a run are still there. Their launchers stay in touch while torchrun works.

torch alone notices a machine that lost its power or its network after half an hour: a collective waits for
`ddp_timeout`, 1,800 s by default (transformers 5.17.0, training_args.py). That time cannot be short, because all
others wait while the first process writes a large checkpoint. A launcher has nothing to do but this.

The first machine listens on the port after the rendezvous, the others call it, and either side writes a line every few
seconds. A connection that closes without a farewell, or stays silent, is a machine that is gone; the first tells
the rest. Nothing that is received is run or stored.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..core.errors import FFTError, Interrupted
from ..core.terminal import say

BEAT_S = 5.0
# Long enough for a network that reroutes, and short enough that the run ends within two minutes (a judgement).
SILENCE_S = 45.0
CALL_S = 5.0
DEFAULT_PORT = 29400  # torch 2.14, elastic/rendezvous/c10d_rendezvous_backend.py
LONGEST_LINE = 400
_HELLO, _HERE, _BYE, _GONE = "unsloth-fft", "here", "bye", "gone"


@dataclass
class _Peer:
    """A connection to another launcher: who it is, once it has said so, and when it was last heard."""

    line: socket.socket
    name: str | None = None
    heard: float = field(default_factory=time.monotonic)
    unread: bytes = b""


class Peers:
    """The other machines of the run `run`, as this one sees them; `lost` says why it cannot go on without one."""

    def __init__(self, rendezvous: str, run: str, *, first: bool) -> None:
        self._place, self._run, self._first = place_of(rendezvous), run, first
        self._peers: list[_Peer] = []
        self._selector = selectors.DefaultSelector()
        self._listener = self._listening() if first else None
        self._lost: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._stay_in_touch, daemon=True)
        self._thread.start()

    def lost(self, within_s: float = 0.0) -> str | None:
        """Which machine is gone and how that was noticed, or None; waits `within_s` for it to be noticed."""
        until = time.monotonic() + within_s
        while self._lost is None and time.monotonic() < until:
            time.sleep(0.05)
        return self._lost

    def leave(self, why: str | None = None) -> None:
        """Take leave: the others go on to their own end, or hear `why` they cannot."""
        self._over.set()
        self._thread.join(timeout=CALL_S + 1)
        for peer in self._peers:
            self._write(peer, _BYE if why is None else f"{_GONE} {why}")
            peer.line.close()
        if self._listener is not None:
            self._listener.close()

    def _listening(self) -> socket.socket | None:
        both = socket.has_dualstack_ipv6()
        try:
            listener = socket.create_server(
                ("", self._place[1]), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
            )
        except OSError as error:
            say(
                f"warning: port {self._place[1]} cannot be listened on ({error.strerror}): a machine that loses its"
                " power or network will be noticed after half an hour"
            )
            return None
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _stay_in_touch(self) -> None:
        beat, awake = 0.0, time.monotonic()
        while not self._over.is_set():
            if time.monotonic() - awake > SILENCE_S / 2:  # this machine was suspended, perhaps with all others
                for peer in self._peers:
                    peer.heard = time.monotonic()
            awake = time.monotonic()
            if not self._first and not self._peers:
                self._call()
            if time.monotonic() - beat >= BEAT_S:
                beat = time.monotonic()
                for peer in self._peers:
                    self._write(peer, _HERE)
            for key, _ in self._selector.select(timeout=0.5) if self._selector.get_map() else ():
                self._accept() if key.fileobj is self._listener else self._read(key.data)
            for peer in list(self._peers):
                if time.monotonic() - peer.heard > SILENCE_S:
                    self._gone(peer, f"has not been heard of for {SILENCE_S:.0f} s")
            if not self._selector.get_map():
                self._over.wait(0.5)

    def _call(self) -> None:
        """Reach the first machine; it may not be there yet."""
        with contextlib.suppress(OSError):
            self._met(socket.create_connection(self._place, timeout=CALL_S))

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._met(self._listener.accept()[0])

    def _met(self, line: socket.socket) -> None:
        line.setblocking(False)
        peer = _Peer(line)
        self._peers.append(peer)
        self._selector.register(line, selectors.EVENT_READ, peer)
        self._write(peer, f"{_HELLO} {self._run} {socket.gethostname()}")

    def _write(self, peer: _Peer, words: str) -> None:
        """What does not leave at once is lost: the next beat says the same."""
        with contextlib.suppress(OSError):
            peer.line.send(f"{' '.join(words.split())[:LONGEST_LINE]}\n".encode())

    def _read(self, peer: _Peer) -> None:
        try:
            received = peer.line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._gone(peer, "ended without a word")
            return
        peer.heard = time.monotonic()
        *lines, peer.unread = (peer.unread + received).split(b"\n")
        if len(peer.unread) > 2 * LONGEST_LINE:
            self._forget(peer)
        for line in lines:
            self._hear(peer, line.decode(errors="replace"))

    def _hear(self, peer: _Peer, line: str) -> None:
        word, _, rest = line.partition(" ")
        if peer.name is None:
            run, _, name = rest.rpartition(" ")
            if word == _HELLO and run == self._run and name.isprintable():
                peer.name = name
            else:  # somebody else, or another run
                self._forget(peer)
        elif word == _BYE:
            self._forget(peer)
            if not self._first:
                self._over.set()
        elif word == _GONE and rest.isprintable():
            self._gone(peer, None, rest)

    def _gone(self, peer: _Peer, how: str | None, words: str | None = None) -> None:
        """A peer that never said who it was is nobody's machine."""
        if peer.name is not None and self._lost is None:
            self._lost = words or f"machine {peer.name} {how}"
            for other in self._peers:
                if other is not peer:
                    self._write(other, f"{_GONE} {self._lost}")
        self._forget(peer)

    def _forget(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            self._selector.unregister(peer.line)
            peer.line.close()


@contextlib.contextmanager
def in_touch(rendezvous: str | None, run: str, *, first: bool) -> Iterator[Peers | None]:
    """The other machines while a launcher works; None where there are none."""
    if rendezvous is None:
        yield None
        return
    peers = Peers(rendezvous, run, first=first)
    try:
        yield peers
    except Interrupted:
        peers.leave()
        raise
    except FFTError as error:
        peers.leave(f"machine {socket.gethostname()} failed: {error.message}")
        raise
    except BaseException:
        peers.leave(f"machine {socket.gethostname()} was stopped")
        raise
    peers.leave()


def place_of(rendezvous: str) -> tuple[str, int]:
    """Host and port where the launchers meet: the port after the rendezvous HOST:PORT, or after torchrun's default."""
    host, separator, port = rendezvous.rpartition(":")
    if not separator or not port.isdigit():
        host, port = rendezvous, str(DEFAULT_PORT)
    return host.strip("[]"), min(int(port) + 1, 65535)


def own_address(rendezvous: str) -> str | None:
    """The address under which this machine is reached from where the rendezvous is; None where there is no way."""
    host, port = place_of(rendezvous)
    with contextlib.suppress(OSError):
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as line:
            line.connect(address)  # a datagram socket sends nothing here; the system chooses the way
            return str(line.getsockname()[0])
    return None


def interface_to(rendezvous: str) -> str | None:
    """The name of the network interface that has `own_address`; None where it cannot be told."""
    address = own_address(rendezvous)
    try:
        import psutil  # of the training stack
    except ImportError:
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(found.address.split("%")[0] == address for found in addresses):
            return str(name)
    return None
