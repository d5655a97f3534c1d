"""What must not matter: order, names, how rules are spread over policies, who has no part in it.

Each check changes the manifests in a way that means the same and compares every verdict of the
engine; no second evaluator is needed for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from itertools import product
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tests import world
from axoneme.plugins.policy.tests.strategies import PACKETS, PEERS, PODS
from tests.policy.agreement import RELAXED, cases

Manifest = dict[str, Any]
Verdicts = dict[tuple[int, str, int, str, int], bool]

ITEMS = ("ingress", "egress", "ingressDeny", "egressDeny")
CASES = settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)


def verdicts(listed: Iterable[Manifest], pods: list[Any] = PODS) -> Verdicts:
    """Every answer of the engine, by the places of subject and peer in their lists."""
    cluster = world.Cluster(pods, Settings(allow_localhost=False))
    for manifest in listed:
        cluster.apply(manifest)
    peers = [*pods, *PEERS[len(pods) :]]
    asked = product(enumerate(pods), ("ingress", "egress"), enumerate(peers), PACKETS)
    return {
        (s, way, p, proto, port): cluster.allows(subject, way, peer, proto, port)
        for (s, subject), way, (p, peer), (proto, port) in asked
    }


def is_ordered(manifest: Manifest) -> bool:
    """Whether the place of a rule means something."""
    return bool(manifest["kind"] == "ClusterNetworkPolicy")


@CASES
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_policies_and_rules(listed: list[Manifest], chance: Any) -> None:
    """Objects come in any order, and rules of one stand in any, but for ordered kinds."""
    other = deepcopy(listed)
    chance.shuffle(other)
    for manifest in other:
        for name in () if is_ordered(manifest) else ITEMS:
            chance.shuffle(manifest["spec"].get(name) or [])
    assert verdicts(listed) == verdicts(other)


@CASES
@given(cases())
def test_one_policy_or_several(listed: list[Manifest]) -> None:
    """A rule has the same meaning in a policy of its own, which selects and enforces the same."""
    other: list[Manifest] = []
    for manifest in listed:
        other += [manifest] if is_ordered(manifest) else split(manifest)
    assert verdicts(listed) == verdicts(other)


def split(manifest: Manifest) -> list[Manifest]:
    """A policy for each rule; what no rule says (an empty list closes too) stays in the first."""
    spec = manifest["spec"]
    parts = []
    for name in ITEMS:
        for number, item in enumerate(spec.get(name) or []):
            part = deepcopy(manifest)
            part["metadata"]["name"] += f"-{name.lower()}{number}"
            part["spec"] = {k: v for k, v in spec.items() if k not in ITEMS} | {name: [item]}
            if manifest["kind"] == "NetworkPolicy":
                part["spec"]["policyTypes"] = types(spec)
            parts.append(part)
    rest = deepcopy(manifest)
    rest["spec"] = {k: [] if k in ITEMS and v else v for k, v in spec.items()}
    if manifest["kind"] == "NetworkPolicy":
        rest["spec"]["policyTypes"] = types(spec)
        return [rest, *parts]
    # An empty rule allows nobody, and closes as the rules did.
    for name in ITEMS:
        if spec.get(name) and not name.endswith("Deny"):
            rest["spec"][name] = [{}]
            rest["spec"][name] = [{f"{'from' if name == 'ingress' else 'to'}Endpoints": []}]
    kept = any(rest["spec"].get(name) for name in ITEMS)
    return [*([rest] if kept else []), *parts]


def types(spec: dict[str, Any]) -> list[str]:
    """``policyTypes`` as Kubernetes fills it in."""
    given_types = spec.get("policyTypes")
    if given_types:
        return list(given_types)
    return ["Ingress", *(["Egress"] if spec.get("egress") else [])]


@CASES
@given(cases())
def test_a_policy_twice(listed: list[Manifest]) -> None:
    """Under another name it adds nothing; an ordered one stands right behind itself."""
    again = deepcopy(listed)
    for manifest in again:
        manifest["metadata"]["name"] += "-again"
        if is_ordered(manifest):
            manifest["spec"]["priority"] += 1
    assert verdicts(listed) == verdicts([*listed, *again])


@CASES
@given(cases(), cases())
def test_a_policy_of_nobody(listed: list[Manifest], more: list[Manifest]) -> None:
    """What selects no pod changes nothing."""
    for number, manifest in enumerate(more):
        manifest["metadata"]["name"] = f"nobody{number}"
        nobody = {"matchLabels": {"app": "nobody"}}
        spec = manifest["spec"]
        if is_ordered(manifest):
            spec["subject"] = {"pods": {"podSelector": nobody}}
            spec["priority"] = 500 + number
        else:
            name = "podSelector" if manifest["kind"] == "NetworkPolicy" else "endpointSelector"
            spec[name] = nobody
    assert verdicts(listed) == verdicts([*listed, *more])


RENAMED = {"app": "component", "tier": "layer", "team": "squad", "x": "front", "y": "back",
           "red": "crimson", "blue": "azure"}  # fmt: skip


def rename(value: Any) -> Any:
    """A manifest with other labels and namespaces, everywhere alike."""
    if isinstance(value, dict):
        return {rename(k): rename(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rename(v) for v in value]
    if not isinstance(value, str):
        return value
    source, colon, key = value.rpartition(":")
    if key in RENAMED:
        return f"{source}{colon}{RENAMED[key]}"
    return value.replace(".labels.team", ".labels.squad")


def renamed(manifest: Manifest) -> Manifest:
    """The same, but for the one field that is called as a label is."""
    found: Manifest = rename(manifest)
    if is_ordered(manifest):
        found["spec"]["tier"] = found["spec"].pop(RENAMED["tier"])
    return found


@CASES
@given(cases())
def test_names_of_labels_and_namespaces(listed: list[Manifest]) -> None:
    """They are names: only which are equal matters."""
    pods = [
        evolve(
            pod,
            namespace=RENAMED[pod.namespace],
            labels=rename(pod.labels),
            namespace_labels=rename(pod.namespace_labels),
        )
        for pod in PODS
    ]
    assert verdicts(listed) == verdicts(map(renamed, listed), pods)


@pytest.mark.parametrize("kind", ["NetworkPolicy", "CiliumNetworkPolicy"])
def test_the_split_keeps_what_closes(kind: str) -> None:
    """The helper's own check: an empty list of rules still closes its direction."""
    name = "podSelector" if kind == "NetworkPolicy" else "endpointSelector"
    spec = {name: {}, "ingress": [{}]}
    group = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    manifest = {
        "apiVersion": group,
        "kind": kind,
        "metadata": {"name": "p", "namespace": "red"},
        "spec": spec,
    }
    assert verdicts([manifest]) == verdicts(split(manifest))
