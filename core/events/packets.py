"""The words for a packet's upper layer: ``tcp SYN``, ``icmp echo-request``, ``udp``."""

from __future__ import annotations

from typing import Final

from axoneme.core.events.model import Event

PROTOCOLS: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
FLAGS: Final = (
    (0x02, "SYN"),
    (0x10, "ACK"),
    (0x01, "FIN"),
    (0x04, "RST"),
    (0x08, "PSH"),
    (0x20, "URG"),
    (0x40, "ECE"),
    (0x80, "CWR"),
)
ICMP: Final = {
    0: "echo-reply",
    3: "destination-unreachable",
    5: "redirect",
    8: "echo-request",
    11: "time-exceeded",
    12: "parameter-problem",
}
"""RFC 792."""
ICMPV6: Final = {
    1: "destination-unreachable",
    2: "packet-too-big",
    3: "time-exceeded",
    4: "parameter-problem",
    128: "echo-request",
    129: "echo-reply",
    133: "router-solicitation",
    134: "router-advertisement",
    135: "neighbor-solicitation",
    136: "neighbor-advertisement",
}
"""RFC 4443, RFC 4861."""


def protocol(number: int) -> str:
    """Name of an IP protocol."""
    return PROTOCOLS.get(number, f"proto {number}")


def summary(event: Event) -> str:
    """One or two words about the packet."""
    name = protocol(event.protocol)
    if event.protocol == 6:
        flags = ", ".join(word for bit, word in FLAGS if event.tcp_flags & bit)
        return f"{name} {flags}".rstrip()
    if event.protocol in (1, 58):
        kinds = ICMP if event.protocol == 1 else ICMPV6
        return f"{name} {kinds.get(event.tcp_flags, f'type {event.tcp_flags}')}"
    return name if event.protocol else "not ip" if event.source is None else name
