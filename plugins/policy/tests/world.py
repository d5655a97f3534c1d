"""A small cluster for tests: pods to identities, addresses to identities, as the core would."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from axoneme.core.identities.reserved import cidr_labels, reserved_identities, world_identity
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import K8S, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Label, LabelSet
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.plugins.policy.decode.kinds import decode_object
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import EGRESS, INGRESS, lookup
from axoneme.plugins.policy.prefixes import BOTH, EVERY_IPV4, EVERY_IPV6, facts_of
from axoneme.plugins.policy.selectors import Prefix
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.terms import rule_prefixes
from axoneme.plugins.policy.tests.policy_reference import PROTOCOLS, Peer, Pod

NUMBERS = {"host": 1, "remote-node": 6}


def as_object(manifest: dict[str, Any]) -> ClusterObject:
    """A manifest as the store hands it out."""
    metadata = manifest["metadata"]
    key = ObjectKey(manifest["kind"], metadata.get("namespace", ""), metadata["name"])
    return ClusterObject(key, manifest["apiVersion"], body=manifest)


def decode(manifest: dict[str, Any]) -> list[Any]:
    """The rules of a manifest of any of the three kinds."""
    rules = decode_object(as_object(manifest))
    assert rules is not None
    return rules


def pod_labels(pod: Pod) -> LabelSet:
    """Identity labels of a pod."""
    labels = [Label(K8S, k, v) for k, v in pod.labels.items()]
    labels += [
        Label(K8S, f"{NAMESPACE_LABEL_PREFIX}.{k}", v) for k, v in pod.namespace_labels.items()
    ]
    return LabelSet.of([*labels, Label(K8S, NAMESPACE_KEY, pod.namespace)])


class Cluster:
    """An engine fed with pods and policies, and the ipcache that goes with it."""

    def __init__(
        self,
        pods: Iterable[Pod],
        settings: Settings | None = None,
        families: tuple[int, ...] = BOTH,
    ) -> None:
        self.families = families
        self.engine = PolicyEngine(settings)
        self.numbers: dict[LabelSet, int] = {}
        self.pods: dict[int, list[Pod]] = {}
        both = len(families) > 1
        self.prefixes: dict[Prefix, int] = {
            every: int(world_identity(every.version, dual_stack=both))
            for every in (EVERY_IPV4, EVERY_IPV6)
            if every.version in families
        }
        for row in reserved_identities():
            self._put(row)
        for pod in pods:
            self.add_pod(pod)

    def number(self, peer: Peer) -> int:
        """The identity behind a peer; for an address that of its longest known prefix."""
        if isinstance(peer, str):
            return NUMBERS[peer]
        if isinstance(peer, IPv4Address | IPv6Address):
            covering = [p for p in self.prefixes if p.version == peer.version and peer in p]
            return self.prefixes[max(covering, key=lambda p: p.prefixlen)]
        return self.numbers[pod_labels(peer)]

    def add_pod(self, pod: Pod) -> None:
        labels = pod_labels(pod)
        number = self.numbers.setdefault(labels, 256 + len(self.numbers))
        self.pods.setdefault(number, []).append(pod)
        self.engine.upsert_identity(number, labels)
        self._ports(number)

    def remove_pod(self, pod: Pod) -> None:
        number = self.number(pod)
        self.pods[number].remove(pod)
        self._ports(number)
        if not self.pods[number]:
            self.engine.remove_subject(number)
            self.engine.remove_identity(number)

    def apply(self, manifest: dict[str, Any]) -> None:
        rules = decode(manifest)
        for rule in rules:
            for prefix in rule_prefixes(rule):
                if prefix not in self.prefixes and prefix not in (EVERY_IPV4, EVERY_IPV6):
                    self.add_prefix(prefix, (1 << 24) + len(self.prefixes))
        self.engine.set_rules(as_object(manifest).key, rules)

    def add_prefix(self, prefix: Prefix, number: int) -> None:
        self.prefixes[prefix] = number
        labels = cidr_labels(prefix, dual_stack=len(self.families) > 1)
        self._put(Identity(number, labels, "cidr"))

    def _put(self, row: Identity) -> None:
        self.engine.upsert_identity(row.id, *facts_of(row, self.families))

    def delete(self, manifest: dict[str, Any]) -> None:
        self.engine.set_rules(as_object(manifest).key, [])

    def allows(self, subject: Pod, direction: str, peer: Peer, proto: str, port: int) -> bool:
        """The verdict of the packet path's look-ups over the computed entries."""
        self.engine.flush()
        entries = self.engine.entries(self.number(subject))
        way = INGRESS if direction == "ingress" else EGRESS
        number = self.number(peer)
        known = number in self.engine.selectors
        found = lookup(entries, number, way, PROTOCOLS[proto], port, known=known)
        return found is not None and not found.deny

    def _ports(self, number: int) -> None:
        pods = [
            [NamedPort(name, port, proto) for name, (proto, port) in pod.ports.items()]
            for pod in self.pods[number]
        ]
        if pods:
            self.engine.set_subject(number, pods)
        self.engine.set_peer_ports(number, pods)
