"""Two answers to one question: the reference, which reads manifests, and the engine's entries.

The reference was written from the documentation alone. Whatever both are given here is generated;
the entries are looked up as the packet path looks them up, which a test of its own proves equal to
the program. For a long run::

    python -m tests.policy.agreement --cases 100000 --seed 1
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tests import world
from axoneme.plugins.policy.tests.strategies import PACKETS, PEERS, PODS, policy_lists
from tests.policy.reference import cluster as reference
from tests.policy.reference.evaluate import evaluate
from tests.policy.reference.kinds import Packet

RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

HERE = ("172.18.0.2", "fd00:172:18::2")
THERE = ("172.18.0.3", "fd00:172:18::3")
OUTSIDE = {4: ip_address("192.0.2.200"), 6: ip_address("2001:db8::200")}

NAMESPACES = [{}, {"matchLabels": {"team": "a"}}, {"matchLabels": {"team": "b"}}]
NAMESPACES.append({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]})
SELECTORS = [{}, {"matchLabels": {"app": "x"}}, {"matchLabels": {"tier": "2"}}]
NETWORKS = [["0.0.0.0/0"], ["10.1.0.0/16", "fd00:1::/32"], ["::/0"], ["192.0.2.9/32"]]
PROTOCOLS = [
    {"tcp": {"destinationPort": {"number": 80}}},
    {"tcp": {"destinationPort": {"range": {"start": 79, "end": 443}}}},
    {"udp": {"destinationPort": {"number": 53}}},
    {"destinationNamedPort": "web"},
]


def _pods(draw: Any) -> dict[str, Any]:
    if draw(st.booleans()):
        return {"namespaces": draw(st.sampled_from(NAMESPACES))}
    chosen = {"namespaceSelector": draw(st.sampled_from(NAMESPACES))}
    return {"pods": {**chosen, "podSelector": draw(st.sampled_from(SELECTORS))}}


@st.composite
def cluster_policies(draw: Any, index: int) -> dict[str, Any]:
    """A ClusterNetworkPolicy; its networks only where nothing inside the cluster could be meant."""

    def rule(word: str) -> dict[str, Any]:
        peers = [_pods(draw) for _ in range(draw(st.integers(1, 2)))]
        outside = word == "to" and draw(st.integers(0, 3)) == 0
        if outside:
            peers = [{"networks": draw(st.sampled_from(NETWORKS[1:2] + NETWORKS[3:]))}]
        found: dict[str, Any] = {
            "action": draw(st.sampled_from(["Accept", "Deny", "Pass"])), word: peers
        }  # fmt: skip
        if draw(st.booleans()):
            known = PROTOCOLS[:3] if outside else PROTOCOLS
            found["protocols"] = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2))
        return found

    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": f"c{index}"},
        "spec": {
            "tier": draw(st.sampled_from(["Admin", "Baseline"])),
            "priority": index * 10,  # equal priorities have no defined order
            "subject": _pods(draw),
            "ingress": [rule("from") for _ in range(draw(st.integers(0, 2)))],
            "egress": [rule("to") for _ in range(draw(st.integers(0, 2)))],
        },
    }


@st.composite
def cases(draw: Any) -> list[dict[str, Any]]:
    """Policies of all kinds."""
    listed: list[dict[str, Any]] = draw(policy_lists(3))
    return listed + [draw(cluster_policies(i)) for i in range(draw(st.integers(0, 2)))]


def _described() -> reference.Cluster:
    """The pods of the generators as the reference knows them."""
    pods = []
    spaces: dict[str, dict[str, str]] = {}
    for number, pod in enumerate(PODS, 10):
        spaces[pod.namespace] = dict(pod.namespace_labels)
        ports = tuple(reference.NamedPort(n, proto, p) for n, (proto, p) in pod.ports.items())
        pods.append(
            reference.Pod(
                pod.namespace,
                pod.name,
                "here",
                IPv4Address(f"10.244.0.{number}"),
                IPv6Address(f"fd00:244::{number}"),
                dict(pod.labels),
                ports=ports,
            )
        )
    nodes = tuple(
        reference.Node(name, tuple(map(ip_address, found)))
        for name, found in (("here", HERE), ("there", THERE))
    )
    # What the node's own traffic may beside rules is not said alike everywhere: rules alone decide.
    chosen = reference.Settings(allow_localhost="policy")
    return reference.Cluster(spaces, tuple(pods), nodes, settings=chosen)


DESCRIBED = _described()
KNOWN = dict(zip((id(p) for p in PODS), DESCRIBED.pods, strict=True))


def addresses(peer: Any) -> Sequence[reference.Address]:
    """Every address of a peer of the generators."""
    if isinstance(peer, str):
        return tuple(map(ip_address, HERE if peer == "host" else THERE))
    if isinstance(peer, IPv4Address | IPv6Address):
        return (peer,)
    return KNOWN[id(peer)].addresses


def compare(listed: list[dict[str, Any]], counts: Counter[str]) -> None:
    """Every subject, peer, direction and packet; an assertion names the first difference."""
    engine = world.Cluster(PODS, Settings(allow_localhost=False))
    for manifest in listed:
        engine.apply(manifest)
        counts[manifest["kind"]] += 1
    for subject, direction in product(PODS, ("ingress", "egress")):
        for peer, (proto, port) in product(PEERS, PACKETS):
            found = engine.allows(subject, direction, peer, proto, port)
            for other in addresses(peer):
                if {"ICMP": 4, "ICMPv6": 6}.get(proto, other.version) != other.version:
                    continue
                own = next(a for a in addresses(subject) if a.version == other.version)
                ends = (other, own) if direction == "ingress" else (own, other)
                answer = evaluate(DESCRIBED, listed, Packet(*ends, proto, port), direction)
                counts[answer.verdict] += 1
                counts["questions"] += 1
                assert (answer.verdict != "deny") == found, (
                    f"{direction} of {subject.namespace}/{subject.name}, peer {peer}, "
                    f"{port}/{proto}: the reference says {answer.verdict} "
                    f"({answer.decided_by or answer.why})"
                )
    counts["cases"] += 1


def main() -> None:
    """A long run, its counts at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    chance = random.Random(options.seed)

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck),
              database=None)  # fmt: skip
    @given(cases())
    def batch(listed: list[dict[str, Any]]) -> None:
        compare(listed, counts)

    while counts["cases"] < options.cases:
        seed(chance.getrandbits(32))(batch)()
        print(dict(counts), flush=True)


if __name__ == "__main__":
    main()
