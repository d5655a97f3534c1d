"""The wire: what we pack is what pyroute2 reads, and bytes from anywhere break nothing."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import Route
from axoneme.core.netlink import addresses, links, neighbors, notices, routes, sysctls, wire
from axoneme.core.netlink.wire import Message


def read(message: Message, reader: type) -> Any:
    """Decode one of our messages with pyroute2, which we did not write."""
    head = wire.HEADER.pack(16 + len(message.body), message.type, message.flags, 1, 0)
    found = reader(head + message.body)
    found.decode()
    return found


def test_geneve_device() -> None:
    """A flow-based geneve device: external, port in network order, no ARP.

    This kernel has no geneve, so the message is read by somebody else's decoder.
    """
    message = links.create(
        "axo_geneve",
        "geneve",
        {"geneve_collect_metadata": True, "geneve_port": 6081, "geneve_udp_zero_csum6_rx": True},
        mtu=1450,
        arp=False,
    )
    found = read(message, ifinfmsg)
    assert found.get_attr("IFLA_IFNAME") == "axo_geneve"
    assert found.get_attr("IFLA_MTU") == 1450
    assert found["flags"] & links.IFF_NOARP
    info = found.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "geneve"
    data = dict(info.get_attr("IFLA_INFO_DATA")["attrs"])
    assert data["IFLA_GENEVE_PORT"] == 6081
    assert "IFLA_GENEVE_COLLECT_METADATA" in data
    assert data["IFLA_GENEVE_UDP_ZERO_CSUM6_RX"] == 1


def test_geneve_without_metadata_has_no_flag() -> None:
    """The flag has no value: false means that it is absent."""
    message = links.create("g0", "geneve", {"geneve_collect_metadata": False, "geneve_id": 7})
    data = read(message, ifinfmsg).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert [x[0] for x in data["attrs"]] == ["IFLA_GENEVE_ID"]


def test_veth_pair() -> None:
    """Both ends are in one message, the peer with its namespace."""
    message = links.create_veth("a", "b", peer_netns_fd=9, mtu=1400, peer_mac="02:00:00:00:00:01")
    info = read(message, ifinfmsg).get_attr("IFLA_LINKINFO")
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "b"
    assert peer.get_attr("IFLA_NET_NS_FD") == 9
    assert peer.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:01"


@pytest.mark.parametrize(
    "route",
    [
        Route(ip_network("10.1.0.0/16"), via=ip_address("10.0.0.2"), mtu=1450),
        Route(ip_network("10.1.0.0/16"), source=ip_address("10.0.0.1"), metric=5, onlink=True),
        Route(ip_network("::/0"), via=ip_address("fd00::1"), table=2004),
        Route(ip_network("0.0.0.0/0"), kind="unreachable"),
    ],
)
def test_route_survives_the_journey(route: Route) -> None:
    """What is packed is decoded to the same route, and pyroute2 sees our protocol number."""
    message = routes.replace(route, 7)
    decoded = routes.decode(message.body)
    assert decoded is not None
    assert decoded.route == route
    assert decoded.protocol == 165
    found = read(message, rtmsg)
    assert (found["proto"], found["dst_len"]) == (165, route.destination.prefixlen)
    assert found.get_attr("RTA_TABLE") == route.table


def test_address_has_no_duplicate_detection() -> None:
    """An IPv6 address is usable at once."""
    found = read(addresses.add(3, ip_interface("fd00::2/128")), ifaddrmsg)
    assert found["flags"] & addresses.IFA_F_NODAD
    assert found.get_attr("IFA_ADDRESS") == "fd00::2"


@pytest.mark.parametrize("mac", ["", "02:00", "zz:00:00:00:00:00", "02:00:00:00:00:00:00"])
def test_bad_hardware_address(mac: str) -> None:
    """A bad hardware address is refused before anything is sent."""
    with pytest.raises(NetlinkError, match="hardware address"):
        links.mac_bytes(mac)


@pytest.mark.parametrize(
    "name", ["../x", "net..x", "net/ipv4/../../x", "", "net.ipv4.a b", "net\x00x"]
)
def test_sysctl_names_lead_nowhere_else(name: str) -> None:
    """No name escapes /proc/sys."""
    with pytest.raises(NetlinkError, match="not a name"):
        sysctls.path(name)


def test_sysctl_of_a_device_with_a_dot() -> None:
    """With slashes a part may contain dots."""
    assert str(sysctls.path("net/ipv4/conf/eth0.100/rp_filter")).endswith("/eth0.100/rp_filter")
    assert str(sysctls.path("net.ipv4.ip_forward")) == "/proc/sys/net/ipv4/ip_forward"


@given(st.binary(max_size=400))
def test_any_bytes_split_into_messages(data: bytes) -> None:
    """Random bytes end the walk; they never raise, never run past the end."""
    for kind, _, _, body in wire.messages(data):
        assert len(body) <= len(data)
        wire.attributes(body)
        if kind < 256:
            assert isinstance(notices.concerns_us(kind, body), bool)


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=255))
def test_attributes_read_back(value: bytes, kind: int) -> None:
    """Padding is added and taken off."""
    assert wire.attributes(wire.attribute(kind, value) + wire.u32(300, 5)) == {
        kind: value,
        300: struct.pack("=I", 5),
    }


@given(st.binary(max_size=120))
def test_decoders_on_random_attributes(data: bytes) -> None:
    """Random attributes behind a right header decode to something, or to a ``ValueError``."""
    for decode, head in (
        (links.decode, links.IFINFO.pack(0, 1, 1, 0, 0)),
        (addresses.decode, addresses.IFADDRMSG.pack(2, 24, 0, 0, 1)),
        (routes.decode, routes.RTMSG.pack(10, 64, 0, 0, 254, 165, 0, 1, 0)),
        (neighbors.decode, neighbors.NDMSG.pack(2, 1, 128, 0, 0)),
    ):
        with contextlib.suppress(ValueError):
            decode(head + data)


def test_sysctls_elsewhere(tmp_path: Path) -> None:
    """An agent in a container writes through a mount of the host's own."""
    file = tmp_path / "sys/net/ipv4/ip_forward"
    file.parent.mkdir(parents=True)
    file.write_text("0\n")
    sysctls.use(f"{tmp_path}/")
    try:
        assert sysctls.write("net.ipv4.ip_forward", "1")
        assert file.read_text().strip() == "1"
    finally:
        sysctls.use("/proc")
    assert str(sysctls.path("net.ipv4.ip_forward")) == "/proc/sys/net/ipv4/ip_forward"
