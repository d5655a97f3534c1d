"""Connection tracking: states, directions, timeouts, generations, both families."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.endpoints.maps import AddressKey
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
        "to_container", answer / UDP(sport=53, dport=1000), ifindex=a.ifindex, ingress_ifindex=1
    )
    assert (fine.verdict, fine.drop) == (OK, "")
    other = closed.run(
        "to_container", answer / UDP(sport=54, dport=1000), ifindex=a.ifindex, ingress_ifindex=1
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
    """After a revocation b may still send what its own rules allow, but opens nothing for a."""
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


REMOTE = {4: "10.244.2.9", 6: "fd00:10:244:2::9"}
ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
BITS = {4: 32, 6: 128}


def from_outside(bench: PacketBench, pod: Any, version: int, source: str, sport: int = 5) -> Any:
    """What becomes of a datagram that the stack hands on, from a device of no pod."""
    packet = pod.frame(version, pod, source=source) / UDP(sport=sport, dport=53)
    return bench.run("to_container", packet, ifindex=pod.ifindex, ingress_ifindex=1)


@FAMILIES
def test_a_remote_sender_with_a_new_identity_is_judged_by_it(
    closed: PacketBench, b: Any, version: int
) -> None:
    """The identity that a flow remembers is not asked when policy is asked again."""
    remote = f"{REMOTE[version]}/{BITS[version]}"
    closed.prefix(remote, 2000, "172.18.0.3")
    closed.rule(b.identity, INGRESS, peer=2000)
    assert from_outside(closed, b, version, REMOTE[version]).verdict == OK
    closed.prefix(remote, 3000, "172.18.0.3")
    closed.runtime("IPCACHE_GEN", 7)
    assert from_outside(closed, b, version, REMOTE[version]).verdict == OK
    closed.runtime("POLICY_GEN", 9)
    assert from_outside(closed, b, version, REMOTE[version]).drop == "POLICY"
    closed.rule(b.identity, INGRESS, peer=3000)
    assert from_outside(closed, b, version, REMOTE[version]).verdict == OK
    assert set(closed.flow().identity) == {b.identity, 3000}


@FAMILIES
def test_a_known_flow_of_the_node_cannot_be_forged_from_outside(
    closed: PacketBench, b: Any, version: int
) -> None:
    """When policy is asked again, the sender's address is checked again."""
    closed.rule(b.identity, INGRESS, peer=1)
    packet = b.frame(version, b, source=ROUTER[version]) / UDP(sport=5, dport=53)
    assert closed.run("to_container", packet, ifindex=b.ifindex).verdict == OK
    closed.runtime("POLICY_GEN", 9)
    assert from_outside(closed, b, version, ROUTER[version]).drop == "INVALID_SIP"
    assert closed.run("to_container", packet, ifindex=b.ifindex).verdict == OK


@FAMILIES
def test_the_flow_of_a_deleted_pod_is_nobodys(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Its address on another device is the world's, whatever the flow was allowed."""
    only_a_may_call(closed, a, b)
    sent = a.udp(version, b, sport=5)
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == REDIRECT
    closed.endpoints.delete_batch([AddressKey(ip_address(a.ip(version)))])
    closed.prefix(f"{a.ip(version)}/{BITS[version]}", 2)
    assert from_outside(closed, b, version, a.ip(version)).drop == "POLICY"


@FAMILIES
def test_what_a_pod_sends_through_the_stack_stays_its_own(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The device that the packet came in on names the sender, in a known flow too."""
    only_a_may_call(closed, a, b)
    sent = a.udp(version, b)
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == REDIRECT
    fields = {"ifindex": b.ifindex, "ingress_ifindex": a.ifindex}
    assert closed.run("to_container", sent, **fields).verdict == OK
    assert len(list(closed.flows())) == 1
    assert sorted(closed.flow().packets) == [0, 2]


@FAMILIES
def test_the_node_and_a_pod_answer_each_other(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Neither end is mistaken for a former endpoint, whoever began."""
    closed.rule(b.identity, INGRESS, peer=1)
    closed.rule(a.identity, EGRESS, peer=1)
    asks = b.frame(version, b, source=ROUTER[version]) / UDP(sport=5, dport=53)
    answers = b.udp(version, ROUTER[version], sport=53, dport=5)
    assert closed.run("to_container", asks, ifindex=b.ifindex).verdict == OK
    assert closed.run("from_container", answers, ifindex=b.ifindex).verdict == OK
    asks = a.udp(version, ROUTER[version])
    answers = a.frame(version, a, source=ROUTER[version]) / UDP(sport=53, dport=1000)
    assert closed.run("from_container", asks, ifindex=a.ifindex).verdict == OK
    assert closed.run("to_container", answers, ifindex=a.ifindex).verdict == OK


@FAMILIES
def test_a_flow_to_nobody_is_not_one_to_the_pod_that_comes(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """What a was allowed to send to the world says nothing about the endpoint with that address."""
    free = {4: "10.244.1.50", 6: "fd00:10:244:1::50"}[version]
    closed.rule(a.identity, EGRESS, peer={4: 9, 6: 10}[version])
    closed.rule(1003, INGRESS)
    sent = a.udp(version, free)
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    closed.endpoint(13, b.ifindex, 1003, free)
    assert closed.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"


@FAMILIES
def test_what_policy_refuses_ends_in_both_directions(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """An answer is one only while its question is allowed."""
    only_a_may_call(closed, a, b)
    question, answer = a.udp(version, b), b.udp(version, a, sport=53, dport=1000)
    assert closed.run("from_container", question, ifindex=a.ifindex).verdict == REDIRECT
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT
    closed.rule(b.identity, INGRESS, peer=a.identity, deny=True)
    closed.runtime("POLICY_GEN", 9)
    assert closed.run("from_container", question, ifindex=a.ifindex).drop == "POLICY_DENY"
    before = closed.flow().expires
    assert closed.run("from_container", answer, ifindex=b.ifindex).drop == "POLICY"
    assert closed.flow().expires == before
    closed.rule(b.identity, INGRESS, peer=a.identity)
    closed.runtime("POLICY_GEN", 10)
    assert closed.run("from_container", question, ifindex=a.ifindex).verdict == REDIRECT
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT


@FAMILIES
def test_a_pod_whose_egress_is_revoked_gets_no_more_answers(
    closed: PacketBench, a: Any, version: int
) -> None:
    """The world's answers end with the question that was refused."""
    closed.rule(a.identity, EGRESS)
    question = a.udp(version, WORLD[version], sport=53, dport=5)
    assert closed.run("from_container", question, ifindex=a.ifindex).verdict == OK
    assert from_outside(closed, a, version, WORLD[version]).verdict == OK
    closed.rule(a.identity, EGRESS, deny=True)
    closed.runtime("POLICY_GEN", 9)
    assert closed.run("from_container", question, ifindex=a.ifindex).drop == "POLICY_DENY"
    assert from_outside(closed, a, version, WORLD[version]).drop == "POLICY"


@FAMILIES
def test_a_missing_policy_map_ends_no_flow(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """An agent that is not ready refuses, but revokes nothing."""
    only_a_may_call(closed, a, b)
    question, answer = a.udp(version, b), b.udp(version, a, sport=53, dport=1000)
    assert closed.run("from_container", question, ifindex=a.ifindex).verdict == REDIRECT
    closed.maps["axo_policy"].delete(struct.pack("=I", b.identity))
    closed.runtime("POLICY_GEN", 9)
    assert closed.run("from_container", question, ifindex=a.ifindex).drop == "EP_NOT_READY"
    assert closed.run("from_container", answer, ifindex=b.ifindex).verdict == REDIRECT


@FAMILIES
def test_after_a_revocation_the_other_end_may_begin_anew(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A SYN of b on the same ports is b's connection, and a's packets are its answers."""
    only_a_may_call(closed, a, b)
    closed.rule(b.identity, EGRESS)
    closed.rule(a.identity, INGRESS)
    for flag in ("S", "A"):
        closed.run("from_container", a.tcp(version, b, flag), ifindex=a.ifindex)
    closed.rule(b.identity, INGRESS, peer=a.identity, deny=True)
    closed.runtime("POLICY_GEN", 9)
    data = a.tcp(version, b, "A")
    assert closed.run("from_container", data, ifindex=a.ifindex).drop == "POLICY_DENY"
    late = b.tcp(version, a, "A", sport=80, dport=1000)
    assert closed.run("from_container", late, ifindex=b.ifindex).verdict == REDIRECT
    assert closed.run("from_container", data, ifindex=a.ifindex).drop == "POLICY_DENY"
    begins = b.tcp(version, a, "S", sport=80, dport=1000)
    assert closed.run("from_container", begins, ifindex=b.ifindex).verdict == REDIRECT
    answer = a.tcp(version, b, "SA")
    assert closed.run("from_container", answer, ifindex=a.ifindex).verdict == REDIRECT


@FAMILIES
def test_a_refused_packet_changes_nothing_in_an_entry(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """a's egress says yes and b's ingress no: a reset closes nothing."""
    closed.rule(a.identity, EGRESS, peer=b.identity)
    assert closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex).drop == "POLICY"
    closed.edit_flow(expires=closed.flow().expires - 20)
    before = closed.flow()
    closed.runtime("POLICY_GEN", 3)
    assert closed.run("from_container", a.tcp(version, b, "R"), ifindex=a.ifindex).drop == "POLICY"
    after = closed.flow()
    assert (after.expires, after.flags, after.packets) == (
        before.expires, before.flags, before.packets
    )  # fmt: skip


PLAYED = """#include "axo/maps.h"
static __always_inline int played_agent(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	u32 slots[2] = {AXO_RT_POLICY_GEN, AXO_RT_IPCACHE_GEN};
	u64 *value;
	int i;

	for (i = 0; i < 2; i++) {
		value = axo_runtime.lookup(&slots[i]);
		if (value && skb->mark == 77)
			*value = *value + 1;
	}
	return AXO_NEXT;
}
"""
"""A stage after the policy that raises both generations, as if the agent had done so just then."""


@pytest.fixture(scope="module")
def raced(
    registry_of: Callable[..., DatapathRegistry],
    tmp_path_factory: pytest.TempPathFactory,
    compile_cache: Path,
) -> Iterator[PacketBench]:
    """Policy, and an agent that a packet with mark 77 sets to work in the middle of its walk."""
    source = tmp_path_factory.mktemp("axot-played") / "played.bpf.c"
    source.write_text(PLAYED)
    remembers = source.with_name("remembers.bpf.c")
    remembers.write_text(
        '#include "axo/route.h"\n'
        "static __always_inline int remembers_route(struct __sk_buff *skb, struct axo_ctx *ctx)\n"
        "{\n\taxo_destination(ctx);\n\treturn AXO_NEXT;\n}\n"
    )
    registry = registry_of("policy")
    registry.stage("egress_policy", "played_agent", source)
    registry.stage("egress_forward", "remembers_route", remembers)
    with PacketBench(registry, cache_dir=compile_cache) as bench:
        yield bench


@FAMILIES
def test_a_verdict_of_the_old_policy_is_not_noted_for_the_new(
    raced: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any, version: int
) -> None:
    """Policy and ipcache change between the look-up and the note: both are asked again."""
    bench = populate(raced, a, b)
    bench.runtime("IPCACHE_GEN", 4)
    bench.rule(a.identity, EGRESS)
    bench.prefix(f"{WORLD[version]}/{BITS[version]}", 2001)
    sent = a.udp(version, WORLD[version])
    assert bench.run("from_container", sent, ifindex=a.ifindex, mark=77).verdict == OK
    entry = bench.flow()
    assert entry.node_gen == 4
    assert max(entry.accept) == 1
    bench.rule(a.identity, EGRESS, deny=True)
    assert bench.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY_DENY"


EVICTS = """	if (skb->mark == 78) {
		axo_ct_any4.delete(&s->key4);
		axo_ct_any6.delete(&s->key6);
	}
"""
ACCEPTS = "	/* evicted meanwhile? */\n"


@FAMILIES
def test_an_entry_that_is_evicted_under_the_programs_hands_is_made_anew(
    registry_of: Callable[..., DatapathRegistry],
    populate: Callable[..., PacketBench],
    compile_cache: Path,
    a: Any,
    b: Any,
    version: int,
) -> None:
    """What was accepted is noted in an entry of its own, never in what its memory has become."""

    def edit(text: str) -> str:
        assert text.count(ACCEPTS) == 1
        return text.replace(ACCEPTS, ACCEPTS + EVICTS)

    with PacketBench(registry_of("policy"), cache_dir=compile_cache, edit=edit) as loaded:
        bench = populate(loaded, a, b)
        only_a_may_call(bench, a, b)
        sent = a.udp(version, WORLD[version])
        bench.rule(a.identity, EGRESS)
        assert bench.run("from_container", sent, ifindex=a.ifindex).verdict == OK
        bench.runtime("POLICY_GEN", 5)
        assert bench.run("from_container", sent, ifindex=a.ifindex, mark=78).verdict == OK
        assert max(bench.flow().accept) == 11
