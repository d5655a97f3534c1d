"""Address messages. Numbers from ``linux/if_addr.h``."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from attrs import frozen

from axoneme.core.netlink import wire
from axoneme.core.netlink.wire import Message, NetlinkSocket, attributes

RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22

IFADDRMSG: Final = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8

IFA_F_NODAD: Final = 0x02
IFA_F_PERMANENT: Final = 0x80
IFA_F_NOPREFIXROUTE: Final = 0x200

SCOPE_LINK: Final = 253

Interface = IPv4Interface | IPv6Interface


@frozen
class AddressInfo:
    """An address on a link, as the kernel has it."""

    index: int
    """Of the link."""
    interface: Interface
    scope: int = 0
    flags: int = 0


def family(version: int) -> int:
    """AF_INET or AF_INET6 of an address's ``version``."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _body(index: int, interface: Interface) -> bytes:
    packed = interface.ip.packed
    flags = IFA_F_NODAD if interface.version == 6 else 0
    return (
        IFADDRMSG.pack(family(interface.version), interface.network.prefixlen, flags, 0, index)
        + wire.attribute(IFA_LOCAL, packed)
        + wire.attribute(IFA_ADDRESS, packed)
    )


def add(index: int, interface: Interface, what: str = "") -> Message:
    """Put an address on a link, usable at once: no duplicate detection in IPv6.

    An equal address that is there already is fine.
    """
    what = what or f"address {interface} on link {index}"
    return Message(RTM_NEWADDR, wire.CREATE | wire.REPLACE, _body(index, interface), what)


def delete(index: int, interface: Interface, what: str = "") -> Message:
    """Take an address off a link."""
    what = what or f"address {interface} on link {index}"
    return Message(RTM_DELADDR, 0, _body(index, interface), what)


def dump(netlink: NetlinkSocket) -> list[AddressInfo]:
    """Every address of both families."""
    found = netlink.dump(RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0), "addresses")
    return [x for x in map(decode, found) if x is not None]


def decode(body: bytes) -> AddressInfo | None:
    """An address out of the body of RTM_NEWADDR; ``None`` for other families."""
    kind, length, flags, scope, index = IFADDRMSG.unpack_from(body)
    if kind not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = attributes(body, IFADDRMSG.size)
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if packed is None:
        return None
    flags = wire.number(found.get(IFA_FLAGS, b""), flags)
    return AddressInfo(index, ip_interface((packed, length)), scope, flags)
