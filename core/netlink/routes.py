"""Route messages. Numbers from ``linux/rtnetlink.h``."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_network
from typing import Final

from attrs import evolve, frozen

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import ROUTE_PROTOCOL, Route
from axoneme.core.netlink import wire
from axoneme.core.netlink.addresses import family
from axoneme.core.netlink.wire import Message, NetlinkSocket, attributes, number

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

RTMSG: Final = struct.Struct("=BBBBBBBBI")
"""family, destination length, source length, tos, table, protocol, scope, type, flags"""

RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_METRICS: Final = 8
RTA_TABLE: Final = 15
RTA_VIA: Final = 18
RTAX_MTU: Final = 2

RTM_F_CLONED: Final = 0x200
RTNH_F_ONLINK: Final = 4

SCOPE_UNIVERSE: Final = 0
SCOPE_LINK: Final = 253
SCOPE_HOST: Final = 254

KINDS: Final = {"unicast": 1, "local": 2, "blackhole": 6, "unreachable": 7, "prohibit": 8}
KIND_NAMES: Final = {value: key for key, value in KINDS.items()}

IPV6_METRIC: Final = 1024
"""What the kernel makes of no metric in IPv6."""


@frozen
class RouteInfo:
    """A route of the kernel, with the index of its device; ``route.link`` is left empty."""

    route: Route
    index: int
    protocol: int


def describe(route: Route) -> str:
    """How errors and views name a route."""
    table = "" if route.table == 254 else f" table {route.table}"
    metric = f" metric {route.metric}" if route.metric else ""
    return f"route {route.destination}{table}{metric}"


def normalize(route: Route) -> Route:
    """What the kernel will show for a route: default metric, no device where it keeps none."""
    metric = route.metric
    if route.destination.version == 6 and metric == 0:
        metric = IPV6_METRIC
    link = route.link if route.kind in ("unicast", "local") else ""
    return evolve(route, metric=metric, link=link)


def key(route: Route) -> tuple[object, int, int]:
    """What the kernel allows once: destination, table, metric."""
    route = normalize(route)
    return (route.destination, route.table, route.metric)


def _scope(route: Route) -> int:
    if route.destination.version == 6 or route.via is not None:
        return SCOPE_UNIVERSE
    return {"unicast": SCOPE_LINK, "local": SCOPE_HOST}.get(route.kind, SCOPE_UNIVERSE)


def _gateway(route: Route) -> bytes:
    if route.via is None:
        return b""
    if route.via.version == route.destination.version:
        return wire.attribute(RTA_GATEWAY, route.via.packed)
    return wire.attribute(RTA_VIA, struct.pack("=H", family(route.via.version)) + route.via.packed)


def _body(route: Route, index: int, protocol: int) -> bytes:
    if route.kind not in KINDS:
        raise NetlinkError(f"{describe(route)}: unknown kind {route.kind!r}", errno=22)
    body = RTMSG.pack(
        family(route.destination.version),
        route.destination.prefixlen,
        0,
        0,
        route.table if route.table < 256 else 0,
        protocol,
        _scope(route),
        KINDS[route.kind],
        RTNH_F_ONLINK if route.onlink else 0,
    )
    if route.destination.prefixlen:
        body += wire.attribute(RTA_DST, route.destination.network_address.packed)
    body += _gateway(route)
    if index:
        body += wire.u32(RTA_OIF, index)
    if route.metric:
        body += wire.u32(RTA_PRIORITY, route.metric)
    if route.source is not None:
        body += wire.attribute(RTA_PREFSRC, route.source.packed)
    if route.mtu:
        body += wire.nest(RTA_METRICS, wire.u32(RTAX_MTU, route.mtu))
    return body + wire.u32(RTA_TABLE, route.table)


def replace(route: Route, index: int, protocol: int = ROUTE_PROTOCOL) -> Message:
    """Put a route in place of whatever has its key."""
    flags = wire.CREATE | wire.REPLACE
    return Message(RTM_NEWROUTE, flags, _body(route, index, protocol), describe(route))


def add(route: Route, index: int, protocol: int = ROUTE_PROTOCOL) -> Message:
    """Add a route; EEXIST if its key is taken."""
    flags = wire.CREATE | wire.EXCL
    return Message(RTM_NEWROUTE, flags, _body(route, index, protocol), describe(route))


def delete(route: Route, index: int, protocol: int = ROUTE_PROTOCOL) -> Message:
    """Remove a route; only one with this protocol number, so never somebody else's."""
    return Message(RTM_DELROUTE, 0, _body(route, index, protocol), describe(route))


def dump(netlink: NetlinkSocket, protocol: int = 0, table: int = 0) -> list[RouteInfo]:
    """Routes of both families, of one protocol or table where given (0 is all)."""
    found: list[RouteInfo] = []
    for kind in (socket.AF_INET, socket.AF_INET6):
        body = RTMSG.pack(kind, 0, 0, 0, 0, protocol, 0, 0, 0)
        if table:
            body += wire.u32(RTA_TABLE, table)
        try:
            bodies = netlink.dump(RTM_GETROUTE, body, "routes")
        except NetlinkError as error:
            if error.errno == 2 and table:  # ENOENT: a table that was never used
                continue
            raise
        found += [x for x in map(decode, bodies) if x is not None]
    if protocol:
        return [x for x in found if x.protocol == protocol]
    return found


def decode(body: bytes) -> RouteInfo | None:
    """A route out of the body of RTM_NEWROUTE; ``None`` for what we never make.

    Never made: other families, cached routes, multipath, kinds not in :data:`KINDS`.
    """
    kind, length, _, _, table, protocol, _, type_, flags = RTMSG.unpack_from(body)
    if kind not in (socket.AF_INET, socket.AF_INET6) or flags & RTM_F_CLONED:
        return None
    if type_ not in KIND_NAMES:
        return None
    found = attributes(body, RTMSG.size)
    size = 4 if kind == socket.AF_INET else 16
    via = ip_address(found[RTA_GATEWAY]) if RTA_GATEWAY in found else None
    if RTA_VIA in found:
        via = ip_address(found[RTA_VIA][2:])
    metrics = attributes(found.get(RTA_METRICS, b""))
    name = KIND_NAMES[type_]
    route = Route(
        destination=ip_network((found.get(RTA_DST, b"\0" * size), length)),
        via=via,
        source=ip_address(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None,
        mtu=number(metrics.get(RTAX_MTU, b"")),
        table=number(found.get(RTA_TABLE, b""), table),
        metric=number(found.get(RTA_PRIORITY, b"")),
        kind=name,
        onlink=bool(flags & RTNH_F_ONLINK),
    )
    index = number(found.get(RTA_OIF, b"")) if name in ("unicast", "local") else 0
    return RouteInfo(route, index, protocol)
