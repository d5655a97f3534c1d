"""What to do so that the kernel holds a desired :class:`NetworkState`: pure functions.

Each takes what is wanted and what the kernel showed, and gives what is missing, what differs and
what is ours but wanted by nobody. Ours are: links with the alias ``axoneme``, routes with
protocol 165, addresses and permanent neighbours on such links. Link-local addresses are the
kernel's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import Factory, define, evolve

from axoneme.core.model.network import LINK_ALIAS, Address, Link, Neighbor, NetworkState, Route
from axoneme.core.netlink import links, routes
from axoneme.core.netlink.addresses import SCOPE_LINK, AddressInfo
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.netlink.neighbors import NeighborInfo
from axoneme.core.netlink.routes import RouteInfo

ENDPOINT_ALIAS: Final = f"{LINK_ALIAS}-endpoint"
"""Prefix of the alias of pods' links: their endpoint owns them, the sweep leaves them alone."""


@define
class LinkPlan:
    """Steps for links; ``foreign`` are wanted names that somebody else's links have."""

    missing: list[Link] = Factory(list)
    remake: list[Link] = Factory(list)
    change: list[Link] = Factory(list)
    foreign: list[Link] = Factory(list)
    extra: list[LinkInfo] = Factory(list)


def plan_links(wanted: Mapping[str, Link], have: Mapping[str, LinkInfo]) -> LinkPlan:
    """Compare links by name."""
    plan = LinkPlan()
    for link in wanted.values():
        info = have.get(link.name)
        if info is None:
            plan.missing.append(link)
        elif info.alias != LINK_ALIAS:
            plan.foreign.append(link)
        elif _must_remake(link, info, have):
            plan.remake.append(link)
        elif _changed(link, info):
            plan.change.append(link)
    keep = wanted.keys() | {x.peer for x in wanted.values() if x.peer}
    plan.extra = [x for x in have.values() if x.alias == LINK_ALIAS and x.name not in keep]
    return plan


def _must_remake(link: Link, info: LinkInfo, have: Mapping[str, LinkInfo]) -> bool:
    if link.kind == "veth":
        return info.kind != "veth" or bool(link.peer and link.peer not in have)
    if link.kind in links.KINDS:
        return links.differs(info, link.kind, dict(link.attributes))
    return info.kind != link.kind


def _changed(link: Link, info: LinkInfo) -> bool:
    return (
        not info.up
        or bool(link.mtu and link.mtu != info.mtu)
        or bool(link.mac and link.mac != info.mac)
        or (link.arp != info.arp and link.kind != "wireguard")
    )


def plan_addresses(
    wanted: Iterable[Address], have: Iterable[AddressInfo], names: Mapping[int, LinkInfo]
) -> tuple[list[Address], list[Address]]:
    """(missing, extra)."""
    desired = set(wanted)
    found = {Address(names[x.index].name, x.interface): x for x in have if x.index in names}
    extra = [
        address
        for address, info in found.items()
        if address not in desired
        and names[info.index].alias == LINK_ALIAS
        and info.scope != SCOPE_LINK
    ]
    return sorted(desired - found.keys(), key=str), extra


def plan_routes(
    wanted: Iterable[Route], have: Iterable[RouteInfo], names: Mapping[int, LinkInfo]
) -> tuple[list[Route], list[Route], list[Route]]:
    """(missing, changed, extra); ``have`` are routes of our protocol number."""
    found: dict[tuple[object, int, int], list[Route]] = {}
    for info in have:
        link = names[info.index].name if info.index in names else ""
        route = evolve(info.route, link=link)
        found.setdefault(routes.key(route), []).append(route)
    missing: list[Route] = []
    changed: list[Route] = []
    for route in sorted(wanted, key=_order):
        same = found.pop(routes.key(route), [])
        if not same:
            missing.append(route)
        elif routes.normalize(route) not in same:
            changed.append(route)
    extra = [route for same in found.values() for route in same]
    # Off in the reverse order of making: a gateway's own route last.
    return missing, changed, sorted(extra, key=_order, reverse=True)


def _order(route: Route) -> tuple[bool, int, str]:
    """Routes without a gateway come first: gateways are reached through them."""
    return (route.via is not None, -route.destination.prefixlen, str(route.destination))


def plan_neighbors(
    wanted: Iterable[Neighbor], have: Iterable[NeighborInfo], names: Mapping[int, LinkInfo]
) -> tuple[list[Neighbor], list[Neighbor]]:
    """(missing or different, extra)."""
    desired = {(x.link, x.address): x for x in wanted}
    found = {(names[x.index].name, x.address): x for x in have if x.permanent and x.index in names}
    missing = [
        x for key, x in desired.items() if key not in found or found[key].mac != x.mac.lower()
    ]
    extra = [
        Neighbor(link, address, info.mac)
        for (link, address), info in found.items()
        if (link, address) not in desired and names[info.index].alias == LINK_ALIAS
    ]
    return missing, extra


def merge(states: Iterable[NetworkState]) -> NetworkState:
    """The union of several states."""
    total = NetworkState()
    for state in states:
        total.links.update(state.links)
        total.addresses |= state.addresses
        total.routes |= state.routes
        total.neighbors |= state.neighbors
        total.sysctls.update(state.sysctls)
    return total
