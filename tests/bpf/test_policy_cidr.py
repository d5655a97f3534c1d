"""``policy-cidr-match-mode``: what CIDR rules say of the address of a node or a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.testing.packets import EGRESS, INGRESS, OK, PacketBench
from axoneme.plugins.policy.cidr_match import CidrKey, CidrMatch, CidrValue, encode

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
RULED = (1 << 24) + 7
PREFIXES = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
NODES = {4: "172.18.0.3", 6: "fd00:172:18::3"}


@pytest.fixture(scope="module", params=["nodes", "pods"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def matching(
    mode: str, compile_cache: Path, registry_of: Callable[..., DatapathRegistry]
) -> Iterator[PacketBench]:
    """The programs in one of the two modes."""
    registry = registry_of("source_check", "policy")
    registry.define("AXO_POLICY_CIDR_MATCH", {"nodes": 1, "pods": 2}[mode])
    with PacketBench(registry, cache_dir=compile_cache) as bench:
        yield bench


def name(bench: PacketBench, prefix: str) -> None:
    """A rule names a prefix."""
    key, value = encode(CidrMatch(ip_network(prefix), RULED))
    TypedMap(bench.maps["axo_policy_cidr"], CidrKey, CidrValue)[key] = value


@pytest.fixture
def world(
    matching: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any
) -> PacketBench:
    """Pods a and b, another node, and a rule that names the pods' prefixes and the node's."""
    populate(matching, a, b)
    for version, address in NODES.items():
        matching.prefix(f"{address}/{ip_address(address).max_prefixlen}", 6)
        name(matching, PREFIXES[version])
        name(matching, f"{address}/{ip_address(address).max_prefixlen}")
    matching.rule(b.identity, INGRESS)
    return matching


@FAMILIES
def test_a_cidr_rule_means_who_the_mode_says(
    world: PacketBench, mode: str, a: Any, b: Any, version: int
) -> None:
    """In mode nodes a prefix opens the way to a node, in mode pods to a pod; never to the other."""
    world.rule(a.identity, EGRESS, peer=RULED, proto=6, port=80)
    pod = world.run("from_container", a.tcp(version, b), ifindex=a.ifindex).drop
    node = world.run("from_container", a.tcp(version, NODES[version]), ifindex=a.ifindex).drop
    assert (pod, node) == (("", "POLICY") if mode == "pods" else ("POLICY", ""))


@FAMILIES
def test_a_cidr_deny_beats_an_allow_of_the_peer(
    world: PacketBench, mode: str, a: Any, b: Any, version: int
) -> None:
    """The entries are weighed together, whichever of them allows."""
    peer, target = (b.identity, b.ip(version)) if mode == "pods" else (6, NODES[version])
    world.rule(a.identity, EGRESS, peer=peer)
    world.rule(a.identity, EGRESS, peer=RULED, deny=True, proto=6, port=80)
    for port, drop in ((80, "POLICY_DENY"), (81, "")):
        sent = a.tcp(version, target, dport=port)
        assert world.run("from_container", sent, ifindex=a.ifindex).drop == drop
    world.rule(a.identity, EGRESS)
    sent = a.tcp(version, target)
    assert world.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY_DENY"


@FAMILIES
def test_ingress_looks_at_the_sender(
    world: PacketBench, mode: str, a: Any, b: Any, version: int
) -> None:
    """On ingress the address that counts is the source."""
    world.rule(a.identity, EGRESS)
    for key in list(dict(world.subject(b.identity).items())):
        world.subject(b.identity).delete(key)
    assert world.run("from_container", a.tcp(version, b), ifindex=a.ifindex).drop == "POLICY"
    world.rule(b.identity, INGRESS, peer=RULED)
    drop = world.run("from_container", a.tcp(version, b), ifindex=a.ifindex).drop
    assert drop == ("" if mode == "pods" else "POLICY")


@FAMILIES
def test_the_world_is_not_meant_twice(world: PacketBench, mode: str, a: Any, version: int) -> None:
    """An address outside has its own identity for that: the entry beside is not looked at."""
    outside = {4: "203.0.113.7", 6: "2001:db8::7"}[version]
    name(world, {4: "203.0.113.0/24", 6: "2001:db8::/32"}[version])
    world.rule(a.identity, EGRESS, peer=RULED)
    sent = a.frame(version, outside) / TCP(dport=80)
    assert world.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"
    world.rule(a.identity, EGRESS, peer={4: 9, 6: 10}[version])
    assert world.run("from_container", sent, ifindex=a.ifindex).verdict == OK


UNKNOWN = 2
"""``AXO_POLICY_DENY_UNKNOWN``"""


@FAMILIES
def test_a_prefix_opens_the_way_to_peers_that_policy_has_met(
    world: PacketBench, mode: str, a: Any, b: Any, version: int
) -> None:
    """Where some peers are denied, one that is new may be one of them, in a named prefix too."""
    peer, target = (b.identity, b.ip(version)) if mode == "pods" else (6, NODES[version])
    world.rule(a.identity, EGRESS, peer=RULED, deny=UNKNOWN)

    def drop() -> str:
        return world.run("from_container", a.tcp(version, target), ifindex=a.ifindex).drop

    assert drop() == "POLICY"
    world.rule(0, INGRESS, peer=peer)
    assert drop() == ""
