"""Comparing what is wanted with what the kernel shows: pure, so without a kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.model.network import Address, Link, Neighbor, NetworkState, Route
from axoneme.core.netlink import plan, routes
from axoneme.core.netlink.addresses import AddressInfo
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.netlink.neighbors import NeighborInfo
from axoneme.core.netlink.routes import RouteInfo

OURS = LinkInfo(2, "axo_host", "veth", flags=1, mtu=1500, alias="axoneme")
PEER = LinkInfo(3, "axo_net", "veth", flags=1, mtu=1500, alias="axoneme")
POD = LinkInfo(4, "axo0123456789", "veth", flags=1, alias="axoneme-endpoint:c:eth0")
THEIRS = LinkInfo(5, "eth0", "veth", flags=1)
NAMES = {x.index: x for x in (OURS, PEER, POD, THEIRS)}
BY_NAME = {x.name: x for x in NAMES.values()}
HOST = Link("axo_host", "veth", mtu=1500, peer="axo_net")


def test_links_that_are_right_are_left_alone() -> None:
    """A pair that is there is no work; a pod's link and somebody's device are no business."""
    steps = plan.plan_links({"axo_host": HOST}, BY_NAME)
    assert (steps.missing, steps.remake, steps.change, steps.foreign, steps.extra) == (
        [],
        [],
        [],
        [],
        [],
    )


def test_link_steps() -> None:
    """MTU is changed in place, a lost peer makes the pair anew, a foreign name is not taken."""
    assert plan.plan_links({"axo_host": evolve(HOST, mtu=9000)}, BY_NAME).change
    alone = {"axo_host": OURS}
    assert plan.plan_links({"axo_host": HOST}, alone).remake
    assert plan.plan_links({"eth0": Link("eth0", "veth")}, BY_NAME).foreign
    assert [x.name for x in plan.plan_links({}, BY_NAME).extra] == ["axo_host", "axo_net"]


def test_other_port_makes_the_tunnel_anew() -> None:
    """What the kernel cannot change in place is compared by its raw attributes."""
    info = LinkInfo(9, "axo_vxlan", "vxlan", flags=1, alias="axoneme", data=((15, b"\x21\x18"),))
    have = {"axo_vxlan": info}
    same = Link("axo_vxlan", "vxlan", attributes=(("vxlan_port", 8472),))
    other = Link("axo_vxlan", "vxlan", attributes=(("vxlan_port", 4789),))
    assert not plan.plan_links({"axo_vxlan": same}, have).remake
    assert plan.plan_links({"axo_vxlan": other}, have).remake


def test_addresses() -> None:
    """Swept on our links only, and never the kernel's link-local ones."""
    have = [
        AddressInfo(2, ip_interface("10.0.0.1/32")),
        AddressInfo(2, ip_interface("fe80::1/64"), scope=253),
        AddressInfo(5, ip_interface("192.0.2.1/24")),
    ]
    wanted = [Address("axo_host", ip_interface("10.0.0.2/32"))]
    missing, extra = plan.plan_addresses(wanted, have, NAMES)
    assert missing == wanted
    assert extra == [Address("axo_host", ip_interface("10.0.0.1/32"))]


def test_routes_without_gateway_come_first() -> None:
    """A gateway's own route is made before the route through it, and removed after it."""
    direct = Route(ip_network("10.9.0.1/32"), link="eth0")
    through = Route(ip_network("10.1.0.0/16"), link="eth0", via=ip_address("10.9.0.1"))
    missing, _, _ = plan.plan_routes({through, direct}, [], NAMES)
    assert missing == [direct, through]
    have = [RouteInfo(evolve(x, link=""), 5, 165) for x in (direct, through)]
    _, _, extra = plan.plan_routes([], have, NAMES)
    assert [x.destination for x in extra] == [through.destination, direct.destination]


def test_default_metric_of_ipv6_is_no_difference() -> None:
    """The kernel shows 1024 for no metric in IPv6."""
    wanted = Route(ip_network("fd00::/64"), link="eth0")
    have = RouteInfo(Route(ip_network("fd00::/64"), metric=1024), 5, 165)
    assert plan.plan_routes([wanted], [have], NAMES) == ([], [], [])


def test_neighbors() -> None:
    """A different hardware address is set, a resolved entry is nobody's, ours are swept."""
    address = ip_address("10.0.0.9")
    have = [
        NeighborInfo(2, address, "02:00:00:00:00:01", 128),
        NeighborInfo(2, ip_address("10.0.0.8"), "02:00:00:00:00:01", 2),
    ]
    wanted = [Neighbor("axo_host", address, "02:00:00:00:00:02")]
    assert plan.plan_neighbors(wanted, have, NAMES) == (wanted, [])
    _, extra = plan.plan_neighbors([], have, NAMES)
    assert [x.address for x in extra] == [address]


def test_merge() -> None:
    """The union of what several want."""
    one, two = NetworkState(), NetworkState()
    one.routes.add(Route(ip_network("10.0.0.0/8")))
    two.sysctls["net.ipv4.ip_forward"] = "1"
    total = plan.merge([one, two])
    assert len(total.routes) == 1
    assert total.sysctls == two.sysctls


ROUTES = st.builds(
    Route,
    destination=st.sampled_from([ip_network(f"10.{n}.0.0/16") for n in range(4)])
    | st.sampled_from([ip_network(f"fd00:{n}::/64") for n in range(1, 4)]),
    link=st.sampled_from(["eth0", "axo_host"]),
    mtu=st.sampled_from([0, 1400]),
    metric=st.sampled_from([0, 5]),
)


@given(st.sets(ROUTES, max_size=8), st.sets(ROUTES, max_size=8))
def test_plan_leads_to_what_is_wanted(wanted: set[Route], have: set[Route]) -> None:
    """Applying a plan to any state of the kernel gives exactly what is wanted."""
    desired = {routes.key(x): x for x in wanted}
    kernel = {routes.key(x): routes.normalize(x) for x in have}
    index = {x.name: x.index for x in NAMES.values()}
    shown = [RouteInfo(evolve(x, link=""), index[x.link], 165) for x in kernel.values()]
    missing, changed, extra = plan.plan_routes(desired.values(), shown, NAMES)
    for route in missing:
        assert routes.key(route) not in kernel
    for route in (*missing, *changed):
        kernel[routes.key(route)] = routes.normalize(route)
    for route in extra:
        del kernel[routes.key(route)]
    assert kernel == {k: routes.normalize(x) for k, x in desired.items()}
