"""The engine's entries, read as the packet path reads them, against the written reference."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.tests.policy_reference import verdict
from axoneme.plugins.policy.tests.strategies import PACKETS, PEERS, PODS, policies, policy_lists
from axoneme.plugins.policy.tests.world import Cluster

RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=250, deadline=None, suppress_health_check=RELAXED)
@given(policy_lists(), st.sampled_from(PODS), st.sampled_from([(4, 6), (4, 6), (4,), (6,)]))
def test_entries_agree_with_the_reference(
    listed: list[dict[str, Any]], subject: Any, families: tuple[int, ...]
) -> None:
    """Every peer, protocol and port gets the documented verdict, in both directions.

    Deny against allow of any specificity (CVE-2024-47825, CVE-2024-52529), ICMP like any other
    protocol (GHSA-c66w-hq56-4q97), both families (CVE-2023-27594) and one alone.
    """
    cluster = Cluster(PODS, families=families)
    for manifest in listed:
        cluster.apply(manifest)
    for direction in ("ingress", "egress"):
        for peer in [p for p in PEERS if getattr(p, "version", families[0]) in families]:
            for proto, port in PACKETS:
                wanted = verdict(listed, subject, direction, peer, (proto, port))
                found = cluster.allows(subject, direction, peer, proto, port)
                assert found == wanted, (direction, peer, proto, port)


def _contents(engine: PolicyEngine) -> dict[int, Any]:
    return {number: dict(engine.entries(number)) for number in engine.subjects()}


@settings(max_examples=120, deadline=None, suppress_health_check=RELAXED)
@given(st.lists(st.tuples(policies(), st.integers(0, 4)), min_size=2, max_size=8), st.randoms())
def test_incremental_equals_from_scratch(
    steps: list[tuple[dict[str, Any], int]], chance: random.Random
) -> None:
    """After each of many changes the entries are those of an engine that sees the end alone."""
    cluster = Cluster(PODS)
    present: dict[str, dict[str, Any]] = {}
    pods = list(PODS)
    for manifest, number in steps:
        manifest["metadata"]["name"] = f"p{number}"
        name = f"{manifest['kind']} {manifest['metadata']}"
        if chance.random() < 0.3 and present:
            gone = chance.choice(sorted(present))
            cluster.delete(present.pop(gone))
        else:
            cluster.apply(manifest)
            present[name] = manifest
        if chance.random() < 0.3:
            pod = chance.choice(PODS)
            if pod in pods:
                cluster.remove_pod(pod)
                pods.remove(pod)
            else:
                cluster.add_pod(pod)
                pods.append(pod)
        cluster.engine.flush()
        fresh = Cluster([])
        fresh.numbers, fresh.prefixes = cluster.numbers, dict(cluster.prefixes)
        for prefix, identity in cluster.prefixes.items():
            if identity > 10:
                fresh.add_prefix(prefix, identity)
        for pod in pods:
            fresh.add_pod(pod)
        for kept in present.values():
            fresh.apply(kept)
        fresh.engine.flush()
        assert _contents(cluster.engine) == _contents(fresh.engine)


@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
@given(policy_lists(3), st.randoms())
def test_deltas_lead_from_state_to_state(
    listed: list[dict[str, Any]], chance: random.Random
) -> None:
    """What ``flush`` reports, applied to a copy, keeps the copy equal to the engine."""
    cluster = Cluster(PODS)
    copies: dict[int, dict[Any, Any]] = {}

    def follow() -> None:
        for number, delta in cluster.engine.flush().items():
            copy = copies.setdefault(number, {})
            for key in delta.deletes:
                del copy[key]
            copy.update(delta.upserts)
            assert not delta.upserts.keys() & delta.deletes.keys()

    follow()
    for manifest in listed:
        cluster.apply(manifest)
        follow()
    for manifest in chance.sample(listed, len(listed)):
        cluster.delete(manifest)
        follow()
    assert copies == _contents(cluster.engine)
