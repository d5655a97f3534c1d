"""``toPorts`` and ``icmps`` of Cilium's policies as port ranges."""

from __future__ import annotations

from typing import Final, NamedTuple

from axoneme.core.model.policy import Direction, L7Rules, PortRange
from axoneme.plugins.policy.decode import l7
from axoneme.plugins.policy.decode.fields import Node, UnenforceableError, shown
from axoneme.plugins.policy.l4 import ICMP, ICMPV6, PROTOCOLS, WITH_PORTS

MAX_PORTS: Final = 40

PORT_PROTOCOLS: Final = (
    *("TCP", "UDP", "SCTP", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"),
    *("ICMP", "ICMPV6", "ANY"),
)

ICMP_TYPES: Final = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEcho Request": 42,
    "ExtendedEcho Reply": 43,
}
"""IANA, ICMP type numbers, by the names that Cilium documents."""

ICMPV6_TYPES: Final = {
    "DestinationUnreachable": 1,
    "PacketTooBig": 2,
    "TimeExceeded": 3,
    "ParameterProblem": 4,
    "EchoRequest": 128,
    "EchoReply": 129,
    "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131,
    "MulticastListenerDone": 132,
    "RouterSolicitation": 133,
    "RouterAdvertisement": 134,
    "NeighborSolicitation": 135,
    "NeighborAdvertisement": 136,
    "RedirectMessage": 137,
    "RouterRenumbering": 138,
    "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140,
    "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142,
    "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145,
    "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}
"""IANA, ICMPv6 type numbers, by the names that Cilium documents."""


class PortRules(NamedTuple):
    """Ports, what a proxy has to see there, and the path of the ``toPorts`` item if it does."""

    ports: list[PortRange]
    l7: L7Rules | None = None
    path: str = ""


def decode_ports(node: Node, direction: Direction, *, deny: bool) -> list[PortRules]:
    """A ``toPorts`` list: the plain items together, then each that a proxy has to see."""
    known = ("ports",) if deny else ("ports", *l7.FIELDS)
    plain: list[PortRange] = []
    seen: list[PortRules] = []
    later: UnenforceableError | None = None
    for item in node.items():
        item.mapping(*known)
        ports = item.get("ports")
        listed = [_port(p) for p in ports.items(most=MAX_PORTS)]
        if not listed:
            raise ports.error("needs at least one port")
        try:
            rules = None if deny else l7.decode_l7(item, listed, direction)
        except UnenforceableError as error:
            later = later or error  # read on: what is plainly wrong is said first
            continue
        if rules is None:
            plain += listed
        else:
            seen.append(PortRules(listed, rules, item.path))
    if later is not None:
        raise later
    return [*([PortRules(plain)] if plain else []), *seen]


def _port(node: Node) -> PortRange:
    node.mapping("port", "endPort", "protocol")
    protocol = node.get("protocol")
    number = PROTOCOLS[protocol.choice(*PORT_PROTOCOLS)] if protocol.present else 0
    port, end = node.get("port"), node.get("endPort")
    text = port.text() if port.present else "0"
    if not (text.isascii() and text.isdigit()):
        name = port.port_name()
        if end.present and end.value:
            raise end.error("does not go with a port name")
        if number and number not in WITH_PORTS:
            raise port.error(f"{protocol.value} has no port names")
        return PortRange(number, name=name)
    first = int(text) if len(text) <= 5 else 65536
    if first > 65535:
        raise port.error(f"{shown(text)} is outside 0-65535")
    last = end.number(0, 65535) if end.present else 0
    if first and number and number not in WITH_PORTS:
        raise port.error(f"{protocol.value} has no ports", hint='use port "0"')
    if last and not first:
        raise end.error('needs a port other than "0"')
    if last and last < first:
        raise end.error(f"{last} is less than port {first}")
    return PortRange(number, first, last or first)


def decode_icmps(node: Node) -> list[PortRange]:
    """All types of an ``icmps`` list."""
    ranges: list[PortRange] = []
    for item in node.items():
        item.mapping("fields")
        fields = [_icmp(f) for f in item.get("fields").items(most=MAX_PORTS)]
        if not fields:
            raise item.get("fields").error("needs at least one type")
        ranges += fields
    return ranges


def _icmp(node: Node) -> PortRange:
    node.mapping("family", "type")
    family, kind = node.get("family"), node.get("type")
    version6 = family.present and family.choice("IPv4", "IPv6") == "IPv6"
    value = kind.value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        number = Node(kind.obj, kind.path, int(value)).number(0, 255)
    elif isinstance(value, str):
        types = ICMPV6_TYPES if version6 else ICMP_TYPES
        if value not in types:
            word = "ICMPv6" if version6 else "ICMP"
            raise kind.error(f"{shown(value)} is no {word} type")
        number = types[value]
    else:
        if not kind.present:
            raise kind.error("is required")
        number = kind.number(0, 255)
    return PortRange(ICMPV6 if version6 else ICMP, number, number, family_icmp=True)
