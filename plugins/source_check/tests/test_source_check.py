"""A pod sends from its own addresses; the exceptions are those a host cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.dhcp6 import DHCP6_Solicit
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from axoneme.core.testing.packets import OK, SHOT, PacketBench

pytestmark = pytest.mark.root

REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "another pod's address": lambda a, b: a.frame(4, "198.51.100.1", source=b.ip4) / TCP(),
    "another pod's IPv6 address": lambda a, b: a.frame(6, "2001:db8::1", source=b.ip6) / TCP(),
    "the router's": lambda a, b: a.frame(4, b, source="10.244.1.1") / TCP(),
    "loopback": lambda a, b: a.frame(4, b, source="127.0.0.1") / TCP(),
    "no address": lambda a, b: a.frame(4, b, source="0.0.0.0") / TCP(),
    "no IPv6 address": lambda a, b: a.frame(6, b, source="::") / TCP(),
    "DHCP ports to one host": lambda a, b: (
        a.frame(4, b, source="0.0.0.0") / UDP(sport=68, dport=67)
    ),
    "link-local TCP": lambda a, b: a.frame(6, b, source="fe80::b") / TCP(),
    "neighbour discovery as another pod": lambda a, b: (
        a.frame(6, "fe80::1", source=b.ip6, ttl=255) / ICMPv6ND_NA(tgt=b.ip6)
    ),
    "solicitation from another link-local": lambda a, b: (
        a.frame(6, "ff02::1:ff00:1", source="fe80::bad:1", ttl=255)
        / ICMPv6ND_NS(tgt="fd00:10:244:1::1")
    ),
    "solicitation from another pod's link-local": lambda a, b: (
        a.frame(6, "ff02::1:ff00:1", source="fe80::ff:fe00:10c", ttl=255)
        / ICMPv6ND_NS(tgt="fd00:10:244:1::1")
    ),
    "link-local echo": lambda a, b: a.frame(6, b, source="fe80::b") / ICMPv6EchoRequest(),
}

ALLOWED: dict[str, Callable[[Any, Any], Any]] = {
    "DHCP discover": lambda a, b: (
        Ether(src=a.mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / Raw(b"x" * 240)
    ),
    "DHCPv6 solicit": lambda a, b: (
        a.frame(6, "ff02::1:2", source="fe80::b") / UDP(sport=546, dport=547) / DHCP6_Solicit()
    ),
    "duplicate address detection": lambda a, b: (
        Ether(src=a.mac, dst="33:33:ff:00:00:11")
        / IPv6(src="::", dst="ff02::1:ff00:11", hlim=255)
        / ICMPv6ND_NS(tgt=a.ip6)
    ),
    "solicitation from its own link-local": lambda a, b: (
        a.frame(6, "ff02::1:ff00:1", source="fe80::ff:fe00:10b", ttl=255)
        / ICMPv6ND_NS(tgt="fd00:10:244:1::1")
    ),
    "solicitation from its own address": lambda a, b: (
        a.frame(6, "ff02::1:ff00:1", ttl=255) / ICMPv6ND_NS(tgt="fd00:10:244:1::1")
    ),
    "neighbour advertisement": lambda a, b: (
        a.frame(6, "fe80::1", source="fe80::b", ttl=255) / ICMPv6ND_NA(tgt=a.ip6)
    ),
    "listener report": lambda a, b: a.frame(6, "ff02::16", source="::", ttl=1) / ICMPv6MLReport2(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_forged_source_is_dropped(bench: PacketBench, a: Any, b: Any, name: str) -> None:
    """INVALID_SIP, counted and told, whatever the address belongs to."""
    done = bench.run("from_container", REFUSED[name](a, b), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "INVALID_SIP")
    [event] = bench.events(1)
    assert event.src_identity == a.identity


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_host_must_say_gets_to_the_node(
    bench: PacketBench, a: Any, b: Any, name: str
) -> None:
    """It ends at this node's stack and is never forwarded."""
    done = bench.run("from_container", ALLOWED[name](a, b), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (OK, "")


def test_an_endpoint_may_be_excused(bench: PacketBench, a: Any, b: Any) -> None:
    """The flag of the endpoint switches the check off for its device alone."""
    bench.endpoint(a.id, a.ifindex, a.identity, a.ip4, a.ip6, flags=2)
    forged = a.frame(4, b, source="192.0.2.9") / TCP()
    assert bench.run("from_container", forged, ifindex=a.ifindex).drop == ""
    forged = b.frame(4, a, source="192.0.2.9") / TCP()
    assert bench.run("from_container", forged, ifindex=b.ifindex).drop == "INVALID_SIP"


def test_a_pod_without_a_family_cannot_send_in_it(bench: PacketBench, a: Any, b: Any) -> None:
    """No IPv6 address: every IPv6 source is forged, the unspecified one too."""
    bench.endpoint(a.id, a.ifindex, a.identity, a.ip4)
    for source in (a.ip6, "::"):
        done = bench.run("from_container", a.frame(6, b, source=source) / TCP(), ifindex=a.ifindex)
        assert done.drop == "INVALID_SIP"
