"""The part of a policy key below the peer: protocol and port as a prefix.

The kernel's trie orders the 24 bits ``protocol(8) port(16)`` behind a fixed part (peer and
direction), so "any protocol" is 0 bits, "any port of TCP" is 8 and one port is 24. A range of
ports becomes the few prefixes that cover it exactly. For ICMP and ICMPv6 the type stands where
the port stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from axoneme.core.model.policy import PortRange

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132
WITH_PORTS: Final = (TCP, UDP, SCTP)

PROTOCOLS: Final = {
    "ANY": 0,
    "ICMP": ICMP,
    "IGMP": 2,
    "IPIP": 4,
    "TCP": TCP,
    "UDP": UDP,
    "IPV6": 41,
    "GRE": 47,
    "ESP": 50,
    "AH": 51,
    "ICMPV6": ICMPV6,
    "VRRP": 112,
    "SCTP": SCTP,
}
"""IANA protocol numbers by the names that policies use; 0 means any here."""

PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}

PROTOCOL_BITS: Final = 8
MAX_BITS: Final = 24


class L4(NamedTuple):
    """A prefix over protocol and port. A plain tuple: entries are hashed by the thousand."""

    protocol: int
    port: int
    """First port of the prefix, host order; 0 when ``bits`` is 8 or less."""
    bits: int
    """Significant bits: 0, or 8 to 24."""

    def covers(self, protocol: int, port: int) -> bool:
        """Whether a packet's protocol and port (or ICMP type) lie in the prefix."""
        if self.bits == 0:
            return True
        drop = MAX_BITS - self.bits
        return protocol == self.protocol and port >> drop == self.port >> drop

    def parents(self) -> Iterator[L4]:
        """Every shorter prefix that covers this one, longest first."""
        for bits in range(self.bits - 1, PROTOCOL_BITS - 1, -1):
            drop = MAX_BITS - bits
            yield L4(self.protocol, self.port >> drop << drop, bits)
        if self.bits:
            yield ANY

    def __str__(self) -> str:
        if self.bits == 0:
            return "ANY"
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        if self.bits == PROTOCOL_BITS:
            return f"ANY/{name}"
        span = 1 << (MAX_BITS - self.bits)
        last = f"-{self.port + span - 1}" if span > 1 else ""
        return f"{self.port}{last}/{name}"


ANY: Final = L4(0, 0, 0)


def split(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The prefixes ``(port, port bits)`` that cover ``first`` to ``last`` exactly, in order."""
    while first <= last:
        size = first & -first or 1 << 16
        while first + size - 1 > last:
            size >>= 1
        yield first, 16 - (size.bit_length() - 1)
        first += size


def prefixes(ports: PortRange) -> list[L4]:
    """The prefixes of a range without a name; any protocol with a port means those with ports."""
    if ports.family_icmp:
        return [L4(ports.protocol, ports.first, MAX_BITS)]
    if ports.first == 0 and ports.last == 0:
        return [L4(ports.protocol, 0, PROTOCOL_BITS) if ports.protocol else ANY]
    protocols = (ports.protocol,) if ports.protocol else WITH_PORTS
    return [
        L4(protocol, port, PROTOCOL_BITS + bits)
        for protocol in protocols
        for port, bits in split(ports.first, max(ports.first, ports.last))
    ]
