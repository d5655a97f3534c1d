"""Packets through the device programs, both families: what goes in, what comes out."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from attrs import evolve
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPerror6,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.testing.packets import OK, REDIRECT, SHOT, Outcome, PacketBench
from axoneme.plugins.masquerade.compute import exempt_terms, key_type
from axoneme.plugins.masquerade.datapath import register_stages
from axoneme.plugins.masquerade.gc import NatCollector, NatTable
from axoneme.plugins.masquerade.rows import DeviceAddresses, DeviceKey, Direction, NatEntry

pytestmark = pytest.mark.root

FAMILIES = ("4", "6")
POD = {"4": "10.244.1.5", "6": "fd00:10:244:1::5"}
OTHER = {"4": "10.244.1.6", "6": "fd00:10:244:1::6"}
NODE = {"4": "172.18.0.2", "6": "fd00:18::2"}
PEER = {"4": "172.18.0.3", "6": "fd00:18::3"}
REMOTE_POD = {"4": "10.244.2.9", "6": "fd00:10:244:2::9"}
WORLD = {"4": "198.51.100.1", "6": "2001:db8:51::1"}
LO = 1


def load(**defines: int | str) -> PacketBench:
    """The device programs with masquerading."""
    registry = DatapathRegistry()
    for name in ("from_netdev", "to_netdev"):
        registry.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    register_stages(registry)
    for name, value in defines.items():
        registry.define(name, value)
    return PacketBench(registry, unit="netdev", sizes={"axo_nat4": 4096, "axo_nat6": 4096})


@pytest.fixture(scope="module")
def loaded() -> Iterator[PacketBench]:
    """Masquerading as in a tunnel, loaded once."""
    made = load()
    yield made
    made.close()


@pytest.fixture
def bench(loaded: PacketBench) -> PacketBench:
    """Two pods on this node, one on another, and the world."""
    loaded.reset()
    loaded.endpoint(7, 901, 1000, POD["4"], POD["6"])
    loaded.endpoint(8, 902, 1001, OTHER["4"], OTHER["6"])
    loaded.endpoint(0, 0, 1, NODE["4"], NODE["6"], flags=1)
    for family in FAMILIES:
        bits = 32 if family == "4" else 128
        loaded.prefix(f"{PEER[family]}/{bits}", 6)
        loaded.prefix(f"{REMOTE_POD[family]}/{bits}", 2000, PEER["4"])
    set_device(loaded)
    return loaded


def set_device(bench: PacketBench) -> None:
    """The addresses that stand for pods."""
    devices = TypedMap(bench.maps["axo_masq_dev"], DeviceKey, DeviceAddresses)
    devices[DeviceKey(LO)] = DeviceAddresses(ip_address(NODE["4"]), ip_address(NODE["6"]))


def nat(bench: PacketBench, family: str) -> TypedMap[Any, NatEntry]:
    """The NAT map of a family."""
    return TypedMap(bench.maps[f"axo_nat{family}"], key_type(int(family)), NatEntry)


def ip(family: str, src: str, dst: str, **fields: Any) -> Packet:
    """Ethernet and IP headers."""
    header = IP(src=src, dst=dst, **fields) if family == "4" else IPv6(src=src, dst=dst, **fields)
    return Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04") / header


def echo(family: str, src: str, dst: str, number: int, *, reply: bool = False) -> Packet:
    """An ICMP echo with an identifier."""
    if family == "4":
        return ip(family, src, dst) / ICMP(type=0 if reply else 8, id=number) / b"ping"
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    return ip(family, src, dst) / kind(id=number, data=b"ping")


def out(bench: PacketBench, packet: Packet, *, verdict: int = OK) -> Packet:
    """Send towards the network; the frame that leaves, its checksums checked."""
    return _run(bench, "to_netdev", packet, verdict)


def back(bench: PacketBench, packet: Packet, *, verdict: int | None = None) -> Packet:
    """Receive from the network."""
    return _run(bench, "from_netdev", packet, verdict)


def _run(bench: PacketBench, program: str, packet: Packet, verdict: int | None) -> Packet:
    result = bench.run(program, packet, ifindex=LO)
    if verdict is not None:
        assert result.verdict == verdict, result.drop
    frame = Ether(result.data)
    if result.verdict != SHOT:
        assert_checksums(frame)
    return frame


def dropped(bench: PacketBench, program: str, packet: Packet) -> str:
    """The reason for which a packet is dropped."""
    result: Outcome = bench.run(program, packet, ifindex=LO)
    assert result.verdict == SHOT
    return result.drop


def assert_checksums(frame: Packet) -> None:
    """Every checksum is what Scapy computes, quoted packets included."""
    fresh = Ether(bytes(frame))
    layer: Any = fresh
    later = (fresh.haslayer(IP) and fresh[IP].frag) or (
        fresh.haslayer(IPv6ExtHdrFragment) and fresh[IPv6ExtHdrFragment].offset
    )
    while layer:
        for field in ("chksum", "cksum"):
            quoted = isinstance(layer, TCPerror | UDPerror)
            if field in layer.fields and not quoted and not (later and not isinstance(layer, IP)):
                delattr(layer, field)
        layer = layer.payload
    assert bytes(Ether(bytes(fresh))) == bytes(frame)


def l3(frame: Packet) -> Any:
    """The outer IP header."""
    return frame[IP] if frame.haslayer(IP) else frame[IPv6]


def mappings(bench: PacketBench, family: str) -> dict[Any, NatEntry]:
    """The NAT table of a family."""
    return dict(nat(bench, family).items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("l4", [TCP, UDP])
def test_a_flow_to_the_world_goes_out_as_the_node_and_its_answer_finds_the_pod(
    bench: PacketBench, family: str, l4: Any
) -> None:
    """Source address becomes the node's, the port stays; the answer's destination is the pod."""
    sent = out(bench, ip(family, POD[family], WORLD[family]) / l4(sport=40000, dport=443) / b"hi!")
    assert (l3(sent).src, sent[l4].sport) == (NODE[family], 40000)
    assert len(mappings(bench, family)) == 2
    answer = ip(family, WORLD[family], NODE[family]) / l4(sport=443, dport=40000) / b"odd"
    got = back(bench, answer)
    assert (l3(got).dst, got[l4].dport) == (POD[family], 40000)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_goes_straight_to_the_pod(bench: PacketBench, family: str) -> None:
    """It is delivered by redirect, not by way of the stack."""
    out(bench, ip(family, POD[family], WORLD[family]) / TCP(sport=40000, dport=443))
    answer = ip(family, WORLD[family], NODE[family]) / TCP(sport=443, dport=40000, flags="SA")
    assert bench.run("from_netdev", answer, ifindex=LO).verdict in (REDIRECT, SHOT)
    assert bench.drops() == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_low_port_is_moved_into_the_range_and_back(bench: PacketBench, family: str) -> None:
    """Source port 1234 is not ours to take on the node: another one stands for it."""
    sent = out(bench, ip(family, POD[family], WORLD[family]) / UDP(sport=1234, dport=53) / b"odd")
    assert l3(sent).src == NODE[family]
    assert 32768 <= sent[UDP].sport <= 65535
    answer = ip(family, WORLD[family], NODE[family]) / UDP(sport=53, dport=sent[UDP].sport) / b"a"
    got = back(bench, answer)
    assert (l3(got).dst, got[UDP].dport) == (POD[family], 1234)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_pods_with_one_port_get_two_ports(bench: PacketBench, family: str) -> None:
    """The second flow to the same remote must not share the first one's mapping."""
    tail = TCP(sport=40000, dport=443)
    first = out(bench, ip(family, POD[family], WORLD[family]) / tail)
    second = out(bench, ip(family, OTHER[family], WORLD[family]) / tail)
    assert first[TCP].sport == 40000
    assert second[TCP].sport != 40000
    got = back(bench, ip(family, WORLD[family], NODE[family]) / TCP(sport=443,
               dport=second[TCP].sport))  # fmt: skip
    assert (l3(got).dst, got[TCP].dport) == (OTHER[family], 40000)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mapping_is_stable(bench: PacketBench, family: str) -> None:
    """Each packet of a flow takes the same port; no further entries are made."""
    packet = ip(family, POD[family], WORLD[family]) / UDP(sport=1234, dport=53) / b"x"
    ports = {out(bench, packet)[UDP].sport for _ in range(5)}
    assert len(ports) == 1
    assert len(mappings(bench, family)) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_echo_is_translated_by_its_identifier(bench: PacketBench, family: str) -> None:
    """Two pods ping with one identifier: two identifiers leave, both replies find their pod."""
    kind: Any = ICMP if family == "4" else ICMPv6EchoRequest
    first = out(bench, echo(family, POD[family], WORLD[family], 77))
    second = out(bench, echo(family, OTHER[family], WORLD[family], 77))
    assert first[kind].id == 77
    assert second[kind].id != 77
    got = back(bench, echo(family, WORLD[family], NODE[family], second[kind].id, reply=True))
    reply: Any = ICMP if family == "4" else ICMPv6EchoReply
    assert (l3(got).dst, got[reply].id) == (OTHER[family], 77)


def quote(family: str, src: str, dst: str, l4: Packet, router: str, to: str, **mtu: int) -> Packet:
    """An ICMP error from ``router`` to ``to`` about a packet from ``src`` to ``dst``."""
    inner = bytes(ip(family, src, dst) / l4 / b"some payload")[14:]
    error: Any
    if family == "4":
        error = ICMP(type=3, code=4, nexthopmtu=1400) if mtu else ICMP(type=3, code=3)
    else:
        error = ICMPv6PacketTooBig(mtu=1400) if mtu else ICMPv6DestUnreach(code=4)
    return Ether(bytes(ip(family, router, to) / error / Raw(inner)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("l4", [TCP, UDP])
def test_path_mtu_messages_reach_the_pod(bench: PacketBench, family: str, l4: Any) -> None:
    """An error about the node's packet becomes one about the pod's: quote, ports, checksums."""
    sent = out(bench, ip(family, POD[family], WORLD[family]) / l4(sport=1234, dport=443) / b"x")
    port = sent[l4].sport
    error = quote(family, NODE[family], WORLD[family], l4(sport=port, dport=443), "203.0.113.9"
                  if family == "4" else "2001:db8::9", NODE[family], mtu=1400)  # fmt: skip
    got = back(bench, error)
    assert l3(got).dst == POD[family]
    inner: Any = got[IPerror if family == "4" else IPerror6]
    assert (inner.src, inner.dst) == (POD[family], WORLD[family])
    l4_error: Any = got[TCPerror if l4 is TCP else UDPerror]
    assert (l4_error.sport, l4_error.dport) == (1234, 443)
    expected = bytes(ip(family, POD[family], WORLD[family]) / l4(sport=1234, dport=443)
                     / b"some payload")[14:]  # fmt: skip
    header = 20 if family == "4" else 40
    assert bytes(inner)[header:] == expected[header:], "quoted L4, its checksum included"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_about_an_echo_reaches_the_pod(bench: PacketBench, family: str) -> None:
    """Traceroute by ping: the quoted identifier is the pod's again."""
    out(bench, echo(family, OTHER[family], WORLD[family], 77))
    kind: Any = ICMP if family == "4" else ICMPv6EchoRequest
    number = out(bench, echo(family, POD[family], WORLD[family], 77))[kind].id
    l4 = ICMP(type=8, id=number) if family == "4" else ICMPv6EchoRequest(id=number)
    error = quote(family, NODE[family], WORLD[family], l4, WORLD[family], NODE[family])
    got = back(bench, error)
    assert l3(got).dst == POD[family]
    assert struct.pack("!H", 77) in bytes(got)[-40:]


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_of_a_pod_name_the_node(bench: PacketBench, family: str) -> None:
    """A pod refuses an answer (port unreachable): the world sees its own packet quoted."""
    sent = out(bench, ip(family, POD[family], WORLD[family]) / UDP(sport=1234, dport=53) / b"x")
    error = quote(family, WORLD[family], POD[family], UDP(sport=53, dport=1234), POD[family],
                  WORLD[family])  # fmt: skip
    got = out(bench, error)
    assert l3(got).src == NODE[family]
    inner: Any = got[IPerror if family == "4" else IPerror6]
    assert (inner.dst, got[UDPerror].dport) == (NODE[family], sent[UDP].sport)


@pytest.mark.parametrize("family", FAMILIES)
def test_pods_of_the_cluster_see_the_pods_address(bench: PacketBench, family: str) -> None:
    """A destination that the ipcache knows on another node is never masqueraded."""
    packet = ip(family, POD[family], REMOTE_POD[family]) / TCP(sport=40000, dport=80)
    assert bytes(out(bench, packet)) == bytes(Ether(bytes(packet)))
    assert not mappings(bench, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_nodes_see_the_node_in_a_tunnel(bench: PacketBench, family: str) -> None:
    """Without a route back to the pod, another node needs the node's address."""
    sent = out(bench, ip(family, POD[family], PEER[family]) / TCP(sport=40000, dport=80))
    assert l3(sent).src == NODE[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_marked_as_done_is_not_looked_at_again(bench: PacketBench, family: str) -> None:
    """A program saw on the packet's way out that it keeps its address (``AXO_MARK_KEEPS``)."""
    packet = ip(family, POD[family], WORLD[family]) / TCP(sport=40000, dport=443)
    done = bench.run("to_netdev", packet, ifindex=LO, mark=0x300)
    assert (done.verdict, done.data) == (OK, bytes(Ether(bytes(packet))))
    assert not mappings(bench, family)
    done = bench.run("to_netdev", packet, ifindex=LO, mark=0x500)
    assert done.data != bytes(Ether(bytes(packet)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_nodes_own_packets_are_left_alone(bench: PacketBench, family: str) -> None:
    """No mapping, no change."""
    packet = ip(family, NODE[family], WORLD[family]) / TCP(sport=40000, dport=443)
    assert bytes(out(bench, packet)) == bytes(Ether(bytes(packet)))
    assert not mappings(bench, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_node_gives_way_to_a_pod_that_was_first(bench: PacketBench, family: str) -> None:
    """The node's flow on a taken port leaves by another one, and both answers come right."""
    out(bench, ip(family, POD[family], WORLD[family]) / UDP(sport=40000, dport=53) / b"x")
    own = out(bench, ip(family, NODE[family], WORLD[family]) / UDP(sport=40000, dport=53) / b"y")
    assert l3(own).src == NODE[family]
    assert own[UDP].sport != 40000
    answer = ip(family, WORLD[family], NODE[family])
    mine = back(bench, answer / UDP(sport=53, dport=own[UDP].sport) / b"a")
    pods = back(bench, answer / UDP(sport=53, dport=40000) / b"a")
    assert (l3(mine).dst, mine[UDP].dport) == (NODE[family], 40000)
    assert (l3(pods).dst, pods[UDP].dport) == (POD[family], 40000)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_with_a_socket_of_the_node_is_not_taken(bench: PacketBench, family: str) -> None:
    """A pod's flow avoids ports that the node listens on."""
    kind = socket.AF_INET if family == "4" else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as held:
        held.bind(("0.0.0.0" if family == "4" else "::", 0))
        port = held.getsockname()[1]
        if port < 32768:
            pytest.fail("the kernel gives ephemeral ports below the NAT range")
        sent = out(bench, ip(family, POD[family], WORLD[family]) / UDP(sport=port, dport=53))
    assert sent[UDP].sport != port


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_follow_their_first(bench: PacketBench, family: str) -> None:
    """Later fragments have no ports: they take the first one's mapping, both ways."""

    def parts(src: str, dst: str, sport: int, dport: int) -> list[Packet]:
        if family == "4":
            whole = ip("4", src, dst, id=99) / UDP(sport=sport, dport=dport) / (b"z" * 64)
            data = bytes(Ether(bytes(whole))[UDP])
            head = ip("4", src, dst, id=99, flags="MF", proto=17) / Raw(data[:40])
            tail = ip("4", src, dst, id=99, frag=5, proto=17) / Raw(data[40:])
            return [Ether(bytes(head)), Ether(bytes(tail))]
        whole = ip("6", src, dst) / UDP(sport=sport, dport=dport) / (b"z" * 64)
        data = bytes(Ether(bytes(whole))[UDP])
        return [
            Ether(
                bytes(ip("6", src, dst) / IPv6ExtHdrFragment(nh=17, id=99, m=m, offset=o) / Raw(d))
            )
            for m, o, d in ((1, 0, data[:40]), (0, 5, data[40:]))
        ]

    first, second = (
        Ether(bench.run("to_netdev", p, ifindex=LO).data)
        for p in parts(POD[family], WORLD[family], 1234, 53)
    )
    assert l3(first).src == l3(second).src == NODE[family]
    payload = bytes(l3(first).payload)[(0 if family == "4" else 8) :]
    port = struct.unpack("!H", payload[:2])[0]
    assert port >= 32768
    whole = ip(family, NODE[family], WORLD[family]) / UDP(sport=port, dport=53) / (b"z" * 64)
    assert payload[:8] == bytes(Ether(bytes(whole))[UDP])[:8], "checksum over the whole datagram"
    for part in parts(WORLD[family], NODE[family], 53, port):
        got = Ether(bench.run("from_netdev", part, ifindex=LO).data)
        assert l3(got).dst == POD[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_protocol_without_ports_is_refused(bench: PacketBench, family: str) -> None:
    """SCTP's checksum covers its ports and is not ours to compute."""
    proto = {"proto": 132} if family == "4" else {"nh": 132}
    packet = ip(family, POD[family], WORLD[family], **proto) / Raw(b"\x9c\x40\x00\x50" + bytes(12))
    assert dropped(bench, "to_netdev", packet) == "NAT_UNSUPP_PROTO"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forged_local_source_from_the_network_is_dropped(bench: PacketBench, family: str) -> None:
    """A pod of this node never speaks from out there, to whomever."""
    for target in (OTHER, NODE, PEER):
        packet = ip(family, POD[family], target[family]) / UDP(sport=1, dport=2)
        assert dropped(bench, "from_netdev", packet) == "INVALID_SIP"


@pytest.mark.parametrize("family", FAMILIES)
def test_unrelated_packets_pass_untouched(bench: PacketBench, family: str) -> None:
    """What is for the node, or through it, is none of our business."""
    for packet in (
        ip(family, WORLD[family], NODE[family]) / TCP(sport=443, dport=50000),
        ip(family, WORLD[family], PEER[family]) / UDP(sport=443, dport=50000) / b"x",
        ip(family, WORLD[family], NODE[family]) / Raw(b""),
    ):
        assert bytes(back(bench, packet, verdict=OK)) == bytes(Ether(bytes(packet)))


def test_neighbour_discovery_passes(bench: PacketBench) -> None:
    """The node's own IPv6 life goes on."""
    ask = ip("6", NODE["6"], "ff02::1:ff00:3", hlim=255) / ICMPv6ND_NS(tgt=PEER["6"])
    packet = ask / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:03")
    assert bytes(out(bench, packet)) == bytes(Ether(bytes(packet)))
    assert bytes(back(bench, packet, verdict=OK)) == bytes(Ether(bytes(packet)))


def test_zero_udp_checksum_stays_zero(bench: PacketBench) -> None:
    """IPv4 UDP without a checksum gets none (RFC 768)."""
    packet = ip("4", POD["4"], WORLD["4"]) / UDP(sport=40000, dport=53, chksum=0) / b"x"
    result = bench.run("to_netdev", packet, ifindex=LO)
    assert Ether(result.data)[UDP].chksum == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reset_ends_both_sides_soon(bench: PacketBench, family: str) -> None:
    """After RST both entries live ten seconds more, not two hours."""
    flow = ip(family, POD[family], WORLD[family])
    out(bench, flow / TCP(sport=40000, dport=443, flags="S"))
    out(bench, flow / TCP(sport=40000, dport=443, flags="A"))
    longest = max(e.expires - e.created for e in mappings(bench, family).values())
    assert longest == 8000
    back(bench, ip(family, WORLD[family], NODE[family]) / TCP(sport=443, dport=40000, flags="R"))
    assert all(e.expires - e.created <= 12 for e in mappings(bench, family).values())


@pytest.fixture(scope="module")
def narrow() -> Iterator[PacketBench]:
    """The same programs with a range of two ports, and a native network that is exempt."""

    made = load(
        AXO_NAT_PORT_MIN=40000,
        AXO_NAT_PORT_MAX=40001,
        AXO_MASQ_REMOTE_NODES=0,
        AXO_MASQ_EXEMPT4=exempt_terms([ip_network("10.0.0.0/8")]),
        AXO_MASQ_EXEMPT6=exempt_terms([ip_network("fd00:10::/32")]),
    )
    for number in range(5, 9):
        made.endpoint(number, 900 + number, 1000, numbered("4", number), numbered("6", number))
    made.prefix(f"{PEER['4']}/32", 6)
    made.prefix(f"{PEER['6']}/128", 6)
    set_device(made)
    yield made
    made.close()


def numbered(family: str, number: int) -> str:
    """Address of the n-th pod of the narrow bench."""
    return f"10.244.1.{number}" if family == "4" else f"fd00:10:244:1::{number}"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_free_port_is_a_counted_drop_until_a_flow_has_ended(
    narrow: PacketBench, family: str
) -> None:
    """Ports are never stolen from living flows; the port of a dead one is taken over."""
    flows = [
        ip(family, numbered(family, n), WORLD[family]) / UDP(sport=40000, dport=53)
        for n in (5, 6, 7)
    ]
    taken = {out(narrow, f)[UDP].sport for f in flows[:2]}
    assert taken == {40000, 40001}
    assert dropped(narrow, "to_netdev", flows[2]) == "NAT_NO_MAPPING"
    table = nat(narrow, family)
    for key, entry in list(table.items()):
        table[key] = evolve(entry, expires=entry.created - 1, created=entry.created - 100)
    assert out(narrow, flows[2])[UDP].sport in taken


@pytest.mark.parametrize("family", FAMILIES)
def test_native_networks_see_the_pods_address(narrow: PacketBench, family: str) -> None:
    """Destinations inside a native-routing CIDR, and nodes in native mode, are exempt."""
    inside = {"4": "10.99.0.1", "6": "fd00:10:99::1"}[family]
    for to in (inside, PEER[family]):
        packet = ip(family, numbered(family, 8), to) / UDP(sport=40000, dport=5353) / b"x"
        assert bytes(out(narrow, packet)) == bytes(Ether(bytes(packet)))


@pytest.mark.parametrize("family", FAMILIES)
def test_garbage_collection_takes_what_the_programs_left(bench: PacketBench, family: str) -> None:
    """A real table: the living stay, a pair past its time goes whole."""
    for port in (40000, 41000):
        out(bench, ip(family, POD[family], WORLD[family]) / UDP(sport=port, dport=53) / b"x")
    table = nat(bench, family)
    for key, entry in list(table.items()):
        if 40000 in (key.sport, key.dport):
            table[key] = evolve(entry, expires=1)
    collector = NatCollector({int(family): NatTable(table)})
    assert collector.run() == 2
    assert collector.scanned == {int(family): 4}
    assert {k.sport for k, _ in table.items()} == {41000, 53}


def age(bench: PacketBench, family: str) -> None:
    """Some seconds pass for every mapping."""
    table = nat(bench, family)
    for key, entry in list(table.items()):
        table[key] = evolve(entry, expires=entry.expires - 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mapping_that_lost_its_answers_to_another_gets_a_new_port(
    bench: PacketBench, family: str
) -> None:
    """The half that the LRU forgot was taken meanwhile: answers never reach the wrong pod."""
    first = ip(family, POD[family], WORLD[family]) / UDP(sport=40000, dport=514) / b"x"
    second = ip(family, OTHER[family], WORLD[family]) / UDP(sport=40000, dport=514) / b"x"
    out(bench, first)
    table = nat(bench, family)
    table.delete_batch([k for k, _ in table.items() if k.dir == Direction.IN])
    assert out(bench, second)[UDP].sport == 40000
    age(bench, family)
    port = out(bench, first)[UDP].sport
    assert port != 40000
    for number, pod in ((40000, OTHER), (port, POD)):
        answer = ip(family, WORLD[family], NODE[family]) / UDP(sport=514, dport=number) / b"y"
        got = back(bench, answer)
        assert (l3(got).dst, got[UDP].dport) == (pod[family], 40000)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mapping_that_lost_its_answers_gets_them_back(bench: PacketBench, family: str) -> None:
    """Nobody has taken the port: the flow goes on under it."""
    packet = ip(family, POD[family], WORLD[family]) / TCP(sport=1234, dport=443, flags="A")
    port = out(bench, packet)[TCP].sport
    table = nat(bench, family)
    table.delete_batch([k for k, _ in table.items() if k.dir == Direction.IN])
    age(bench, family)
    assert out(bench, packet)[TCP].sport == port
    answer = ip(family, WORLD[family], NODE[family]) / TCP(sport=443, dport=port, flags="A")
    got = back(bench, answer)
    assert (l3(got).dst, got[TCP].dport) == (POD[family], 1234)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pods_error_without_a_mapping_stays_here(bench: PacketBench, family: str) -> None:
    """It would show the pod's address to the world; pods of the cluster may see it."""
    l4 = UDP(sport=53, dport=1234)
    error = quote(family, WORLD[family], POD[family], l4, POD[family], WORLD[family])
    assert dropped(bench, "to_netdev", error) == "NAT_NO_MAPPING"
    error = quote(family, REMOTE_POD[family], POD[family], l4, POD[family], REMOTE_POD[family])
    assert bytes(out(bench, error)) == bytes(Ether(bytes(error)))
    error = quote(family, WORLD[family], NODE[family], l4, NODE[family], WORLD[family])
    assert bytes(out(bench, error)) == bytes(Ether(bytes(error)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pods_error_to_who_reached_it_directly_leaves(bench: PacketBench, family: str) -> None:
    """Whoever has the pod's address already gets its errors under that address."""
    asks = ip(family, WORLD[family], POD[family]) / UDP(sport=53, dport=1234) / b"x"
    assert bench.run("from_netdev", asks, ifindex=LO).verdict == REDIRECT
    l4 = UDP(sport=53, dport=1234)
    error = quote(family, WORLD[family], POD[family], l4, POD[family], WORLD[family])
    assert bytes(out(bench, error)) == bytes(Ether(bytes(error)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_nodes_address_from_the_network_reaches_no_pod(bench: PacketBench, family: str) -> None:
    """Conntrack would take it for the node that the pod talks with."""
    packet = ip(family, NODE[family], POD[family]) / UDP(sport=53, dport=1234) / b"x"
    assert dropped(bench, "from_netdev", packet) == "INVALID_SIP"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["network", "pod"])
def test_an_address_that_is_to_be_kept_is_kept(bench: PacketBench, family: str, how: str) -> None:
    """By ip-masq-agent's file, or by the pod's annotation; others take the node's."""
    from axoneme.core.datapath.typed import prefix_bits
    from axoneme.plugins.masquerade.ipmasq import IpmasqKey, Keeps
    from axoneme.plugins.masquerade.skip import PodKey

    with load(AXO_MASQ_AGENT=1) as agent:
        agent.endpoint(7, 901, 1000, POD["4"], POD["6"])
        agent.endpoint(8, 902, 1001, OTHER["4"], OTHER["6"])
        agent.endpoint(0, 0, 1, NODE["4"], NODE["6"], flags=1)
        set_device(agent)
        if how == "network":
            near = ip_network(f"{WORLD[family]}/{24 if family == '4' else 48}", strict=False)
            networks: TypedMap[Any, Any] = TypedMap(agent.maps["axo_ipmasq"], IpmasqKey, Keeps)
            networks[IpmasqKey(prefix_bits(near), near.network_address)] = Keeps()
        else:
            pods: TypedMap[Any, Any] = TypedMap(agent.maps["axo_masq_skip"], PodKey, Keeps)
            pods[PodKey(ip_address(POD[family]))] = Keeps()
        for sender, wanted in ((POD, POD), (OTHER, OTHER if how == "network" else NODE)):
            packet = ip(family, sender[family], WORLD[family]) / UDP(sport=40000, dport=53)
            done = Ether(agent.run("to_netdev", packet, ifindex=LO).data)
            assert done.payload.src == wanted[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_device_may_leave_pods_their_address(bench: PacketBench, family: str) -> None:
    """Key egress-masquerade-interfaces; a flow that began before goes on as it was."""
    devices = TypedMap(bench.maps["axo_masq_dev"], DeviceKey, DeviceAddresses)
    known = ip(family, POD[family], WORLD[family]) / TCP(sport=40000, dport=80, flags="S")
    layer = IP if family == "4" else IPv6
    assert out(bench, known)[layer].src == NODE[family]
    devices[DeviceKey(LO)] = DeviceAddresses(ip_address(NODE["4"]), ip_address(NODE["6"]), 1)
    fresh = ip(family, POD[family], WORLD[family]) / TCP(sport=40001, dport=80, flags="S")
    assert out(bench, fresh)[layer].src == POD[family]
    assert out(bench, known)[layer].src == NODE[family]
