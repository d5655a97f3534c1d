"""Ending sockets of others: ``SOCK_DESTROY`` of sock_diag(7), kernel ``CONFIG_INET_DIAG_DESTROY``.

The program behind such a socket gets ECONNABORTED and asks again.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

from axoneme.core.netlink.wire import failure

Address = IPv4Address | IPv6Address

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
SOCK_DESTROY: Final = 21
_REQUEST: Final = 1
_ACK: Final = 4
_DUMP: Final = 0x300
_ERROR: Final = 2
_DONE: Final = 3
_ALL_STATES: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")
_REQ: Final = struct.Struct("=BBBBI")
_ID: Final = struct.Struct("!HH16s16s4s8s")
"""``struct inet_diag_sockid``: ports and addresses in network order; device, cookie as they are."""
_MSG: Final = struct.Struct("=BBBB")
UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.EINVAL)
_TCP: Final = 6


@frozen
class OpenSocket:
    """A connected socket. ``cookie`` is what ``bpf_get_socket_cookie`` says too."""

    family: int
    proto: int
    remote: Address
    port: int
    cookie: int
    raw_id: bytes
    """As the kernel wants it back."""


def connected(proto: int) -> Iterator[OpenSocket]:
    """The sockets of a protocol in this thread's network namespace that have a remote end."""
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQ.pack(family, proto, 0, 0, _ALL_STATES) + bytes(_ID.size)
        with _open() as link:
            link.send(_message(SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, request))
            for body in _answers(link):
                found = _decode(body, proto)
                if found is not None:
                    yield found


def destroy(sockets: Iterable[OpenSocket]) -> int:
    """End sockets of this thread's network namespace; how many were there still.

    Raises ``NetlinkError`` when the kernel cannot do it at all.
    """
    ended = 0
    with _open() as link:
        for each in sockets:
            request = _REQ.pack(each.family, each.proto, 0, 0, _ALL_STATES) + each.raw_id
            link.send(_message(SOCK_DESTROY, _REQUEST | _ACK, request))
            code = next(_codes(link), 0)
            if code in (0, errno.ENOENT):
                ended += not code
            elif code == errno.EOPNOTSUPP:
                raise failure(code, "sockets cannot be ended by this kernel")
    return ended


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG)
    except OSError as error:
        raise failure(error.errno or 0, "sock_diag") from error


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, os.getpid()) + body


def _parts(link: socket.socket) -> Iterator[tuple[int, bytes]]:
    while True:
        data = link.recv(1 << 18)
        at = 0
        while at + _HEADER.size <= len(data):
            size, kind, *_ = _HEADER.unpack_from(data, at)
            if size < _HEADER.size:
                return
            yield kind, data[at + _HEADER.size : at + size]
            at += (size + 3) & ~3


def _answers(link: socket.socket) -> Iterator[bytes]:
    for kind, body in _parts(link):
        if kind in (_DONE, _ERROR):
            return
        yield body


def _codes(link: socket.socket) -> Iterator[int]:
    for kind, body in _parts(link):
        if kind == _ERROR and len(body) >= 4:
            yield -int.from_bytes(body[:4], "little", signed=True)
            return


def _decode(body: bytes, proto: int) -> OpenSocket | None:
    if len(body) < _MSG.size + _ID.size:
        return None
    family = body[0]
    raw = body[_MSG.size : _MSG.size + _ID.size]
    _, port, _, remote, _, cookie = _ID.unpack(raw)
    if not port:
        return None
    address: Address = (
        IPv4Address(remote[:4]) if family == socket.AF_INET else _plain(IPv6Address(remote))
    )
    number = int.from_bytes(cookie, "little")
    return OpenSocket(family, proto, address, port, number, raw)


def _plain(address: IPv6Address) -> Address:
    """An IPv6 socket may be connected to an IPv4 address."""
    return address.ipv4_mapped or address
