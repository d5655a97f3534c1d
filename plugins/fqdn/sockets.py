"""Sockets that take packets for any address, and answer from it (the kernel's TPROXY).

Needs ``CAP_NET_ADMIN``. Source: ip(7) ``IP_TRANSPARENT``, ``IP_RECVORIGDSTADDR``;
kernel documentation, networking/tproxy.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from collections import OrderedDict
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

IP_TRANSPARENT: Final = 19
IP_RECVORIGDSTADDR: Final = 20
IPV6_RECVORIGDSTADDR: Final = 74
IPV6_TRANSPARENT: Final = 75

MAX_QUERY: Final = 4096
MAX_REPLY_SOCKETS: Final = 256
TRIES: Final = 50
BORROWED: Final = range(10000, 30000)
"""Ports below those that Linux gives to whom asks for none (``ip_local_port_range``)."""

MARK: Final = 0xB00
"""``AXO_MARK_PROXY``"""
MARK_AS: Final = 0xA00
"""``AXO_MARK_PROXY_AS``"""

Address = IPv4Address | IPv6Address
Place = tuple[Address, int]
"""Address and port."""


def marked(family: int, kind: int, mark: int = MARK) -> socket.socket:
    """A non-blocking socket whose packets the node knows as a proxy's, not as its own."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return sock


def transparent(family: int, kind: int) -> socket.socket:
    """Such a socket that may have any address."""
    sock = marked(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    return sock


def borrowing(address: Address, kind: int) -> socket.socket:
    """Such a socket that has an address of somebody else, and a port that pods seldom use.

    Nothing else may have the two: answers would go astray. Raises ``OSError``.
    """
    sock = marked(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind, MARK_AS)
    try:
        if address.version == 4:
            sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        for attempt in range(TRIES):
            try:
                sock.bind((str(address), BORROWED.start + secrets.randbelow(len(BORROWED))))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == TRIES - 1:
                    raise
    except BaseException:
        sock.close()
        raise
    return sock


def listeners(families: tuple[int, ...], port: int = 0) -> list[socket.socket]:
    """UDP and TCP sockets of each IP version, all on one port (0: any that is free everywhere).

    Raises ``OSError`` when the port is taken.
    """
    for attempt in range(TRIES):
        with ExitStack() as stack:
            try:
                found = [stack.enter_context(s) for s in _bind_all(families, port)]
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE or attempt == TRIES - 1:
                    raise
                continue
            stack.pop_all()
            return found
    raise OSError(errno.EADDRINUSE, "no port is free for UDP and TCP alike")


def _bind_all(families: tuple[int, ...], port: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for version in families:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = transparent(family, kind)
                made.append(sock)
                sock.bind(("0.0.0.0" if version == 4 else "::", port))
                port = sock.getsockname()[1]
                if kind == socket.SOCK_STREAM:
                    sock.listen(1024)
                elif version == 4:
                    sock.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made


def receive(sock: socket.socket) -> tuple[bytes, Place, Place] | None:
    """A datagram, who sent it, and where it was sent to; ``None`` when that is not known."""
    data, ancillary, _, sender = sock.recvmsg(MAX_QUERY, 256)
    for level, kind, value in ancillary:
        if level == socket.SOL_IP and kind == IP_RECVORIGDSTADDR and len(value) >= 8:
            port, raw = struct.unpack_from("!2xH4s", value)
            return data, place(sender), (IPv4Address(raw), port)
        if level == socket.IPPROTO_IPV6 and kind == IPV6_RECVORIGDSTADDR and len(value) >= 24:
            port, raw = struct.unpack_from("!2xH4x16s", value)
            return data, place(sender), (IPv6Address(raw), port)
    return None


def place(sockaddr: tuple[object, ...]) -> Place:
    """Address and port of what the socket module calls an address."""
    return ip_address(str(sockaddr[0]).partition("%")[0]), int(str(sockaddr[1]))


class Replies:
    """Sends datagrams from addresses that are not this machine's; keeps the last sockets."""

    def __init__(self) -> None:
        self._sockets: OrderedDict[Place, socket.socket] = OrderedDict()

    def send(self, data: bytes, source: Place, client: Place) -> None:
        """From ``source`` to ``client``. Raises ``OSError``."""
        sock = self._sockets.get(source)
        if sock is None:
            sock = self._open(source)
        self._sockets.move_to_end(source)
        sock.sendto(data, (str(client[0]), client[1]))

    def _open(self, source: Place) -> socket.socket:
        family = socket.AF_INET if source[0].version == 4 else socket.AF_INET6
        sock = transparent(family, socket.SOCK_DGRAM)
        try:
            sock.bind((str(source[0]), source[1]))
        except OSError:
            sock.close()
            raise
        self._sockets[source] = sock
        while len(self._sockets) > MAX_REPLY_SOCKETS:
            self._sockets.popitem(last=False)[1].close()
        return sock

    def close(self) -> None:
        """Close all sockets."""
        while self._sockets:
            self._sockets.popitem()[1].close()
