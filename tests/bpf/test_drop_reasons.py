"""Every reason that the container programs and the core's stages can drop for, one packet each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot3, Ether
from scapy.packet import Raw

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packet_models import PolicyKey, PolicyValue
from axoneme.core.testing.packets import EGRESS, SHOT, PacketBench

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]

UNREACHABLE = {"CT_NO_MAP_FOUND", "WRITE_ERROR"}
"""Asked of every helper that the verifier makes us ask, never seen: no test can provoke them."""

ELSEWHERE = {"VLAN_FILTERED", "NO_SERVICE"}
"""Provoked in ``test_entry.py`` and ``tests/services``."""

STAGES_ONLY = {
    "drop_reasons.h", "checksum.h", "forward.h", "fib.h", "icmp_answer.h", "nat.h", "nat_alloc.h",
    "neighbour.h", "rewrite.h", "tunnel.h",
}  # fmt: skip
"""Headers that stages of plugins alone use; their reasons are provoked in those plugins' tests."""

Make = Callable[[Any, Any], Any]

PACKETS: dict[str, list[Make]] = {
    "UNKNOWN_L3": [
        lambda a, b: Ether(src=a.mac, dst=a.host_mac, type=0x88CC) / Raw(b"x" * 60),
        lambda a, b: Dot3(src=a.mac, dst=a.host_mac) / Raw(b"x" * 60),
    ],
    "INVALID": [
        lambda a, b: bytes(a.frame(4, b))[:14] + b"\x65" + bytes(39),
        lambda a, b: a.frame(4, b, ihl=4) / Raw(b"x" * 40),
        lambda a, b: a.frame(6, "::ffff:10.244.1.12") / UDP(),
        lambda a, b: a.frame(6, b, source="::ffff:10.244.1.11") / UDP(),
        lambda a, b: a.frame(6, b, nh=60) / Raw(b"\x11\x01"),
    ],
    "CT_INVALID_HDR": [
        lambda a, b: a.frame(4, b, proto=6) / Raw(b"x" * 13),
        lambda a, b: a.frame(6, b, nh=6) / Raw(b"x" * 13),
        lambda a, b: a.frame(4, b, proto=17) / Raw(b"x" * 3),
        lambda a, b: a.frame(6, b, nh=17) / Raw(b"x" * 3),
        lambda a, b: a.frame(4, b, proto=1) / Raw(b"\x08" * 7),
        lambda a, b: a.frame(4, b) / ICMP(type=3, code=1) / Raw(b"short"),
    ],
    "CT_UNKNOWN_PROTO": [
        lambda a, b: a.frame(4, b, proto=47) / Raw(b"x" * 20),
        lambda a, b: a.frame(6, b, nh=47) / Raw(b"x" * 20),
        lambda a, b: a.frame(6, b, nh=59),
        lambda a, b: a.frame(4, b, proto=58) / Raw(b"x" * 20),
        lambda a, b: a.frame(6, b, nh=1) / Raw(b"x" * 20),
        lambda a, b: a.frame(4, b, proto=2) / Raw(b"x" * 20),
    ],
    "INVALID_EXTHDR": [
        lambda a, b: _stack(a.frame(6, b), [IPv6ExtHdrDestOpt() for _ in range(7)]) / UDP(),
        lambda a, b: (
            a.frame(6, b) / IPv6ExtHdrFragment(id=1, m=1) / IPv6ExtHdrFragment(id=2, m=1) / UDP()
        ),
    ],
    "INVALID_SIP": [
        lambda a, b: a.frame(4, b, source="10.244.1.99") / UDP(),
        lambda a, b: a.frame(6, b, source="fd00::99") / UDP(),
    ],
    "FRAG_NOT_FOUND": [
        lambda a, b: a.frame(4, b, id=77, frag=10, proto=17) / Raw(b"x" * 16),
        lambda a, b: a.frame(6, b) / IPv6ExtHdrFragment(id=77, offset=10, nh=17) / Raw(b"x" * 16),
    ],
    "FORBIDDEN_ICMP6": [
        lambda a, b: a.frame(6, "ff02::1", source="fe80::1", ttl=255) / ICMPv6ND_RA(),
        lambda a, b: a.frame(6, b, source="fe80::1", ttl=255) / ICMPv6ND_Redirect(),
    ],
    "UNROUTABLE": [
        lambda a, b: a.tcp(4, "127.0.0.1"),
        lambda a, b: a.tcp(6, "::1"),
    ],
}


def _stack(packet: Any, layers: list[Any]) -> Any:
    for layer in layers:
        packet = packet / layer
    return packet


CASES = [(reason, number) for reason, makes in PACKETS.items() for number in range(len(makes))]


@pytest.mark.parametrize(("reason", "number"), CASES)
def test_a_packet_is_dropped_for_its_reason(
    bench: PacketBench, a: Any, b: Any, reason: str, number: int
) -> None:
    """The verdict, the counter and the event all say it, with both ends of the story."""
    before = bench.drops()
    done = bench.run("from_container", PACKETS[reason][number](a, b), ifindex=a.ifindex)
    code = bench.drop_reasons.by_name[reason]
    assert (done.verdict, done.drop) == (SHOT, reason)
    assert bench.drops()[code] == before.get(code, 0) + 1
    [event] = bench.events(1)
    assert (event.reason, event.dir, event.ep_id) == (code, 1, a.id)
    assert (event.src_identity, event.ifindex) == (a.identity, a.ifindex)


@pytest.mark.parametrize("version", [4, 6])
def test_who_is_unknown_cannot_send(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """UNKNOWN_SENDER: no endpoint behind the device, whatever the address says."""
    done = bench.run("from_container", a.tcp(version, b), ifindex=1)
    assert (done.verdict, done.drop) == (SHOT, "UNKNOWN_SENDER")


@pytest.mark.parametrize("version", [4, 6])
def test_who_is_unknown_cannot_receive(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """UNKNOWN_TARGET: no endpoint behind the device that the stack sends to."""
    done = bench.run("to_container", a.tcp(version, b), ifindex=1)
    assert (done.verdict, done.drop) == (SHOT, "UNKNOWN_TARGET")


@pytest.mark.parametrize("version", [4, 6])
def test_an_endpoint_without_policy_is_not_ready(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """EP_NOT_READY: until its identity has entries, nothing leaves and nothing enters."""
    bench.endpoint(b.id, b.ifindex, 4711, b.ip4, b.ip6)
    into = bench.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    out = bench.run("from_container", b.tcp(version, a), ifindex=b.ifindex)
    assert [into.drop, out.drop] == ["EP_NOT_READY", "EP_NOT_READY"]


def test_neighbour_discovery_does_not_come_from_afar(bench: PacketBench, a: Any) -> None:
    """FORBIDDEN_ICMP6: what another device brought in cannot speak for a pod's link."""
    sent = Ether(dst=a.mac) / IPv6(src="fe80::1", dst=a.ip6, hlim=255) / ICMPv6ND_NA()
    done = bench.run("to_container", sent, ifindex=a.ifindex, ingress_ifindex=1)
    assert (done.verdict, done.drop) == (SHOT, "FORBIDDEN_ICMP6")


@pytest.mark.parametrize("version", [4, 6])
def test_no_rule_and_a_deny_rule_are_told_apart(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """POLICY when nothing allows it, POLICY_DENY when something forbids it."""
    assert closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex).drop == "POLICY"
    closed.rule(a.identity, 1, deny=True, cookie=5)
    done = closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    assert done.drop == "POLICY_DENY"
    assert closed.events(1)[-1].cookie == 5


@pytest.fixture(scope="module")
def crippled(
    compile_cache: Path, registry_of: Callable[..., DatapathRegistry]
) -> Iterator[PacketBench]:
    """No fragment tracking, and conntrack in a plain hash of one entry."""

    def edit(text: str) -> str:
        return "#define AXO_FRAG4_TRACKING 0\n#define AXO_FRAG6_TRACKING 0\n" + re.sub(
            r'BPF_TABLE\("lru_hash", (struct axo_ct[46]_key)', r'BPF_TABLE("hash", \1', text
        )

    sizes = dict.fromkeys(("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6"), 1)
    registry = registry_of()
    with PacketBench(registry, cache_dir=compile_cache, sizes=sizes, edit=edit) as bench:
        yield bench


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_are_refused_when_not_tracked(
    crippled: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any, version: int
) -> None:
    """FRAG_NOSUPPORT, for first and later fragments alike."""
    populate(crippled, a, b)
    if version == 4:
        first = a.frame(4, b, flags="MF", id=5) / UDP(sport=1, dport=2) / Raw(b"x" * 16)
        later = a.frame(4, b, id=5, frag=3, proto=17) / Raw(b"x" * 16)
    else:
        first = a.frame(6, b) / IPv6ExtHdrFragment(m=1, id=5) / UDP(dport=2) / Raw(b"x" * 16)
        later = a.frame(6, b) / IPv6ExtHdrFragment(offset=3, id=5, nh=17) / Raw(b"x" * 16)
    drops = [
        crippled.run("from_container", packet, ifindex=a.ifindex).drop for packet in (first, later)
    ]
    assert drops == ["FRAG_NOSUPPORT", "FRAG_NOSUPPORT"]


@pytest.mark.parametrize("version", [4, 6])
def test_a_flow_that_cannot_be_noted_is_not_let_through(
    crippled: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any, version: int
) -> None:
    """CT_CREATE_FAILED: without an entry its answers would be refused, so it does not start."""
    populate(crippled, a, b)
    drops = [
        crippled.run("from_container", a.tcp(version, b, sport=port), ifindex=a.ifindex).drop
        for port in (1000, 1001)
    ]
    assert drops == ["", "CT_CREATE_FAILED"]


@pytest.mark.parametrize("version", [4, 6])
def test_what_a_proxy_must_see_is_dropped_without_one(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """PROXY_LOOKUP_FAILED: no plugin takes the packet to the proxy that policy names."""
    value = PolicyValue(precedence=134, cookie=7, proxy_port=10053, deny=0, prefix_len=24)
    closed.subject(a.identity)[PolicyKey(64, 0, EGRESS, 17, 53)] = value
    sent = a.udp(version, b)
    for _ in range(2):  # the second packet of the flow as well
        done = closed.run("from_container", sent, ifindex=a.ifindex)
        assert done.drop == "PROXY_LOOKUP_FAILED"


def test_no_reason_is_without_a_test() -> None:
    """The sources name no reason that this file does not provoke."""
    sources = [
        *(ROOT / "bpf/include/axo").glob("*.h"),
        ROOT / "bpf/programs/container.bpf.c",
        *(ROOT / "plugins" / p / f"{p}.bpf.c" for p in ("policy", "responder", "source_check")),
    ]
    used = {
        name
        for path in sources
        if path.name not in STAGES_ONLY
        for name in re.findall(r"-AXO_DROP_(\w+)\b", path.read_text())
        if name.isupper()
    }
    tested = set(re.findall(r"\b[A-Z][A-Z0-9_]{5,}\b", Path(__file__).read_text()))
    assert used - tested == set()
    assert {"POLICY", "UNKNOWN_L3", "INVALID_SIP"} <= used


def test_ip_options_are_walked_over(bench: PacketBench, a: Any, b: Any) -> None:
    """IPv4 options move the L4 header, they do not hide it."""
    from scapy.layers.inet import IPOption_NOP

    sent = a.frame(4, b, options=[IPOption_NOP()] * 8) / TCP(sport=5, dport=81, flags="S")
    bench.run("from_container", sent, ifindex=a.ifindex)
    assert bench.events(5)[0].dport == 81
    assert sent[IP].options


def test_extension_headers_are_walked_over(bench: PacketBench, a: Any, b: Any) -> None:
    """Up to six extension headers move the L4 header, they do not hide it."""
    from scapy.layers.inet6 import IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
    from scapy.layers.ipsec import AH

    layers = [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrRouting(addresses=[]),
        AH(nh=60, payloadlen=4, icv=b"x" * 12),
        IPv6ExtHdrDestOpt(),
    ]
    sent = _stack(a.frame(6, b), layers) / TCP(sport=5, dport=81, flags="S")
    done = bench.run("from_container", sent, ifindex=a.ifindex)
    assert done.drop == ""
    assert bench.events(5)[0].dport == 81
