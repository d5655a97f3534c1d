"""Netlink against the running kernel, read back with iproute2, which we did not write."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import Address, Link, Neighbor, NetworkState, Route
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.namespaces import NETNS_DIR, create_netns, delete_netns, run_in_netns
from axoneme.core.netlink.reconciler import NetworkReconciler
from axoneme.core.netlink.target import NetworkTarget

pytestmark = pytest.mark.root


@pytest.fixture
def spaces() -> Iterator[tuple[str, str]]:
    """Two fresh namespaces, removed whatever happens."""
    tag = secrets.token_hex(3)
    names = (f"axot-a{tag}", f"axot-b{tag}")
    for name in names:
        create_netns(name)
    try:
        yield names
    finally:
        for name in names:
            delete_netns(name)


@pytest.fixture
def netlink(spaces: tuple[str, str]) -> Iterator[Netlink]:
    """Netlink of the first namespace."""
    with Netlink(spaces[0]) as found:
        yield found


def ip(namespace: str, *arguments: str) -> list[dict]:
    """What iproute2 sees."""
    command = ["ip", "-j", "-d", "-n", namespace, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout or "[]")


def connect(netlink: Netlink, pod: str, *, mac: str = "02:00:00:00:00:01") -> tuple[int, int]:
    """A pod's interface, as an endpoint gets it."""
    descriptor = os.open(NETNS_DIR / pod, os.O_RDONLY)
    try:
        made = netlink.create_veth(
            "axotveth0", "eth0", descriptor, mtu=1450, mac=mac, alias="axoneme-endpoint t"
        )
    finally:
        os.close(descriptor)
    netlink.configure_pod(
        pod,
        "eth0",
        [ip_address("10.77.0.2"), ip_address("fd00:77::2")],
        [ip_address("10.77.0.1"), ip_address("fd00:77::1")],
        gateway_mac=mac,
        route_mtu=1400,
        sysctls={"net.ipv4.ip_local_reserved_ports": "8472"},
    )
    return made


def test_pod_interface_is_complete(spaces: tuple[str, str], netlink: Netlink) -> None:
    """One call each makes the pair and sets up the pod's end: both families, routes, MTU."""
    index, peer_index = connect(netlink, spaces[1])
    host = ip(spaces[0], "link", "show", "axotveth0")[0]
    assert (host["ifindex"], host["ifalias"], host["mtu"]) == (index, "axoneme-endpoint t", 1450)
    assert "UP" in host["flags"]
    pod = ip(spaces[1], "addr", "show", "eth0")[0]
    assert pod["ifindex"] == peer_index
    found = {x["local"]: x for x in pod["addr_info"]}
    assert found["10.77.0.2"]["prefixlen"] == 32
    assert found["fd00:77::2"]["prefixlen"] == 128
    assert "tentative" not in found["fd00:77::2"]
    default = ip(spaces[1], "route", "show", "default")[0]
    assert (default["gateway"], default["metrics"][0]["mtu"]) == ("10.77.0.1", 1400)
    default = ip(spaces[1], "-6", "route", "show", "default")[0]
    assert (default["gateway"], default["metrics"][0]["mtu"]) == ("fd00:77::1", 1400)
    reserved = run_in_netns(spaces[1], Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text)
    assert reserved.strip() == "8472"


def test_pod_talks_at_once(spaces: tuple[str, str], netlink: Netlink) -> None:
    """Both families work in the same moment: no duplicate detection, no waiting."""
    connect(netlink, spaces[1])
    for address in ("10.77.0.1/32", "fd00:77::1/128"):
        netlink.add_address("axotveth0", ip_interface(address))
    for address in ("10.77.0.2/32", "fd00:77::2/128"):
        netlink.replace_route(Route(ip_network(address), link="axotveth0"))
    for address in ("10.77.0.1", "fd00:77::1"):
        command = ["ip", "netns", "exec", spaces[1], "ping", "-c1", "-W2", address]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0, address


def test_configuring_twice_changes_nothing(spaces: tuple[str, str], netlink: Netlink) -> None:
    """A repeated ADD finds everything in place."""
    connect(netlink, spaces[1])
    before = ip(spaces[1], "route") + ip(spaces[1], "-6", "route")
    netlink.configure_pod(
        spaces[1],
        "eth0",
        [ip_address("10.77.0.2"), ip_address("fd00:77::2")],
        [ip_address("10.77.0.1"), ip_address("fd00:77::1")],
        gateway_mac="02:00:00:00:00:01",
        route_mtu=1400,
    )
    assert ip(spaces[1], "route") + ip(spaces[1], "-6", "route") == before


def test_errors_name_object_and_errno(netlink: Netlink) -> None:
    """A refusal carries the kernel's errno and the name of what was refused."""
    with pytest.raises(NetlinkError, match="link axotnone: no such device") as caught:
        netlink.link_index("axotnone")
    assert caught.value.errno == errno.ENODEV
    netlink.create_veth("axotv0", "axotv1")
    with pytest.raises(NetlinkError, match="link axotv0: file exists") as caught:
        netlink.create_veth("axotv0", "axotv2")
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(NetlinkError, match="1 to 15 bytes"):
        netlink.create_veth("a-name-that-is-too-long", "axotv3")


def test_one_bad_message_stops_no_other(netlink: Netlink) -> None:
    """In a pipeline each request has its own result."""
    from axoneme.core.netlink import links, routes

    netlink.create_veth("axotv0", "axotv1")
    index = netlink.link_index("axotv0")
    bad = Route(ip_network("10.1.0.0/24"), via=ip_address("10.99.0.1"))
    good = Route(ip_network("10.2.0.0/24"), link="axotv0")
    results = netlink.pipeline(
        [links.delete("axotnone"), routes.replace(bad, index), routes.replace(good, index)]
    )
    assert [x.errno if x else 0 for x in results] == [errno.ENODEV, errno.ENETUNREACH, 0]
    assert netlink.routes() == [good]


def test_many_routes_in_one_go(netlink: Netlink) -> None:
    """Two thousand routes are pipelined and read back, in well under a second."""
    from axoneme.core.netlink import routes

    netlink.create_veth("axotv0", "axotv1")
    index = netlink.link_index("axotv0")
    wanted = [Route(ip_network((0x0A000000 + (i << 8), 24)), link="axotv0") for i in range(2000)]
    start = time.monotonic()
    assert not any(netlink.pipeline([routes.replace(x, index) for x in wanted]))
    assert set(netlink.routes()) == set(wanted)
    assert time.monotonic() - start < 2.0


def test_flow_based_vxlan(spaces: tuple[str, str], netlink: Netlink) -> None:
    """A flow-based vxlan device looks to iproute2 as asked for."""
    netlink.create_link(
        Link(
            "axotvx",
            "vxlan",
            mtu=1450,
            arp=False,
            attributes=(
                ("vxlan_collect_metadata", True),
                ("vxlan_port", 8472),
                ("vxlan_learning", False),
            ),
        ),
        "axoneme",
    )
    found = ip(spaces[0], "link", "show", "axotvx")[0]
    data = found["linkinfo"]["info_data"]
    assert (data["external"], data["port"], data["learning"]) == (True, 8472, False)
    assert "NOARP" in found["flags"]
    assert found["mtu"] == 1450


def test_kind_we_do_not_pack_goes_through_pyroute2(netlink: Netlink) -> None:
    """Any kind that pyroute2 knows can be made, with its names for the attributes."""
    netlink.create_veth("axotv0", "axotv1")
    link = Link(
        "axotmv",
        "macvlan",
        attributes=(("macvlan_mode", "bridge"), ("link", netlink.link_index("axotv0"))),
    )
    netlink.create_link(link, "axoneme")
    info = netlink.link("axotmv")
    assert info is not None
    assert (info.kind, info.up, info.alias) == ("macvlan", True, "axoneme")


def test_unknown_attribute_is_refused(netlink: Netlink) -> None:
    """A misspelt attribute is an error that lists the known ones, not a default."""
    with pytest.raises(NetlinkError, match=r"has no attribute 'vxlan_prt'.*vxlan_port"):
        netlink.create_link(Link("axotvx", "vxlan", attributes=(("vxlan_prt", 1),)))


def test_namespace_life() -> None:
    """Create refuses a taken name; delete is idempotent; lo is up; no name leads elsewhere."""
    name = f"axot-n{secrets.token_hex(3)}"
    try:
        create_netns(name)
        with pytest.raises(NetlinkError) as caught:
            create_netns(name)
        assert caught.value.errno == errno.EEXIST
        with Netlink(name) as inside:
            lo = inside.link("lo")
            assert lo is not None
            assert lo.up
        assert delete_netns(name)
    finally:
        delete_netns(name)
    assert not delete_netns(name)
    assert not (NETNS_DIR / name).exists()
    for bad in ("", "..", "a/b"):
        with pytest.raises(NetlinkError):
            delete_netns(bad)


def test_half_made_namespace_is_removed() -> None:
    """What a crash between file and mount left is removed like any other."""
    name = f"axot-h{secrets.token_hex(3)}"
    (NETNS_DIR / name).touch()
    assert delete_netns(name)
    assert not (NETNS_DIR / name).exists()


def state(via: str = "10.0.0.2") -> NetworkState:
    """A node's network in small."""
    found = NetworkState()
    found.links["axotnode0"] = Link("axotnode0", "veth", mtu=1500, peer="axotnode1")
    for address in ("10.0.0.1/24", "fd00::1/64"):
        found.addresses.add(Address("axotnode0", ip_interface(address)))
    found.routes.add(Route(ip_network("10.1.0.0/16"), link="axotnode0", via=ip_address(via)))
    found.routes.add(Route(ip_network("fd00:1::/64"), link="axotnode0", mtu=1400))
    found.routes.add(Route(ip_network("10.3.0.0/16"), kind="unreachable"))
    found.neighbors.add(Neighbor("axotnode0", ip_address("10.0.0.2"), "02:00:00:00:00:02"))
    found.sysctls["net.ipv4.conf.axotnode0.rp_filter"] = "0"
    return found


def test_pass_applies_once(spaces: tuple[str, str], netlink: Netlink) -> None:
    """A pass makes what is missing; the next one finds nothing to do."""
    target = NetworkTarget(netlink, grace=0)
    first = target.apply(state())
    assert first.failed == {}
    assert first.changed > 0
    second = target.apply(state())
    assert (second.failed, second.changed, second.swept) == ({}, 0, 0)
    route = ip(spaces[0], "route", "show", "10.1.0.0/16")[0]
    assert (route["gateway"], route["protocol"]) == ("10.0.0.2", "165")


def test_pass_repairs_and_changes(netlink: Netlink) -> None:
    """A gateway that changes is replaced, a lost link comes back with all that hung on it."""
    target = NetworkTarget(netlink, grace=0)
    target.apply(state())
    target.apply(state("10.0.0.9"))
    assert ip_address("10.0.0.9") in {x.via for x in netlink.routes()}
    netlink.delete_link("axotnode0")
    result = target.apply(state("10.0.0.9"))
    assert result.failed == {}
    assert len(netlink.routes()) == 3


def test_sweep_is_ours_only(spaces: tuple[str, str], netlink: Netlink) -> None:
    """Unwanted things with our marks go; others' routes, links and addresses stay."""
    target = NetworkTarget(netlink, grace=0)
    target.apply(state())
    for command in (
        "link add axottheirs type veth peer name axotother",
        "link set axottheirs up",
        "addr add 10.5.0.1/24 dev axottheirs",
        "route add 10.6.0.0/16 dev axottheirs proto static",
    ):
        subprocess.run(["ip", "-n", spaces[0], *command.split()], check=True)
    netlink.replace_route(Route(ip_network("10.8.0.0/16"), link="axottheirs"))
    result = target.apply(NetworkState())
    assert result.failed == {}
    assert netlink.link("axotnode0") is None
    assert netlink.routes() == []
    assert netlink.link("axottheirs") is not None
    assert ip(spaces[0], "route", "show", "10.6.0.0/16")
    assert ip_interface("10.5.0.1/24") in [x.interface for x in netlink.addresses("axottheirs")]


def test_failures_are_told_by_name_and_stop_nothing(
    spaces: tuple[str, str], netlink: Netlink
) -> None:
    """A route of another protocol in the way, a missing device: each is named, the rest is done."""
    wanted = state()
    wanted.routes.add(Route(ip_network("10.6.0.0/16"), link="axotnode0"))
    wanted.routes.add(Route(ip_network("10.7.0.0/16"), link="axotnone"))
    wanted.sysctls["net.ipv4.conf.axotnone.rp_filter"] = "0"
    target = NetworkTarget(netlink, grace=0)
    target.apply(state())
    subprocess.run(
        ["ip", "-n", spaces[0], "route", "add", "10.6.0.0/16", "dev", "axotnode0"], check=True
    )
    result = target.apply(wanted)
    assert set(result.failed) == {
        "route 10.6.0.0/16",
        "route 10.7.0.0/16",
        "sysctl net.ipv4.conf.axotnone.rp_filter",
    }
    assert ip(spaces[0], "route", "show", "10.6.0.0/16")[0].get("protocol") == "boot"


def test_stranger_with_our_mark_has_grace(netlink: Netlink) -> None:
    """A route of ours that no state names yet lives through the grace, then goes."""
    netlink.create_veth("axotv0", "axotv1")
    netlink.replace_route(Route(ip_network("10.8.0.0/16"), link="axotv0"))
    target = NetworkTarget(netlink, grace=0.2)
    assert target.apply(NetworkState()).waiting == 1
    assert len(netlink.routes()) == 1
    time.sleep(0.25)
    assert target.apply(NetworkState()).swept == 1
    assert netlink.routes() == []


def test_reconciler_repairs_what_others_break(spaces: tuple[str, str], netlink: Netlink) -> None:
    """A route of ours that somebody deletes is back within seconds, without anybody asking."""

    async def scenario() -> list[Route]:
        reconciler = NetworkReconciler(netlink, state)
        task = asyncio.create_task(reconciler.run())
        await asyncio.sleep(0)
        assert await reconciler.resync() == {}
        command = ["ip", "-n", spaces[0], "route", "del", "10.1.0.0/16"]
        await asyncio.to_thread(subprocess.run, command, check=True)
        for _ in range(60):
            await asyncio.sleep(0.1)
            if len(netlink.routes()) == 3:
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        reconciler.close()
        return netlink.routes()

    assert len(asyncio.run(scenario())) == 3


def test_many_links_go_at_once(spaces: tuple[str, str], netlink: Netlink) -> None:
    """Twenty pairs cost little more than one; what is gone already, or not named, is fine."""
    names = [f"axot{n}" for n in range(20)]
    for name in [*names, "axotstay"]:
        netlink.create_veth(name, f"{name}p")
    netlink.delete_link("axot7")
    netlink.delete_links(names)
    netlink.delete_links(["axot7", "axot8"])
    netlink.delete_links([])
    assert {x.name for x in netlink.links()} == {"lo", "axotstay", "axotstayp"}
