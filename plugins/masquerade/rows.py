"""Rows of the NAT maps, bound by field name to the structs of ``axo/nat.h``."""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from axoneme.core.datapath.typed import network

Address = IPv4Address | IPv6Address


class Direction(IntEnum):
    """``AXO_NAT_OUT``, ``AXO_NAT_IN``."""

    OUT = 0
    IN = 1


HOST = 0x01
"""``AXO_NAT_HOST``: a flow of the node itself."""
CLOSING = 0x02
"""``AXO_NAT_CLOSING``."""
SERVICE = 0x04
"""``AXO_NAT_SERVICE``: an outsider's flow to a service."""


@frozen
class NatKey4:
    """``struct axo_nat4_key``: a flow in one direction. ICMP: the identifier is the port."""

    saddr: IPv4Address
    daddr: IPv4Address
    proto: int
    dir: int
    sport: int = network()
    dport: int = network()


@frozen
class NatKey6:
    """``struct axo_nat6_key``."""

    saddr: Address
    daddr: Address
    proto: int
    dir: int
    sport: int = network()
    dport: int = network()


@frozen
class NatEntry:
    """``struct axo_nat_entry``: what the source (OUT) or destination (IN) becomes.

    ``created`` and ``expires`` are seconds of CLOCK_MONOTONIC.
    """

    addr: Address
    flags: int
    created: int
    expires: int
    service: int
    """Id of the frontend that the flow came to, 0: none."""
    port: int = network()


@frozen
class DeviceKey:
    """``struct axo_masq_key``."""

    ifindex: int


@frozen
class DeviceAddresses:
    """``struct axo_masq_address``: the source addresses of what leaves a device."""

    ipv4: Address | None
    ipv6: Address | None
    keeps: int = 0
    """1: pods keep their address on this device."""


NatKey = NatKey4 | NatKey6
