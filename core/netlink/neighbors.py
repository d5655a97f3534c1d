"""Neighbour messages. Numbers from ``linux/neighbour.h``."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from attrs import frozen

from axoneme.core.netlink import wire
from axoneme.core.netlink.addresses import family
from axoneme.core.netlink.links import mac_bytes
from axoneme.core.netlink.wire import Message, NetlinkSocket, attributes

RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30

NDMSG: Final = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type

NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NUD_PERMANENT: Final = 0x80

Address = IPv4Address | IPv6Address


@frozen
class NeighborInfo:
    """A neighbour entry of the kernel."""

    index: int
    address: Address
    mac: str
    state: int

    @property
    def permanent(self) -> bool:
        """Whether somebody wrote it down, as opposed to a resolved one."""
        return bool(self.state & NUD_PERMANENT)


def replace(index: int, address: Address, mac: str, what: str = "") -> Message:
    """Write a permanent entry, over whatever was there."""
    body = (
        NDMSG.pack(family(address.version), index, NUD_PERMANENT, 0, 0)
        + wire.attribute(NDA_DST, address.packed)
        + wire.attribute(NDA_LLADDR, mac_bytes(mac))
    )
    what = what or f"neighbour {address} on link {index}"
    return Message(RTM_NEWNEIGH, wire.CREATE | wire.REPLACE, body, what)


def delete(index: int, address: Address, what: str = "") -> Message:
    """Remove an entry."""
    body = NDMSG.pack(family(address.version), index, 0, 0, 0) + wire.attribute(
        NDA_DST, address.packed
    )
    return Message(RTM_DELNEIGH, 0, body, what or f"neighbour {address} on link {index}")


def dump(netlink: NetlinkSocket) -> list[NeighborInfo]:
    """Every entry of both families."""
    found = netlink.dump(RTM_GETNEIGH, NDMSG.pack(0, 0, 0, 0, 0), "neighbours")
    return [x for x in map(decode, found) if x is not None]


def decode(body: bytes) -> NeighborInfo | None:
    """A neighbour out of the body of RTM_NEWNEIGH; ``None`` for other families."""
    kind, index, state, _flags, _type = NDMSG.unpack_from(body)
    found = attributes(body, NDMSG.size)
    if kind not in (socket.AF_INET, socket.AF_INET6) or NDA_DST not in found:
        return None
    mac = found.get(NDA_LLADDR, b"").hex(":")
    return NeighborInfo(index, ip_address(found[NDA_DST]), mac, state)
