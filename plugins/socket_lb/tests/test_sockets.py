"""Sockets as netlink sees them are those that programs have; ending one is heard by its program."""

from __future__ import annotations

import socket

import pytest

from axoneme.core.netlink.sockets import connected, destroy
from axoneme.plugins.socket_lb.datapath import PROGRAMS, attachments
from axoneme.plugins.socket_lb.netns import cookie
from axoneme.plugins.socket_lb.wiring import end_sockets

SO_COOKIE = 57


def number(of: socket.socket) -> int:
    """The cookie of a socket."""
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


@pytest.mark.root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_is_found_and_ended(host: str) -> None:
    """By its cookie and its other end; others stay."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
                              ) as server:  # fmt: skip
        port = server.getsockname()[1]
        there = (host, port)
        with socket.create_connection(there) as one, socket.create_connection(there) as two:
            found = {s.cookie: s for s in connected(6) if s.port == port}
            assert number(one) in found
            ends = {(found[number(one)].remote, port)}
            assert end_sockets({number(one)}, ends, [6]) == 1
            with pytest.raises(ConnectionAbortedError):
                one.recv(1)
            two.send(b"x")


@pytest.mark.root
def test_a_datagram_socket_too() -> None:
    """A connected UDP socket is there no more: it has to be connected anew."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", 9))
        mine = [s for s in connected(17) if s.cookie == number(one)]
        assert destroy(mine) == 1
        with pytest.raises(OSError, match="Destination address required"):
            one.send(b"x")


def test_every_program_is_attached_once() -> None:
    """Five kinds for each family, each at a hook of its own."""
    from pathlib import Path

    rows = attachments(Path("/sys/fs/cgroup"))
    assert len(PROGRAMS) == len(rows) == len({r.key for r in rows}) == 10
    assert cookie() > 0
