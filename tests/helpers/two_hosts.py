"""Two hosts on one machine: network namespaces joined by a slow link, or, where denied, two addresses of loopback.

A host of a namespace has a name and an address of its own, and dies as one that loses its power: its cable is cut
first, so that nobody is told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

# As text the follower's address comes before the first one's.
FIRST, OTHER = "10.231.77.9", "10.231.77.10"
RATE = "200mbit"


@dataclass
class Host:
    """Where commands run; `space` is its namespace, or None on loopback."""

    address: str
    space: str | None
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, *words]
        if self.space is not None:
            named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', self.space]
            command = ["ip", "netns", "exec", self.space, *named, *command]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    def die(self) -> None:
        """Cut the cable, and kill everything that ran here."""
        if self.space is not None:
            _ip("-n", self.space, "link", "set", "cable", "down")
        self.kill()

    def repair(self) -> None:
        if self.space is not None:
            _ip("-n", self.space, "link", "set", "cable", "up")

    def kill(self) -> None:
        found = [
            child
            for process in self.started
            if process.poll() is None
            for child in psutil.Process(process.pid).children(recursive=True)
        ]
        for process in self.started:
            process.kill()
        for child in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """The first host and the other one; whatever ran on them is gone afterwards."""
    spaces = [f"fft{os.getpid()}{letter}" for letter in "ab"]
    joined = _joined(*spaces)
    hosts = (
        (Host(FIRST, spaces[0]), Host(OTHER, spaces[1]))
        if joined
        else (Host("127.0.0.2", None), Host("127.0.0.1", None))
    )
    try:
        yield hosts
    finally:
        for host in hosts:
            host.kill()
        _remove(spaces)


def free_port() -> int:
    """One that is free here, as is the next."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("", 0))
            port: int = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                next_one.bind(("", port + 1))
                return port


def _joined(first: str, other: str) -> bool:
    """Make both namespaces and the link between them; False, with nothing left, where that is not allowed."""
    if not all(shutil.which(tool) for tool in ("ip", "tc", "unshare")):
        return False
    try:
        for space in (first, other):
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", other)
        for space, address in ((first, FIRST), (other, OTHER)):
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "cable")
            _ip("-n", space, "link", "set", "cable", "up")
            slow = (
                "tc",
                "qdisc",
                "add",
                "dev",
                "cable",
                "root",
                "tbf",
                "rate",
                RATE,
                "burst",
                "64kb",
                "latency",
                "200ms",
            )
            _run("ip", "netns", "exec", space, *slow)
    except subprocess.CalledProcessError:
        _remove([first, other])
        return False
    return True


def _remove(spaces: list[str]) -> None:
    for space in spaces:
        with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
            _ip("netns", "del", space)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)
