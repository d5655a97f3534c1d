"""The policy stages: which of the matching entries decides, for both directions and families."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.layers.sctp import SCTP

from axoneme.core.testing.packets import EGRESS, INGRESS, OK, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
DIRECTIONS = pytest.mark.parametrize("direction", [INGRESS, EGRESS])
TCP_ = 6
UDP_ = 17


class Side:
    """Rules of one direction between a and b; the other end allows everything."""

    def __init__(self, bench: PacketBench, a: Any, b: Any, direction: int, version: int) -> None:
        self.bench, self.a, self.b = bench, a, b
        self.direction, self.version = direction, version
        self.subject, self.peer = (b, a) if direction == INGRESS else (a, b)
        bench.rule(self.peer.identity, 1 - direction)

    def rule(self, **options: Any) -> None:
        """A rule of the subject; ``peer=True`` names the other pod."""
        if options.get("peer") is True:
            options["peer"] = self.peer.identity
        self.bench.rule(self.subject.identity, self.direction, **options)

    def tcp(self, dport: int = 80, sport: int = 1000) -> str:
        """Reason for which a SYN from a to b is dropped, or nothing."""
        sent = self.a.tcp(self.version, self.b, dport=dport, sport=sport)
        return self.bench.run("from_container", sent, ifindex=self.a.ifindex).drop


@pytest.fixture(params=[(d, v) for d in (INGRESS, EGRESS) for v in (4, 6)])
def side(request: pytest.FixtureRequest, closed: PacketBench, a: Any, b: Any) -> Side:
    """Both directions, both families."""
    direction, version = request.param
    return Side(closed, a, b, direction, version)


def test_nothing_is_allowed_by_no_entry(side: Side) -> None:
    """An empty map refuses."""
    assert side.tcp() == "POLICY"


def test_an_entry_for_anybody_allows_anybody(side: Side) -> None:
    """Peer 0 matches each identity."""
    side.rule()
    assert side.tcp() == ""


def test_an_entry_for_another_peer_does_not_help(side: Side) -> None:
    """Identity is matched exactly."""
    side.rule(peer=4242)
    assert side.tcp() == "POLICY"


def test_an_entry_of_the_other_direction_does_not_help(side: Side) -> None:
    """Ingress entries say nothing about egress, and the reverse."""
    side.bench.rule(side.subject.identity, 1 - side.direction)
    assert side.tcp() == "POLICY"


def test_ports_and_protocols_are_matched(side: Side) -> None:
    """TCP 80 is neither TCP 81 nor UDP 80."""
    side.rule(peer=True, proto=TCP_, port=80)
    assert [side.tcp(80), side.tcp(81)] == ["", "POLICY"]
    sent = side.a.udp(side.version, side.b, dport=80)
    assert side.bench.run("from_container", sent, ifindex=side.a.ifindex).drop == "POLICY"


def test_a_port_range_is_a_prefix(side: Side) -> None:
    """8000/13 bits covers 8000 to 8007, and no port beside them."""
    side.rule(proto=TCP_, port=8000, bits=8 + 13)
    assert [side.tcp(p) for p in (7999, 8000, 8007, 8008)] == ["POLICY", "", "", "POLICY"]


def test_deny_beats_allow_whatever_is_more_specific(side: Side) -> None:
    """A deny for anybody outranks an allow for the very peer and port."""
    side.rule(peer=True, proto=TCP_, port=80)
    side.rule(deny=True, proto=TCP_)
    assert side.tcp(80) == "POLICY_DENY"


def test_a_specific_deny_beats_a_wildcard_allow(side: Side) -> None:
    """One peer is refused, the rest stays allowed."""
    side.rule()
    side.rule(peer=True, deny=True)
    assert side.tcp() == "POLICY_DENY"


def test_a_deny_of_one_port_leaves_the_others(side: Side) -> None:
    """Deny on 80, allow for all: 81 passes."""
    side.rule(peer=True)
    side.rule(deny=True, proto=TCP_, port=80)
    assert [side.tcp(80), side.tcp(81)] == ["POLICY_DENY", ""]


def test_on_equal_precedence_the_longer_prefix_explains(side: Side) -> None:
    """Two allows: the verdict event names the one that says more about ports."""
    side.rule(peer=True, cookie=1)
    side.rule(proto=TCP_, port=80, cookie=2)
    assert side.tcp(80) == ""
    event = next(e for e in side.bench.events(5) if e.dir == side.direction)
    assert (event.cookie, event.match_type) == (2, 3)


def test_on_equal_prefixes_the_specific_peer_explains(side: Side) -> None:
    """Two allows of one port: the one that names the peer wins."""
    side.rule(peer=True, proto=TCP_, port=80, cookie=1)
    side.rule(proto=TCP_, port=80, cookie=2)
    assert side.tcp(80) == ""
    event = next(e for e in side.bench.events(5) if e.dir == side.direction)
    assert (event.cookie, event.match_type) == (1, 2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, 4),
        ({"peer": True}, 1),
        ({"proto": TCP_}, 6),
        ({"peer": True, "proto": TCP_}, 5),
        ({"proto": TCP_, "port": 80}, 3),
        ({"peer": True, "proto": TCP_, "port": 80}, 2),
    ],
)
def test_the_match_type_says_what_kind_of_entry_decided(
    side: Side, options: dict[str, Any], match: int
) -> None:
    """all, L3-Only, Proto-Only, L3-Proto, L4-Only, L3-L4."""
    side.rule(**options)
    assert side.tcp(80) == ""
    event = next(e for e in side.bench.events(5) if e.dir == side.direction)
    assert event.match_type == match


@FAMILIES
def test_icmp_rules_name_types(closed: PacketBench, a: Any, b: Any, version: int) -> None:
    """The type stands where other protocols have the port."""
    kind, proto = (8, 1) if version == 4 else (128, 58)
    closed.rule(a.identity, EGRESS, proto=proto, port=kind)
    closed.rule(b.identity, INGRESS, proto=proto, port=kind)
    packet = ICMP(type=8, id=9) if version == 4 else ICMPv6EchoRequest(id=9)
    done = closed.run("from_container", a.frame(version, b) / packet, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")
    other = ICMP(type=13) if version == 4 else ICMPv6EchoRequest(type=144)
    done = closed.run("from_container", a.frame(version, b) / other, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_every_protocol_meets_policy(closed: PacketBench, a: Any, b: Any, version: int) -> None:
    """TCP, UDP, SCTP and ICMP are refused alike when nothing allows them."""
    icmp = ICMP() if version == 4 else ICMPv6EchoRequest()
    for layer in (TCP(), SCTP(sport=1, dport=2), icmp):
        done = closed.run("from_container", a.frame(version, b) / layer, ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (SHOT, "POLICY")
    done = closed.run("from_container", a.udp(version, b), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_policy_belongs_to_the_identity_not_the_address(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Two endpoints of one identity share one set of entries."""
    closed.rule(b.identity, EGRESS)
    closed.rule(b.identity, INGRESS)
    closed.endpoint(a.id, a.ifindex, b.identity, a.ip4, a.ip6)
    done = closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")


@FAMILIES
def test_the_host_is_a_peer_like_others(closed: PacketBench, a: Any, version: int) -> None:
    """What this node's stack sends is judged as identity 1."""
    router = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}[version]
    sent = a.frame(version, a, source=router) / TCP(dport=80)
    assert closed.run("to_container", sent, ifindex=a.ifindex).drop == "POLICY"
    closed.rule(a.identity, INGRESS, peer=1)
    assert closed.run("to_container", sent, ifindex=a.ifindex).verdict == OK


@FAMILIES
def test_the_world_is_judged_by_the_longest_prefix(
    closed: PacketBench, a: Any, version: int
) -> None:
    """A CIDR identity inside the world gets its own rule."""
    cidr, inside, outside = {
        4: ("203.0.113.0/24", "203.0.113.7", "203.0.114.7"),
        6: ("2001:db8:113::/48", "2001:db8:113::7", "2001:db8:114::7"),
    }[version]
    closed.prefix(cidr, (1 << 24) + 1)
    closed.rule(a.identity, EGRESS, peer=(1 << 24) + 1)
    assert closed.run("from_container", a.tcp(version, inside), ifindex=a.ifindex).verdict == OK
    done = closed.run("from_container", a.tcp(version, outside), ifindex=a.ifindex)
    assert done.drop == "POLICY"


def test_a_link_local_address_is_the_node_not_the_world(closed: PacketBench, a: Any) -> None:
    """A rule for the world does not open the node's services on the pod's own link."""
    sent = a.tcp(6, "fe80::1")
    closed.rule(a.identity, EGRESS, peer=10)
    assert closed.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"
    closed.rule(a.identity, EGRESS, peer=1)
    done = closed.run("from_container", sent, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (OK, "")
    assert closed.events(4)[-1].reason == 2  # to-host


def audit(bench: PacketBench, endpoint: int) -> None:
    """Audit mode of an endpoint, or (0) of the node."""
    bench.maps["axo_policy_audit"].update(struct.pack("=I", endpoint), struct.pack("=I", 1))


@pytest.fixture
def audited(closed: PacketBench) -> PacketBench:
    """Nothing is allowed, and the node in audit mode."""
    audit(closed, 0)
    return closed


@FAMILIES
def test_audit_mode_of_one_endpoint(closed: PacketBench, a: Any, b: Any, version: int) -> None:
    """Its own refusals pass, on egress and on ingress; the other end's do not."""
    audit(closed, a.id)
    sent = a.tcp(version, b)
    assert closed.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"
    assert [(e.verdict, e.reason) for e in closed.events(5)] == [(2, 133), (0, 133)]
    audit(closed, b.id)
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == REDIRECT
    closed.maps["axo_policy_audit"].delete(struct.pack("=I", a.id))
    closed.runtime("POLICY_GEN", 9)
    assert closed.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"


@FAMILIES
def test_audit_mode_tells_and_lets_through(
    audited: PacketBench, a: Any, b: Any, version: int
) -> None:
    """What no rule allows passes with verdict 2 and its reason; what is invalid still drops."""
    done = audited.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")
    assert [(e.verdict, e.reason) for e in audited.events(5)] == [(2, 133), (2, 133)]
    forged = a.frame(version, b, source=b.ip(version)) / TCP()
    assert audited.run("from_container", forged, ifindex=a.ifindex).drop == "INVALID_SIP"


@FAMILIES
def test_an_audited_flow_is_asked_about_again(
    audited: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Each new generation asks about it, so the end of audit mode can end it."""
    for generation, told in ((1, 2), (1, 0), (2, 2)):
        audited.runtime("POLICY_GEN", generation)
        flags = "S" if generation == 1 and told else "A"
        done = audited.run("from_container", a.tcp(version, b, flags), ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (REDIRECT, "")
        assert [e.verdict for e in audited.events(5)] == [2] * told


def test_a_denial_without_a_rule_has_its_own_reason(side: Side) -> None:
    """An entry that answers for all rules, of which none allows, is no deny rule."""
    side.rule()
    side.rule(peer=True, deny=True, precedence=0xFFFFFF01)
    assert side.tcp() == "POLICY"
