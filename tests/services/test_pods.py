"""Services for pods' own packets: there, through policy and conntrack, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from attrs import evolve
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    IPerror6,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.model.balancing import Flag, Kind, State
from axoneme.core.testing.packet_fixtures import *  # noqa: F403 - pytest finds fixtures by name
from axoneme.core.testing.packet_fixtures import Pod
from axoneme.core.testing.packets import OK, REDIRECT, SHOT, PacketBench
from tests.services.kit import (
    FAMILIES,
    SIZES,
    Balancer,
    backend,
    container_with_services,
    ends,
    service,
    sums_are_right,
)

pytestmark = pytest.mark.root

VIP = {4: "10.96.0.10", 6: "fd00:10:96::10"}
REMOTE = {4: "10.244.2.9", 6: "fd00:10:244:2::9"}


@pytest.fixture(scope="session")
def packet_registry() -> DatapathRegistry:
    """Pods' programs with services."""
    return container_with_services()


@pytest.fixture(scope="session")
def shared_bench(packet_registry: DatapathRegistry) -> Iterator[PacketBench]:
    """Loaded once."""
    with PacketBench(packet_registry, sizes=SIZES) as loaded:
        yield loaded


@pytest.fixture
def lb(bench: PacketBench, packet_registry: DatapathRegistry) -> Balancer:
    """Empty load-balancing maps."""
    return Balancer(bench, packet_registry.alternatives["lb_select"])


@pytest.mark.parametrize("version", FAMILIES)
def test_a_pod_reaches_a_local_backend_and_hears_the_service(
    lb: Balancer, a: Pod, b: Pod, version: int
) -> None:
    """The question goes to the backend, the answer comes from the service."""
    lb.put(service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], [backend(1, b.ip(version), 8080)]))
    sent = lb.bench.run("from_container", a.tcp(version, VIP[version]), ifindex=a.ifindex)
    assert sent.verdict == REDIRECT
    assert ends(sums_are_right(sent.data)) == (a.ip(version), 1000, b.ip(version), 8080)
    answer = b.frame(version, a) / TCP(flags="SA", sport=8080, dport=1000)
    back = lb.bench.run("from_container", answer, ifindex=b.ifindex)
    assert back.verdict == REDIRECT
    assert ends(sums_are_right(back.data)) == (VIP[version], 80, a.ip(version), 1000)


@pytest.mark.parametrize("version", FAMILIES)
def test_udp_goes_the_same_way(lb: Balancer, a: Pod, b: Pod, version: int) -> None:
    """UDP too, with its checksum."""
    lb.put(
        service(1, [(VIP[version], 53, Kind.CLUSTER_IP)], [backend(1, b.ip(version), 5353, 17)],
                proto=17)
    )  # fmt: skip
    sent = lb.bench.run("from_container", a.udp(version, VIP[version]), ifindex=a.ifindex)
    assert ends(sums_are_right(sent.data)) == (a.ip(version), 1000, b.ip(version), 5353)
    answer = b.frame(version, a) / UDP(sport=5353, dport=1000) / b"yes"
    back = lb.bench.run("from_container", answer, ifindex=b.ifindex)
    assert ends(sums_are_right(back.data)) == (VIP[version], 53, a.ip(version), 1000)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_flow_keeps_its_backend_and_new_ones_spread(lb: Balancer, a: Pod, version: int) -> None:
    """A connection stays where it went; many of them use all backends alike."""
    base = REMOTE[version][:-1]
    every = [backend(n, f"{base}{n}", 80) for n in range(1, 5)]
    lb.put(service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], every))
    shares: Counter[str] = Counter()
    for sport in range(2000, 2400):
        first = lb.bench.run(
            "from_container", a.tcp(version, VIP[version], sport=sport), ifindex=a.ifindex
        )
        chosen = ends(sums_are_right(first.data))[2]
        shares[chosen] += 1
        again = lb.bench.run(
            "from_container", a.tcp(version, VIP[version], "A", sport=sport), ifindex=a.ifindex
        )
        assert ends(Ether(again.data))[2] == chosen
    assert len(shares) == 4
    assert min(shares.values()) > 50


@pytest.mark.parametrize("version", FAMILIES)
def test_two_services_give_one_source_port_two_backends(lb: Balancer, a: Pod, version: int) -> None:
    """Unless there is but one: then the newer flow has it."""
    base = REMOTE[version][:-1]
    both = [backend(n, f"{base}{n}", 80) for n in (1, 2)]
    lb.put(
        service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], both),
        service(2, [(VIP[version], 81, Kind.CLUSTER_IP)], both),
        service(3, [(VIP[version], 82, Kind.CLUSTER_IP)], both[:1]),
    )
    for sport in range(2000, 2020):
        chosen = []
        for port in (80, 81, 82):
            packet = a.frame(version, VIP[version]) / TCP(sport=sport, dport=port, flags="S")
            done = lb.bench.run("from_container", packet, ifindex=a.ifindex)
            assert done.verdict != SHOT, done.drop
            chosen.append(ends(sums_are_right(done.data))[2])
        assert set(chosen[:2]) == {f"{base}1", f"{base}2"}
        assert chosen[2] == f"{base}1"


@pytest.mark.parametrize("version", FAMILIES)
def test_a_pod_that_is_its_own_backend_hears_itself(lb: Balancer, a: Pod, version: int) -> None:
    """Hairpin: the question comes from the loopback address, the answer from the service."""
    lb.put(service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], [backend(1, a.ip(version), 8080)]))
    loop = "169.254.42.1" if version == 4 else "fe80::1"
    sent = lb.bench.run("from_container", a.tcp(version, VIP[version]), ifindex=a.ifindex)
    assert sent.verdict == REDIRECT
    assert ends(sums_are_right(sent.data)) == (loop, 1000, a.ip(version), 8080)
    answer = a.frame(version, loop) / TCP(flags="SA", sport=8080, dport=1000)
    back = lb.bench.run("from_container", answer, ifindex=a.ifindex)
    assert back.verdict == REDIRECT
    assert ends(sums_are_right(back.data)) == (VIP[version], 80, a.ip(version), 1000)


@pytest.mark.parametrize("version", FAMILIES)
def test_nobody_behind_a_service_is_said_at_once(lb: Balancer, a: Pod, version: int) -> None:
    """Without a backend the pod gets "port unreachable", and the drop is counted."""
    lb.put(service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], []))
    done = lb.bench.run("from_container", a.tcp(version, VIP[version]), ifindex=a.ifindex)
    assert done.drop == "NO_SERVICE"
    assert done.verdict == REDIRECT
    assert Ether(done.data).dst == a.mac


@pytest.mark.parametrize("version", FAMILIES)
def test_a_terminating_backend_keeps_its_flows_and_gets_no_new_ones(
    lb: Balancer, a: Pod, version: int
) -> None:
    """Draining: what is there goes on, a new connection goes elsewhere."""
    base = REMOTE[version][:-1]
    old, new = backend(1, f"{base}1", 80), backend(2, f"{base}2", 80)
    front = [(VIP[version], 80, Kind.CLUSTER_IP)]
    lb.put(service(1, front, [old]))
    lb.bench.run("from_container", a.tcp(version, VIP[version], sport=2000), ifindex=a.ifindex)
    lb.put(service(1, front, [evolve(old, state=State.TERMINATING), new]))
    for flags, sport, wanted in (("A", 2000, f"{base}1"), ("S", 2001, f"{base}2")):
        packet = a.tcp(version, VIP[version], flags, sport=sport)
        done = lb.bench.run("from_container", packet, ifindex=a.ifindex)
        assert ends(Ether(done.data))[2] == wanted
    lb.put(service(1, front, [new]))
    packet = a.tcp(version, VIP[version], "A", sport=2000)
    done = lb.bench.run("from_container", packet, ifindex=a.ifindex)
    assert ends(Ether(done.data))[2] == f"{base}2"


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize("algorithm", ["random", "maglev"])
def test_affinity_brings_a_client_back(lb: Balancer, a: Pod, version: int, algorithm: str) -> None:
    """All connections of a client go to one backend, until it is gone."""
    base = REMOTE[version][:-1]
    every = [backend(n, f"{base}{n}", 80) for n in range(1, 9)]
    front = [(VIP[version], 80, Kind.CLUSTER_IP)]
    lb.put(service(1, front, every, affinity_seconds=100, algorithm=algorithm))

    def chosen() -> set[str]:
        done = [
            lb.bench.run("from_container", a.tcp(version, VIP[version], sport=s), ifindex=a.ifindex)
            for s in range(3000, 3040)
        ]
        return {ends(Ether(d.data))[2] for d in done}

    [had] = chosen()
    left = [x for x in every if str(x.address) != had]
    lb.put(service(1, front, left, affinity_seconds=100, algorithm=algorithm))
    [now] = chosen()
    assert now != had


@pytest.mark.parametrize("version", FAMILIES)
def test_what_is_no_service_goes_untouched(lb: Balancer, a: Pod, version: int) -> None:
    """Another port, another protocol."""
    lb.put(service(1, [(VIP[version], 80, Kind.CLUSTER_IP)], [backend(1, REMOTE[version], 80)]))
    for packet in (a.tcp(version, VIP[version], dport=81), a.udp(version, VIP[version], dport=80)):
        done = lb.bench.run("from_container", packet, ifindex=a.ifindex)
        assert done.verdict == OK
        assert ends(Ether(done.data))[2] == VIP[version]


def test_sctp_is_served_where_its_ports_stay(lb: Balancer, a: Pod) -> None:
    """SCTP's own sum cannot be repaired: another port is refused by name."""
    import struct

    for port, drop in ((80, ""), (81, "UNSUPP_SERVICE_PROTO")):
        lb.put(
            service(1, [(VIP[4], 80, Kind.CLUSTER_IP)], [backend(1, REMOTE[4], port, 132)],
                    proto=132)
        )  # fmt: skip
        packet = a.frame(4, VIP[4], proto=132) / (struct.pack("!HHII", 1000, 80, 0, 0) + bytes(8))
        done = lb.bench.run("from_container", packet, ifindex=a.ifindex)
        assert done.drop == drop
        assert done.verdict == (SHOT if drop else OK)


def test_flags_do_not_disturb_pods(lb: Balancer, a: Pod) -> None:
    """What is about outsiders is not about pods."""
    every = Flag.CLUSTER_ONLY | Flag.RANGES | Flag.DSR
    row = service(1, [(VIP[4], 80, Kind.CLUSTER_IP)], [backend(1, REMOTE[4], 80)], flags=every)
    lb.put(row)
    done = lb.bench.run("from_container", a.tcp(4, VIP[4]), ifindex=a.ifindex)
    assert ends(Ether(done.data))[2] == REMOTE[4]
    lb.remove(row)
    done = lb.bench.run("from_container", a.tcp(4, VIP[4], sport=5), ifindex=a.ifindex)
    assert ends(Ether(done.data))[2] == VIP[4]


def unreachable(version: int, from_: Pod, to: Pod, quoted: Packet) -> Packet:
    """Port unreachable, with what it is about."""
    if version == 4:
        return from_.frame(4, to) / ICMP(type=3, code=3) / quoted[IP]
    return from_.frame(6, to) / ICMPv6DestUnreach(code=4) / quoted[IPv6]


@pytest.mark.parametrize("version", FAMILIES)
def test_an_error_about_the_backend_is_about_the_service(
    lb: Balancer, a: Pod, b: Pod, version: int
) -> None:
    """The client's socket knows the service alone: sender and quote are translated, sums right."""
    lb.put(
        service(1, [(VIP[version], 53, Kind.CLUSTER_IP)], [backend(1, b.ip(version), 5353, 17)],
                proto=17)
    )  # fmt: skip
    asked = lb.bench.run("from_container", a.udp(version, VIP[version]), ifindex=a.ifindex)
    error = unreachable(version, b, a, Ether(asked.data))
    done = lb.bench.run("from_container", error, ifindex=b.ifindex)
    assert done.verdict == REDIRECT, done.drop
    heard = Ether(done.data)
    outer, inner = (IP, IPerror) if version == 4 else (IPv6, IPerror6)
    assert (heard[outer].src, heard[inner].dst) == (VIP[version], VIP[version])
    assert (heard[UDPerror].sport, heard[UDPerror].dport) == (1000, 53)
    kind, name = (ICMP, "chksum") if version == 4 else (ICMPv6DestUnreach, "cksum")
    fresh = Ether(done.data)
    said = getattr(fresh[kind], name)
    delattr(fresh[kind], name)
    assert getattr(Ether(bytes(fresh))[kind], name) == said


@pytest.mark.parametrize("version", FAMILIES)
def test_later_fragments_follow_the_first(lb: Balancer, a: Pod, b: Pod, version: int) -> None:
    """All pieces of a datagram to a service reach the same backend."""
    every = [backend(n, REMOTE[version][:-1] + str(n), 53, 17) for n in range(1, 9)]
    lb.put(service(1, [(VIP[version], 53, Kind.CLUSTER_IP)], every, proto=17))
    whole = UDP(sport=1000, dport=53) / (b"x" * 2000)
    if version == 4:
        pieces = fragment(a.frame(4, VIP[4], id=7) / whole, 1400)
    else:
        pieces = fragment6(a.frame(6, VIP[6]) / IPv6ExtHdrFragment(id=7) / whole, 1400)
    assert len(pieces) == 2
    reached = set()
    for piece in pieces:
        done = lb.bench.run("from_container", piece, ifindex=a.ifindex)
        assert done.verdict == OK, done.drop
        packet = Ether(done.data)
        reached.add((packet[IP] if version == 4 else packet[IPv6]).dst)
    assert len(reached) == 1
    assert reached < {str(x.address) for x in every}


@pytest.mark.parametrize("version", FAMILIES)
def test_external_addresses_are_not_taken_from_their_owners(
    lb: Balancer, a: Pod, version: int
) -> None:
    """CVE-2020-8554: what a pod sends there goes there."""
    front = [(VIP[version], 80, Kind.EXTERNAL_IPS)]
    lb.put(service(1, front, [backend(1, REMOTE[version], 80)], flags=Flag.OUTSIDERS))
    done = lb.bench.run("from_container", a.tcp(version, VIP[version]), ifindex=a.ifindex)
    assert ends(Ether(done.data))[2] == VIP[version]
