"""Three answers to one question: the reference, which reads manifests, the engine's entries, and
the packet path's programs.

The reference was written from the documentation alone. Whatever they are given here is generated.
For a long run::

    python -m tests.policy.agreement --cases 100000 --seed 1 --share 0.05 --program
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tests import world
from axoneme.plugins.policy.tests.strategies import PACKETS, PEERS, PODS, policy_lists
from tests.policy.program import Program
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


HOST = dict.fromkeys(map(ip_address, HERE), 1)
PLACES = dict.fromkeys(map(ip_address, THERE), 6)


def compare(
    listed: list[dict[str, Any]],
    counts: Counter[str],
    program: Program | None = None,
    *,
    share: float = 1.0,
) -> None:
    """Every subject, peer, direction and packet, or a ``share`` of them; an assertion names the
    first difference. With ``program`` the kernel is asked as well."""
    engine = world.Cluster(PODS, Settings(allow_localhost=False))
    for manifest in listed:
        engine.apply(manifest)
        counts[manifest["kind"]] += 1
    engine.engine.flush()
    if program is not None:
        pods = {a: engine.number(p) for p in PODS for a in addresses(p)}
        program.fill(engine.engine, engine.prefixes, {**PLACES, **pods})
    chance = random.Random(repr(listed))
    for subject in PODS:
        if program is not None:
            program.subject(engine.number(subject), tuple(addresses(subject)))
        for question in questions(subject):
            if share < 1.0 and chance.random() >= share:
                continue
            _ask(listed, counts, engine, program, question)
    if program is not None:
        program.check_drops()
    counts["cases"] += 1


Asked = tuple[Any, str, Any, reference.Address, reference.Address, str, int]
"""Subject, direction, peer, address of each end, protocol, port."""


def questions(subject: Any) -> Iterator[Asked]:
    """All that is asked of one pod."""
    for direction, peer, (proto, port) in product(("ingress", "egress"), PEERS, PACKETS):
        for other in addresses(peer):
            if {"ICMP": 4, "ICMPv6": 6}.get(proto, other.version) != other.version:
                continue
            own = next(a for a in addresses(subject) if a.version == other.version)
            source, target = (other, own) if direction == "ingress" else (own, other)
            yield subject, direction, peer, source, target, proto, port


def _ask(
    listed: list[dict[str, Any]],
    counts: Counter[str],
    engine: world.Cluster,
    program: Program | None,
    question: Asked,
) -> None:
    subject, direction, peer, source, target, proto, port = question
    found = engine.allows(subject, direction, peer, proto, port)
    answer = evaluate(DESCRIBED, listed, Packet(source, target, proto, port), direction)
    counts[answer.verdict] += 1
    counts["questions"] += 1
    where = (
        f"{direction} of {subject.namespace}/{subject.name}, {source} to {target} {port}/{proto}"
    )
    assert (answer.verdict != "deny") == found, (
        f"{where}: the reference says {answer.verdict} ({answer.decided_by or answer.why}), "
        f"the engine {'allow' if found else 'deny'}, of {listed}"
    )
    if program is not None and source != target:
        counts["packets"] += 1
        passed = program.allows(source, target, proto, port)
        assert passed == found, (
            f"{where}: the program {'lets it pass' if passed else 'drops it'}, reference and "
            f"engine say {answer.verdict}, of {listed}"
        )


def main() -> None:
    """A long run, its counts at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the questions of a case")
    parser.add_argument("--program", action="store_true", help="ask the kernel too; needs root")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    chance = random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        program = None
        if options.program:
            cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="axot")))
            program = stack.enter_context(Program.loaded(cache, HOST))

        @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck),
                  database=None)  # fmt: skip
        @given(cases())
        def batch(listed: list[dict[str, Any]]) -> None:
            compare(listed, counts, program, share=options.share)

        began = time.monotonic()
        while counts["cases"] < options.cases:
            seed(chance.getrandbits(32))(batch)()
            print(f"{time.monotonic() - began:.0f} s {dict(counts)}", flush=True)


if __name__ == "__main__":
    main()
