"""Ports, ranges, named ports and ICMP types.

``Packet.port`` is the destination port for TCP, UDP and SCTP and the type for ICMP and ICMPv6.
"""

from __future__ import annotations

from typing import Any

from .cluster import Address, Node, Outside, Pod

ICMP_NAMES = {
    "IPv4": {
        "EchoReply": 0,
        "DestinationUnreachable": 3,
        "Redirect": 5,
        "Echo": 8,
        "EchoRequest": 8,
        "TimeExceeded": 11,
    },
    "IPv6": {
        "DestinationUnreachable": 1,
        "PacketTooBig": 2,
        "TimeExceeded": 3,
        "EchoRequest": 128,
        "EchoReply": 129,
        "NeighborSolicitation": 135,
    },
}
WITH_PORTS = ("TCP", "UDP", "SCTP")


def named(name: str, protocol: str, port: int, owner: Pod | Node | Outside) -> bool:
    """Whether ``owner`` calls this port by this name; only pods have names for ports."""
    return isinstance(owner, Pod) and any(
        (item.name, item.protocol, item.port) == (name, protocol, port) for item in owner.ports
    )


def kubernetes_port(
    item: dict[str, Any], protocol: str, port: int, owner: Pod | Node | Outside
) -> bool:
    """One item of NetworkPolicy ``ports``: protocol TCP unless given, no port means all of it."""
    if (item.get("protocol") or "TCP") != protocol:
        return False
    return _port(item.get("port"), item.get("endPort"), protocol, port, owner)


def cilium_port(
    item: dict[str, Any], protocol: str, port: int, owner: Pod | Node | Outside
) -> bool:
    """One item of ``toPorts[].ports``: ANY without a port is any packet, with one the three that have ports."""
    wanted = item.get("protocol") or "ANY"
    value = item.get("port")
    everything = value is None or str(value) == "0"
    if wanted == "ANY":
        if not everything and protocol not in WITH_PORTS:
            return False
    elif wanted != protocol:
        return False
    return everything or _port(value, item.get("endPort"), protocol, port, owner)


def _port(
    value: Any, end: int | None, protocol: str, port: int, owner: Pod | Node | Outside
) -> bool:
    if value is None:
        return True
    if not str(value).isdigit():
        return named(str(value), protocol, port, owner)
    return int(value) <= port <= (end or int(value))


def cluster_protocol(
    item: dict[str, Any], protocol: str, port: int, owner: Pod | Node | Outside
) -> bool:
    """One item of ClusterNetworkPolicy ``protocols``."""
    if "destinationNamedPort" in item:
        return named(item["destinationNamedPort"], protocol, port, owner)
    body = item.get(protocol.lower())
    if body is None:
        return False
    wanted = body.get("destinationPort")
    if wanted is None:
        return True
    if "range" in wanted:
        return bool(wanted["range"]["start"] <= port <= wanted["range"]["end"])
    return bool(wanted["number"] == port)


def icmp_field(item: dict[str, Any], protocol: str, kind: int, address: Address) -> bool:
    """One item of ``icmps[].fields``: IPv4 unless a family is given, the type as number or name."""
    family = item.get("family") or "IPv4"
    if (family, protocol) not in (("IPv4", "ICMP"), ("IPv6", "ICMPv6")) or address.version != int(
        family[-1]
    ):
        return False
    wanted = item["type"]
    return (int(wanted) if str(wanted).isdigit() else ICMP_NAMES[family][wanted]) == kind
