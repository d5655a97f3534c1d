"""Connection tracking: states, directions, timeouts, generations, both families."""

from __future__ import annotations

import time
from typing import Any

import pytest
from scapy.layers.inet import ICMP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest

from axoneme.core.testing.packets import EGRESS, INGRESS, OK, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
TICK = (1 << 30) / 1e9  # seconds
NEW, ESTABLISHED, REPLY = 0, 1, 2


def seconds_left(bench: PacketBench) -> float:
    """Life of the only entry."""
    return bench.flow().expires * TICK - time.clock_gettime(time.CLOCK_MONOTONIC)


def echo(pod: Any, version: int, to: Any, *, reply: bool = False, number: int = 7) -> Any:
    """An echo request or reply with an identifier."""
    if version == 4:
        return pod.frame(4, to) / ICMP(type=0 if reply else 8, id=number)
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    return pod.frame(6, to) / kind(id=number)


def only_a_may_call(bench: PacketBench, a: Any, b: Any) -> None:
    """a may send to b and b may receive from a; nothing else."""
    bench.rule(a.identity, EGRESS, peer=b.identity)
    bench.rule(b.identity, INGRESS, peer=a.identity)


@FAMILIES
def test_one_entry_serves_both_directions_and_both_ends(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The answer needs no rule of its own and makes no entry of its own."""
    only_a_may_call(closed, a, b)
    assert closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex).verdict == REDIRECT
    answer = b.tcp(version, a, "SA", sport=80, dport=1000)
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT
    entry = closed.flow()
    assert sorted(entry.packets) == [1, 1]
    assert set(entry.identity) == {a.identity, b.identity}


@FAMILIES
def test_what_one_end_allows_does_not_speak_for_the_other(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """a's egress says yes and b's ingress no: b cannot use the entry to answer."""
    closed.rule(a.identity, EGRESS)
    sent = closed.run("from_container", a.udp(version, b), ifindex=a.ifindex)
    assert (sent.verdict, sent.drop) == (SHOT, "POLICY")
    answer = b.udp(version, a, sport=53, dport=1000)
    done = closed.run("from_container", answer, ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")
    assert closed.events(1)[-1].src_identity == b.identity


@FAMILIES
def test_an_answer_to_a_pod_comes_in_through_the_stack(
    closed: PacketBench, a: Any, version: int
) -> None:
    """What a pod may ask the world, the world may answer, and only that."""
    closed.rule(a.identity, EGRESS)
    asked = closed.run("from_container", a.udp(version, WORLD[version]), ifindex=a.ifindex)
    assert asked.verdict == OK
    answer = a.frame(version, a, source=WORLD[version])
    fine = closed.run(
        "to_container", answer / UDP(sport=53, dport=1000), ifindex=a.ifindex, ingress_ifindex=99
    )
    assert (fine.verdict, fine.drop) == (OK, "")
    other = closed.run(
        "to_container", answer / UDP(sport=54, dport=1000), ifindex=a.ifindex, ingress_ifindex=99
    )
    assert (other.verdict, other.drop) == (SHOT, "POLICY")


@FAMILIES
@pytest.mark.parametrize(
    ("flags", "life"), [(["S"], 60), (["S", "A"], 8000), (["A"], 8000), (["S", "A", "R"], 10)]
)
def test_tcp_lives_as_long_as_its_state_says(
    bench: PacketBench, a: Any, b: Any, version: int, flags: list[str], life: int
) -> None:
    """SYN 60 s, established 8000 s, reset 10 s."""
    for flag in flags:
        bench.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    assert life - 2.2 < seconds_left(bench) <= life + 2.2


@FAMILIES
def test_tcp_closes_when_both_ends_have_finished(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A FIN of one end keeps the entry alive, that of the other brings 10 s."""
    for flag in ("S", "A", "FA"):
        bench.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    assert seconds_left(bench) > 7000
    bench.run("from_container", b.tcp(version, a, "FA", sport=80, dport=1000), ifindex=b.ifindex)
    assert 7 < seconds_left(bench) <= 12.2


@FAMILIES
def test_other_protocols_live_for_a_minute(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """UDP and ICMP echo: 60 s."""
    bench.run("from_container", a.udp(version, b), ifindex=a.ifindex)
    assert 57 < seconds_left(bench) <= 62.2


@FAMILIES
def test_an_expired_entry_counts_as_absent(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """After its time an answer is a new flow, which policy refuses."""
    only_a_may_call(closed, a, b)
    closed.run("from_container", a.udp(version, b), ifindex=a.ifindex)
    answer = b.udp(version, a, sport=53, dport=1000)
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT
    now = int(time.clock_gettime(time.CLOCK_MONOTONIC) / TICK)
    closed.edit_flow(expires=now - 1)
    done = closed.run("from_container", answer, ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_a_syn_on_a_closed_entry_is_a_new_connection(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A port that is used again goes through policy again."""
    only_a_may_call(closed, a, b)
    for flag in ("S", "A", "R"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.subject(b.identity).delete_batch([key for key, _ in closed.subject(b.identity).items()])
    done = closed.run("from_container", a.tcp(version, b, "S"), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_policy_is_asked_again_only_after_a_change(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A rule that is gone bites established flows once the generation is raised, not before."""
    only_a_may_call(closed, a, b)
    for flag in ("S", "A"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.subject(b.identity).delete_batch([key for key, _ in closed.subject(b.identity).items()])
    data = a.tcp(version, b, "A")
    assert closed.run("from_container", data, ifindex=a.ifindex).verdict == REDIRECT
    closed.runtime("POLICY_GEN", 1)
    done = closed.run("from_container", data, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")
    only_a_may_call(closed, a, b)
    assert closed.run("from_container", data, ifindex=a.ifindex).verdict == REDIRECT


@FAMILIES
def test_a_refused_flow_cannot_reopen_itself_from_the_other_side(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """After a revocation the answers of b still pass as answers, but open nothing for a."""
    only_a_may_call(closed, a, b)
    closed.rule(b.identity, EGRESS)
    for flag in ("S", "A"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.subject(b.identity).delete_batch(
        [key for key, _ in closed.subject(b.identity).items() if key.dir == INGRESS]
    )
    closed.runtime("POLICY_GEN", 1)
    data = a.tcp(version, b, "A")
    assert closed.run("from_container", data, ifindex=a.ifindex).drop == "POLICY"
    closed.run("from_container", b.tcp(version, a, "A", sport=80, dport=1000), ifindex=b.ifindex)
    assert closed.run("from_container", data, ifindex=a.ifindex).drop == "POLICY"


@FAMILIES
def test_an_echo_reply_follows_its_request(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The reply with the same identifier passes, another one does not."""
    only_a_may_call(closed, a, b)
    assert closed.run("from_container", echo(a, version, b), ifindex=a.ifindex).verdict == REDIRECT
    reply = closed.run("from_container", echo(b, version, a, reply=True), ifindex=b.ifindex)
    assert (reply.verdict, reply.drop) == (REDIRECT, "")
    other = echo(b, version, a, reply=True, number=8)
    assert closed.run("from_container", other, ifindex=b.ifindex).drop == "POLICY"


@FAMILIES
@pytest.mark.parametrize("number", [7, 0, 1, 2, 0xFFFF])
def test_an_echo_request_is_no_answer_to_a_request(
    closed: PacketBench, a: Any, b: Any, version: int, number: int
) -> None:
    """A request in the other direction with the same identifier needs a rule of its own.

    So it is for identifier 0 and for those that the key's encoding uses inside.
    """
    only_a_may_call(closed, a, b)
    closed.run("from_container", echo(a, version, b, number=number), ifindex=a.ifindex)
    done = closed.run("from_container", echo(b, version, a, number=number), ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")
    reply = echo(b, version, a, reply=True, number=number)
    assert closed.run("from_container", reply, ifindex=b.ifindex).verdict == REDIRECT


def test_other_icmp_queries_are_never_answers(closed: PacketBench, a: Any, b: Any) -> None:
    """A timestamp reply is judged by policy although a timestamp request went the other way."""
    only_a_may_call(closed, a, b)
    assert (
        closed.run("from_container", a.frame(4, b) / ICMP(type=13), ifindex=a.ifindex).verdict
        == REDIRECT
    )
    done = closed.run("from_container", b.frame(4, a) / ICMP(type=14), ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")
    again = closed.run("from_container", b.frame(4, a) / ICMP(type=13), ifindex=b.ifindex)
    assert (again.verdict, again.drop) == (SHOT, "POLICY")


@FAMILIES
def test_counters_are_by_direction_and_once_per_packet(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Three packets one way, two the other, whatever the number of hooks they met."""
    for flag in ("S", "A", "PA"):
        bench.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    for flag in ("SA", "A"):
        bench.run(
            "from_container", b.tcp(version, a, flag, sport=80, dport=1000), ifindex=b.ifindex
        )
    entry = bench.flow()
    assert sorted(entry.packets) == [2, 3]
    size = len(bytes(a.tcp(version, b)))
    assert sorted(entry.bytes) == [2 * size, 3 * size]


@FAMILIES
def test_the_same_ports_in_two_protocols_are_two_flows(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The protocol is part of the key."""
    bench.run("from_container", a.tcp(version, b, dport=53), ifindex=a.ifindex)
    bench.run("from_container", a.udp(version, b), ifindex=a.ifindex)
    assert len(list(bench.flows())) == 2


@FAMILIES
def test_the_route_is_remembered_until_the_ipcache_changes(
    bench: PacketBench, a: Any, version: int
) -> None:
    """Identity of a remote peer follows the ipcache as soon as its generation is raised."""
    host = {4: "198.51.100.1/32", 6: "2001:db8:51::1/128"}[version]
    bench.runtime("IPCACHE_GEN", 1)
    bench.prefix(host, 2001)
    bench.run("from_container", a.tcp(version, WORLD[version]), ifindex=a.ifindex)
    bench.events()
    bench.prefix(host, 2002)
    bench.runtime("POLICY_GEN", 5)
    bench.runtime("IPCACHE_GEN", 2)
    bench.run("from_container", a.tcp(version, WORLD[version], "FA"), ifindex=a.ifindex)
    [event] = bench.events(4)
    assert event.dst_identity == 2002


@FAMILIES
def test_a_new_endpoint_does_not_inherit_flows_of_its_address(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """An address that is given to another pod brings no open connections along."""
    only_a_may_call(closed, a, b)
    for flag in ("S", "A"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.endpoint(99, b.ifindex, 1099, b.ip4, b.ip6)
    closed.subject(1099)
    data = closed.run("from_container", a.tcp(version, b, "A"), ifindex=a.ifindex)
    answer = b.tcp(version, a, "A", sport=80, dport=1000)
    assert data.drop == "POLICY"
    assert closed.run("from_container", answer, ifindex=b.ifindex).drop == "POLICY"


@FAMILIES
def test_a_connection_to_a_new_endpoint_opens_at_once_on_old_ports(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """What is left of the former endpoint's flow does not get in the way of a new one."""
    only_a_may_call(closed, a, b)
    for flag in ("S", "A"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.endpoint(99, b.ifindex, b.identity, b.ip4, b.ip6)
    assert closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex).verdict == REDIRECT
    answer = b.tcp(version, a, "SA", sport=80, dport=1000)
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT


@FAMILIES
def test_a_pod_that_changes_its_identity_keeps_its_flows(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Same endpoint, other labels: answers go on until policy says otherwise."""
    only_a_may_call(closed, a, b)
    for flag in ("S", "A"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.endpoint(b.id, b.ifindex, 1099, b.ip4, b.ip6)
    closed.subject(1099)
    answer = b.tcp(version, a, "A", sport=80, dport=1000)
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT
