"""Services for outsiders at the device: local backends, SNAT, DSR, refusals; native and tunnel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    IPerror6,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.model.balancing import Flag, Kind
from axoneme.core.testing.packets import OK, REDIRECT, SHOT, PacketBench
from axoneme.plugins.masquerade.datapath import register_stages as register_masquerade
from axoneme.plugins.nodeport.datapath import register as register_nodeport
from axoneme.plugins.services import datapath as services
from tests.services.kit import (
    FAMILIES,
    SIZES,
    Balancer,
    backend,
    ends,
    network,
    options_of,
    service,
    sums_are_right,
)

pytestmark = pytest.mark.root

LO = 1
NODE = {4: "172.18.0.2", 6: "fd00:18::2"}
ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
PEER = {4: "172.18.0.3", 6: "fd00:18::3"}
POD = {4: "10.244.1.5", 6: "fd00:10:244:1::5"}
FAR = {4: "10.244.2.9", 6: "fd00:10:244:2::9"}
CLIENT = {4: "198.51.100.1", 6: "2001:db8:51::1"}
VIP = {4: "192.0.2.10", 6: "2001:db8:2::10"}
"""Replies need a route: the bench runs where loopback has the default one."""


@pytest.fixture(scope="module")
def registry() -> DatapathRegistry:
    """The device programs with source NAT and services."""
    made = DatapathRegistry()
    for name in ("from_netdev", "to_netdev"):
        made.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    services.register(made, options_of())
    register_masquerade(made)
    register_nodeport(made)
    made.map_sizes.clear()
    return made


@pytest.fixture(scope="module")
def loaded(registry: DatapathRegistry) -> Iterator[PacketBench]:
    """Loaded once."""
    with PacketBench(registry, unit="netdev", sizes=SIZES) as bench:
        yield bench


@pytest.fixture
def lb(loaded: PacketBench, registry: DatapathRegistry) -> Balancer:
    """A pod on this node, one on another, and nobody's services."""
    loaded.reset()
    loaded.endpoint(7, 901, 1000, POD[4], POD[6])
    loaded.endpoint(0, 0, 1, NODE[4], NODE[6], flags=1)
    loaded.endpoint(0, 0, 1, ROUTER[4], ROUTER[6], flags=1)
    for version in FAMILIES:
        bits = 32 if version == 4 else 128
        loaded.prefix(f"{PEER[version]}/{bits}", 6, PEER[version], flags=1)
        loaded.prefix(f"{FAR[version]}/{bits}", 2000, PEER[4])
    loaded.runtime("NODE_V4", ip_address(NODE[4]).packed)
    loaded.runtime("ROUTER_V4", ip_address(ROUTER[4]).packed)
    for name, where in (("NODE", NODE), ("ROUTER", ROUTER)):
        raw = ip_address(where[6]).packed
        loaded.runtime(f"{name}_V6_HI", raw[:8])
        loaded.runtime(f"{name}_V6_LO", raw[8:])
    return Balancer(loaded, registry.alternatives["lb_select"])


def frame(version: int, src: str, dst: str) -> Packet:
    """Ethernet and IP."""
    ip = IP(src=src, dst=dst) if version == 4 else IPv6(src=src, dst=dst)
    return Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04") / ip


def ask(version: int, to: str, port: int, flags: str = "S", sport: int = 4000) -> Packet:
    """A segment of the client."""
    return frame(version, CLIENT[version], to) / TCP(sport=sport, dport=port, flags=flags)


def tunnel(bench: PacketBench) -> None:
    """As if the tunnel was there."""
    bench.runtime("TUNNEL_IFINDEX", LO)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_local_backend_sees_the_client(lb: Balancer, version: int) -> None:
    """Only the destination changes."""
    front = [(NODE[version], 30080, Kind.NODE_PORT)]
    lb.put(service(1, front, [backend(1, POD[version], 8080, local=True)]))
    done = lb.bench.run("from_netdev", ask(version, NODE[version], 30080), ifindex=LO)
    assert done.verdict == REDIRECT
    assert ends(sums_are_right(done.data)) == (CLIENT[version], 4000, POD[version], 8080)
    assert lb.bench.flow().service == 10


@pytest.mark.parametrize("version", FAMILIES)
def test_snat_through_the_tunnel_takes_the_routers_address(lb: Balancer, version: int) -> None:
    """And a port of the range; the same one for the flow's next packet."""
    tunnel(lb.bench)
    front = [(VIP[version], 80, Kind.LOAD_BALANCER)]
    lb.put(service(1, front, [backend(1, FAR[version], 8080)]))
    first = lb.bench.run("from_netdev", ask(version, VIP[version], 80), ifindex=LO)
    assert first.verdict == REDIRECT, first.drop
    source, port, to, dport = ends(sums_are_right(first.data))
    assert (source, to, dport) == (ROUTER[version], FAR[version], 8080)
    assert port >= 32768
    again = lb.bench.run("from_netdev", ask(version, VIP[version], 80, "A"), ifindex=LO)
    assert ends(sums_are_right(again.data)) == (source, port, to, dport)
    other = lb.bench.run("from_netdev", ask(version, VIP[version], 80, sport=4001), ifindex=LO)
    assert ends(sums_are_right(other.data))[1] != port


@pytest.mark.parametrize("flags", [Flag(0), Flag.DSR], ids=["snat", "dsr"])
@pytest.mark.parametrize("where", [FAR, POD], ids=["away", "here"])
@pytest.mark.parametrize("version", FAMILIES)
def test_two_services_give_one_source_port_two_backends(
    lb: Balancer, version: int, where: dict[int, str], flags: Flag
) -> None:
    """A backend that both have would see one connection instead of two."""
    tunnel(lb.bench)
    ends_of = [where[version], str(ip_address(where[version]) + 1)]
    if where is POD:
        lb.bench.endpoint(8, 902, 1001, *(str(ip_address(POD[v]) + 1) for v in FAMILIES))
    else:
        bits = 32 if version == 4 else 128
        lb.bench.prefix(f"{ends_of[1]}/{bits}", 2000, PEER[4])
    both = [backend(n, a, 8080, local=where is POD) for n, a in enumerate(ends_of, 1)]
    node, outside = (NODE[version], 30080), (VIP[version], 80)
    lb.put(
        service(1, [(*node, Kind.NODE_PORT)], both, flags=flags),
        service(2, [(*outside, Kind.LOAD_BALANCER)], both, flags=flags),
    )
    for sport in range(4000, 4020):
        chosen = []
        for to in (node, outside, node):
            kind = "A" if len(chosen) == 2 else "S"
            done = lb.bench.run("from_netdev", ask(version, *to, kind, sport), ifindex=LO)
            assert done.verdict == REDIRECT, done.drop
            chosen.append(Ether(done.data)[IP if version == 4 else IPv6].dst)
        assert chosen[0] != chosen[1]
        assert chosen[0] == chosen[2]
        ended = lb.bench.run("from_netdev", ask(version, *node, "FA", sport), ifindex=LO)
        assert ended.verdict == REDIRECT


@pytest.mark.parametrize("mode", ["snat", "dsr"])
@pytest.mark.parametrize("version", FAMILIES)
def test_an_error_about_an_answer_reaches_a_backend_elsewhere(
    lb: Balancer, version: int, mode: str
) -> None:
    """It quotes what the backend has sent: with SNAT, to this node."""
    tunnel(lb.bench)
    flags = Flag.DSR if mode == "dsr" else Flag(0)
    front = [(VIP[version], 80, Kind.LOAD_BALANCER)]
    lb.put(service(1, front, [backend(1, FAR[version], 8080)], flags=flags))
    asked = lb.bench.run("from_netdev", ask(version, VIP[version], 80), ifindex=LO)
    seen, port = ends(sums_are_right(asked.data))[:2]
    assert (seen == CLIENT[version]) == (mode == "dsr")
    answer = frame(version, VIP[version], CLIENT[version])
    answer = answer / TCP(sport=80, dport=4000, flags="A") / bytes(64)
    quote = Ether(bytes(answer)).payload
    router = {4: "198.51.100.77", 6: "2001:db8:51::77"}[version]
    if version == 4:
        error = frame(4, router, VIP[4]) / ICMP(type=3, code=4, nexthopmtu=1400) / quote
    else:
        error = frame(6, router, VIP[6]) / ICMPv6PacketTooBig(mtu=1400) / quote
    done = lb.bench.run("from_netdev", error, ifindex=LO)
    assert (done.verdict, done.drop) == (REDIRECT, "")
    heard = sums_are_right(done.data)
    outer, inner = (IP, IPerror) if version == 4 else (IPv6, IPerror6)
    assert (heard[outer].src, heard[outer].dst) == (router, FAR[version])
    assert (heard[inner].src, heard[inner].dst) == (FAR[version], seen)
    assert (heard[TCPerror].sport, heard[TCPerror].dport) == (8080, port)


@pytest.mark.parametrize("version", FAMILIES)
def test_dsr_keeps_the_client_and_carries_the_service(lb: Balancer, version: int) -> None:
    """The option is in the SYN, and only there; sums are right."""
    tunnel(lb.bench)
    front = [(VIP[version], 80, Kind.LOAD_BALANCER)]
    lb.put(service(1, front, [backend(1, FAR[version], 8080)], flags=Flag.DSR))
    first = lb.bench.run("from_netdev", ask(version, VIP[version], 80), ifindex=LO)
    assert first.verdict == REDIRECT, first.drop
    packet = sums_are_right(first.data)
    assert ends(packet) == (CLIENT[version], 4000, FAR[version], 8080)
    carried = bytes([0, 80]) + ip_address(VIP[version]).packed
    if version == 4:
        assert bytes(packet[IP].options[0]) == bytes([0x9A, 8]) + carried
        assert packet[IP].len == len(first.data) - 14
    else:
        raw = bytes(packet[IPv6ExtHdrDestOpt])[:24]
        assert raw[:4] == bytes([6, 2, 0x1B, 20])
        assert raw[4:22] == ip_address(VIP[6]).packed + bytes([0, 80])
        assert packet[IPv6].plen == len(first.data) - 54
    next_one = lb.bench.run("from_netdev", ask(version, VIP[version], 80, "A"), ifindex=LO)
    assert len(next_one.data) < len(first.data)
    assert ends(sums_are_right(next_one.data)) == (CLIENT[version], 4000, FAR[version], 8080)


@pytest.mark.parametrize("mode", ["snat", "dsr"])
@pytest.mark.parametrize("version", FAMILIES)
def test_a_client_is_told_what_fits_the_tunnel(lb: Balancer, version: int, mode: str) -> None:
    """About the packet that it has sent, not about what that would have become."""
    tunnel(lb.bench)
    lb.bench.runtime("MTU", 1450)
    flags = Flag.DSR if mode == "dsr" else Flag(0)
    front = [(VIP[version], 53, Kind.LOAD_BALANCER)]
    lb.put(service(1, front, [backend(1, FAR[version], 53, 17)], proto=17, flags=flags))
    header, extra = (28, 8) if version == 4 else (48, 24)
    most = 1450 - (extra if mode == "dsr" else 0)
    for size, told in ((most, False), (most + 1, True)):
        packet = frame(version, CLIENT[version], VIP[version]) / UDP(sport=4000, dport=53)
        done = lb.bench.run("from_netdev", packet / bytes(size - header), ifindex=LO)
        assert done.verdict == REDIRECT
        assert done.drop == ("FRAG_NEEDED" if told else "")
        answer = sums_are_right(done.data)
        if not told:
            assert ends(answer)[2] == FAR[version]
        elif version == 4:
            assert (answer[ICMP].type, answer[ICMP].code) == (3, 4)
            assert answer[ICMP].nexthopmtu == most
            assert (answer[IP].dst, answer[IPerror].dst) == (CLIENT[4], VIP[4])
        else:
            assert answer[ICMPv6PacketTooBig].mtu == most
            assert (answer[IPv6].dst, answer[IPerror6].dst) == (CLIENT[6], VIP[6])


@pytest.mark.parametrize("version", FAMILIES)
def test_dsr_carries_the_service_with_each_datagram(lb: Balancer, version: int) -> None:
    """UDP has no first packet."""
    tunnel(lb.bench)
    front = [(VIP[version], 53, Kind.LOAD_BALANCER)]
    lb.put(service(1, front, [backend(1, FAR[version], 53, 17)], proto=17, flags=Flag.DSR))
    packet = frame(version, CLIENT[version], VIP[version]) / UDP(sport=4000, dport=53) / b"hello"
    for _ in range(2):
        done = lb.bench.run("from_netdev", packet, ifindex=LO)
        grown = 8 if version == 4 else 24
        assert len(done.data) == len(bytes(packet)) + grown
        assert ends(sums_are_right(done.data)) == (CLIENT[version], 4000, FAR[version], 53)


def carried(version: int, vip: str, port: int, flags: str = "S") -> Packet:
    """What another node sends on by DSR."""
    if version == 4:
        raw = bytes([0x9A, 8]) + port.to_bytes(2, "big") + ip_address(vip).packed
        from scapy.layers.inet import IPOption

        header: Packet = IP(src=CLIENT[4], dst=POD[4], options=[IPOption(raw)])
    else:
        body = ip_address(vip).packed + port.to_bytes(2, "big") + bytes(2)
        raw = bytes([6, 2, 0x1B, 20]) + body
        header = IPv6(src=CLIENT[6], dst=POD[6], nh=60) / IPv6ExtHdrDestOpt(raw)
    ether = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04")
    return ether / header / TCP(sport=4000, dport=8080, flags=flags)


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("known", ["service", "node port", "nobody's"])
def test_the_backends_node_notes_the_service(lb: Balancer, version: int, known: str) -> None:
    """If it is one: a service that all know, a node port of a node; nothing else is believed."""
    vip, port = (PEER[version], 30080) if known == "node port" else (VIP[version], 80)
    if known == "service":
        lb.put(service(1, [(vip, port, Kind.LOAD_BALANCER)], []))
    elif known == "node port":
        lb.put(service(1, [(None, port, Kind.NODE_PORT)], [], version=version))
    done = lb.bench.run("from_netdev", carried(version, vip, port), ifindex=LO)
    assert done.verdict == REDIRECT, done.drop
    assert lb.bench.flow().service == (0 if known == "nobody's" else 0xFFFFFFFF)
    later = lb.bench.run(
        "from_netdev",
        frame(version, CLIENT[version], POD[version]) / TCP(sport=4000, dport=8080, flags="A"),
        ifindex=LO,
    )
    assert later.verdict == REDIRECT
    assert lb.bench.flow().service == (0 if known == "nobody's" else 0xFFFFFFFF)


@pytest.mark.parametrize("version", FAMILIES)
def test_refusals_have_their_reasons(lb: Balancer, version: int) -> None:
    """ClusterIP from outside, source ranges both ways, an unknown port of a balancer's address."""
    pod = [backend(1, POD[version], 8080, local=True)]
    bits = 32 if version == 4 else 64
    inside = f"{ip_address(CLIENT[version])}/{bits}" if version == 4 else "2001:db8:51::/64"
    rows = [
        service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], pod, flags=Flag.CLUSTER_ONLY),
        service(2, [(VIP[version], 81, Kind.LOAD_BALANCER)], pod, flags=Flag.RANGES,
                ranges=["203.0.113.0/24" if version == 4 else "2001:db8:9::/48"]),
        service(3, [(VIP[version], 82, Kind.LOAD_BALANCER)], pod, flags=Flag.RANGES,
                ranges=[inside]),
        service(4, [(VIP[version], 83, Kind.LOAD_BALANCER)], pod, ranges=[inside],
                flags=Flag.RANGES | Flag.RANGES_DENY),
    ]  # fmt: skip
    lb.put(*rows)
    found = {
        port: lb.bench.run("from_netdev", ask(version, VIP[version], port), ifindex=LO).drop
        for port in (80, 81, 82, 83, 84)
    }
    assert found == {
        80: "IS_CLUSTER_IP", 81: "NOT_IN_SRC_RANGE", 82: "", 83: "NOT_IN_SRC_RANGE",
        84: "NO_SERVICE",
    }  # fmt: skip


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("local", [False, True])
def test_no_backend_is_said_unless_another_node_may_have_one(
    lb: Balancer, version: int, local: bool
) -> None:
    """Port unreachable to the client; nothing with externalTrafficPolicy Local."""
    flags = Flag.LOCAL_OUT if local else Flag(0)
    far = [backend(1, FAR[version], 80)] if local else []
    lb.put(service(1, [(NODE[version], 30080, Kind.NODE_PORT)], far, flags=flags, local_out=local))
    done = lb.bench.run("from_netdev", ask(version, NODE[version], 30080), ifindex=LO)
    assert done.drop == "NO_SERVICE"
    assert done.verdict == (SHOT if local else REDIRECT)
    if not local:
        answer = Ether(done.data)
        assert network(answer).dst == CLIENT[version]
        assert (ICMP if version == 4 else ICMPv6DestUnreach) in answer


@pytest.mark.parametrize("version", FAMILIES)
def test_a_backend_in_the_nodes_network_answers_as_the_service(lb: Balancer, version: int) -> None:
    """To the stack, and what it answers leaves with the node port."""
    from axoneme.core.datapath.typed import TypedMap
    from axoneme.plugins.masquerade.rows import DeviceAddresses, DeviceKey

    own: TypedMap[DeviceKey, DeviceAddresses] = TypedMap(
        lb.bench.maps["axo_masq_dev"], DeviceKey, DeviceAddresses
    )
    own[DeviceKey(LO)] = DeviceAddresses(ip_address(NODE[4]), ip_address(NODE[6]))
    lb.put(service(1, [(NODE[version], 30443, Kind.NODE_PORT)], [backend(1, NODE[version], 6443)]))
    done = lb.bench.run("from_netdev", ask(version, NODE[version], 30443), ifindex=LO)
    assert done.verdict == OK
    assert ends(sums_are_right(done.data)) == (CLIENT[version], 4000, NODE[version], 6443)
    answer = frame(version, NODE[version], CLIENT[version]) / TCP(
        sport=6443, dport=4000, flags="SA"
    )
    back = lb.bench.run("to_netdev", answer, ifindex=LO)
    assert back.verdict == OK
    assert ends(sums_are_right(back.data)) == (NODE[version], 30443, CLIENT[version], 4000)


@pytest.mark.parametrize("version", FAMILIES)
def test_the_nodes_own_address_is_forged_outside(lb: Balancer, version: int) -> None:
    """Nobody out there is this node, or a pod of it."""
    lb.put(service(1, [(VIP[version], 80, Kind.LOAD_BALANCER)],
                   [backend(1, POD[version], 8080, local=True)]))  # fmt: skip
    for source in (NODE, ROUTER, POD):
        packet = frame(version, source[version], VIP[version]) / TCP(dport=80, flags="S")
        assert lb.bench.run("from_netdev", packet, ifindex=LO).drop == "INVALID_SIP"


def test_a_node_without_an_address_of_a_family_says_so(lb: Balancer) -> None:
    """It cannot stand for the client."""
    lb.bench.runtime("NODE_V6_HI", 0)
    lb.bench.runtime("NODE_V6_LO", 0)
    lb.put(service(1, [(VIP[6], 80, Kind.LOAD_BALANCER)], [backend(1, PEER[6], 8080)]))
    done = lb.bench.run("from_netdev", ask(6, VIP[6], 80), ifindex=LO)
    assert done.drop == "NAT_NO_MAPPING"
