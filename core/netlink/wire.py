"""The netlink wire: headers, attributes, one socket.

A message is 16 bytes of header (length, type, flags, sequence, port), a fixed struct and
attributes (u16 length, u16 type, value, padding to four bytes), all in host byte order. Source:
``linux/netlink.h`` and RFC 3549. pyroute2 knows all of it and more; this small layer is for what
runs in a CNI ADD, at start, and in every full pass, where it is ten times cheaper (README.md).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from attrs import frozen

from axoneme.core.errors import NetlinkError

HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP_INTERRUPTED: Final = 0x10
CAPPED: Final = 0x100  # in an ack: the request is not quoted in full
HAS_TLVS: Final = 0x200  # in an ack: extended attributes follow
DUMP: Final = 0x300
REPLACE: Final = 0x100
EXCL: Final = 0x200
CREATE: Final = 0x400

NESTED: Final = 0x8000
TYPE_MASK: Final = 0x3FFF

_SOL_NETLINK: Final = 270
_CAP_ACK: Final = 10
_EXT_ACK: Final = 11
_STRICT_CHECK: Final = 12
_SO_RCVBUFFORCE: Final = 33
_ERRMSG_ATTR: Final = 1  # NLMSGERR_ATTR_MSG

_RECEIVE: Final = 1 << 17
_IN_FLIGHT: Final = 64
"""Requests per send: their acks must fit the receive buffer before we read the first."""


@frozen
class Message:
    """One request. ``what`` names the object in an error: ``link eth0``."""

    type: int
    flags: int
    body: bytes
    what: str


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    size = len(value) + 4
    return ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size & 3)


def u8(kind: int, value: int) -> bytes:
    """An attribute that holds one byte."""
    return attribute(kind, bytes((value,)))


def be16(kind: int, value: int) -> bytes:
    """An attribute that holds a u16 in network order, such as a port."""
    return attribute(kind, struct.pack("!H", value))


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds a u32 in host order."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string with its terminating zero."""
    return attribute(kind, value.encode() + b"\0")


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by type, the flag bits taken off; what is cut short ends the walk."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        size, kind = ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            break
        found[kind & TYPE_MASK] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def cstring(value: bytes) -> str:
    """A string attribute's value."""
    return value.split(b"\0", 1)[0].decode(errors="replace")


def number(value: bytes, default: int = 0) -> int:
    """A u8, u16 or u32 attribute's value in host order."""
    return int.from_bytes(value, "little" if _LITTLE else "big") if value else default


_LITTLE: Final = struct.pack("=H", 1)[0] == 1


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split what one receive gave: (type, flags, sequence, body); ends at what is cut short."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        size, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if size < 16 or offset + size > end:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + size]
        offset += (size + 3) & ~3


def failure(number_: int, what: str, detail: str = "") -> NetlinkError:
    """The project's error for an errno of the kernel."""
    why = os.strerror(number_).lower()
    if detail:
        why = f"{why}: {detail[:1].lower()}{detail[1:].rstrip('.')}"
    hint = "needs root, or CAP_NET_ADMIN" if number_ == errno.EPERM else ""
    return NetlinkError(f"{what}: {why}", errno=number_, hint=hint)


_SIOCGIFINDEX: Final = 0x8933
_IFREQ: Final = struct.Struct("=16si20x")


class NetlinkSocket:
    """A blocking socket in the network namespace of the thread that makes it.

    Not for two threads at a time. ``groups`` are multicast group numbers to join.
    """

    def __init__(self, groups: Iterable[int] = ()) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._sequence = 0
        try:
            self.socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self.socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self.socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)
            self.socket.bind((0, 0))
            for group in groups:
                self.socket.setsockopt(_SOL_NETLINK, 1, group)  # NETLINK_ADD_MEMBERSHIP
        except OSError as error:
            self.socket.close()
            raise failure(error.errno or 0, "netlink socket") from error

    def close(self) -> None:
        """Close the socket; further calls fail."""
        self.socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def index(self, name: str) -> int:
        """Index of a link of the socket's namespace. Unlike a get it waits for no lock."""
        raw = name.encode()
        if len(raw) > 15:
            raise failure(errno.ENODEV, f"link {name}")
        try:
            found = fcntl.ioctl(self.socket, _SIOCGIFINDEX, _IFREQ.pack(raw, 0))
        except OSError as error:
            raise failure(error.errno or 0, f"link {name}") from error
        return int(_IFREQ.unpack(found)[1])

    def request(self, message: Message) -> None:
        """Send one request and wait for its ack."""
        error = self.pipeline((message,))[0]
        if error is not None:
            raise error

    def pipeline(self, requests: Sequence[Message]) -> list[NetlinkError | None]:
        """Send requests in few sends; one answer each, in order: ``None`` or what failed.

        The kernel works through all of them: a failure does not stop those after it.
        """
        results: list[NetlinkError | None] = []
        for start in range(0, len(requests), _IN_FLIGHT):
            results += self._exchange(requests[start : start + _IN_FLIGHT])
        return results

    def _exchange(self, requests: Sequence[Message]) -> list[NetlinkError | None]:
        first = self._sequence + 1
        parts = []
        for message in requests:
            parts.append(self._pack(message, ACK))
        self.socket.send(b"".join(parts))
        results: list[NetlinkError | None] = [None] * len(requests)
        missing = len(requests)
        while missing:
            for kind, flags, sequence, body in messages(self.socket.recv(_RECEIVE)):
                index = sequence - first
                if kind != NLMSG_ERROR or not 0 <= index < len(requests):
                    continue  # an answer to something older, or an echo
                results[index] = self._ack(flags, body, requests[index].what)
                missing -= 1
        return results

    def dump(self, kind: int, body: bytes, what: str) -> list[bytes]:
        """Bodies of every object that the kernel lists; begins again if it changed meanwhile."""
        for _ in range(20):
            found = self._dump_once(kind, body, what)
            if found is not None:
                return found
        raise failure(errno.EINTR, what, "the list kept changing")

    def get(self, kind: int, body: bytes, what: str) -> bytes:
        """The body of the one object asked for."""
        self.socket.send(self._pack(Message(kind, 0, body, what), 0))
        while True:
            for answer, flags, sequence, found in messages(self.socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                if answer != NLMSG_ERROR:
                    return found
                error = self._ack(flags, found, what)
                if error is not None:
                    raise error

    def _dump_once(self, kind: int, body: bytes, what: str) -> list[bytes] | None:
        self.socket.send(self._pack(Message(kind, DUMP, body, what), 0))
        found: list[bytes] = []
        interrupted = False
        while True:
            for answer, flags, sequence, part in messages(self.socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & DUMP_INTERRUPTED)
                if answer == NLMSG_DONE:
                    return None if interrupted else found
                if answer == NLMSG_ERROR:
                    error = self._ack(flags, part, what)
                    if error is not None:
                        raise error
                    return found
                found.append(part)

    def _pack(self, message: Message, extra: int) -> bytes:
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        body = message.body
        padding = b"\0" * (-len(body) & 3)
        flags = message.flags | REQUEST | extra
        head = HEADER.pack(16 + len(body), message.type, flags, self._sequence, 0)
        return head + body + padding

    @staticmethod
    def _ack(flags: int, body: bytes, what: str) -> NetlinkError | None:
        code = int(struct.unpack_from("=i", body)[0])
        if code == 0:
            return None
        detail = ""
        if flags & HAS_TLVS:
            quoted = 16 if flags & CAPPED else HEADER.unpack_from(body, 4)[0]
            detail = cstring(attributes(body, 4 + quoted).get(_ERRMSG_ATTR, b""))
        return failure(-code, what, detail)
