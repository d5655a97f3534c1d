"""Reads manifests of each kind into the one question: which rules of whom select this packet, and to what end.

A ``Match`` says that a rule speaks of the packet. ``place`` orders rules within a tier where order counts
(ClusterNetworkPolicy: priority, then position); the namespaced kinds share one place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from . import peers, ports
from .cluster import Address, Cluster, Node, Outside, Pod
from .selectors import View, cilium_matches, kubernetes_matches, pod_labels

ADMIN, NORMAL, BASELINE = 0, 1, 2
Manifest = dict[str, Any]


@attrs.frozen
class Packet:
    """The first packet of a connection. ``port`` is the destination port, or the ICMP type; host order."""

    source: Address
    destination: Address
    protocol: str
    port: int = 0


@attrs.frozen
class Match:
    """A rule that speaks of the packet: action is allow, deny, pass or redirect (with its DNS rules)."""

    policy: str
    path: str
    action: str
    tier: int = NORMAL
    place: tuple[int, int] = (0, 0)
    patterns: frozenset[str] = frozenset()


@attrs.frozen
class Question:
    """One side of a connection: may ``subject`` send to (egress) or hear from (ingress) ``peer``?"""

    cluster: Cluster
    subject: Pod
    peer: Pod | Node | Outside
    address: Address  # the peer's address in this packet
    direction: str  # "ingress" or "egress"
    packet: Packet

    @property
    def owner(self) -> Pod | Node | Outside:
        """Who owns the destination port, hence its name."""
        return self.subject if self.direction == "ingress" else self.peer


@attrs.frozen
class Reading:
    """What one policy says about a question: whether it denies by default, and the rules that match."""

    policy: str
    enforces: bool
    matches: tuple[Match, ...] = ()


def key_of(manifest: Manifest) -> str:
    """``Kind namespace/name``, or ``Kind name`` for objects of the cluster."""
    meta = manifest["metadata"]
    cluster_scoped = manifest["kind"] in ("CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy")
    name = (
        meta["name"] if cluster_scoped else f"{meta.get('namespace') or 'default'}/{meta['name']}"
    )
    return f"{manifest['kind']} {name}"


def read(manifest: Manifest, question: Question) -> list[Reading]:
    """All that a manifest says about a question; nothing when it does not select the subject."""
    settings = question.cluster.settings
    match manifest["kind"]:
        case "NetworkPolicy":
            return _network_policy(manifest, question) if settings.network_policy else []
        case "CiliumNetworkPolicy":
            return _cilium(manifest, question) if settings.cilium_network_policy else []
        case "CiliumClusterwideNetworkPolicy":
            return _cilium(manifest, question) if settings.cilium_clusterwide_network_policy else []
        case "ClusterNetworkPolicy":
            return (
                _cluster_network_policy(manifest, question)
                if settings.cluster_network_policy
                else []
            )
    return []


def _network_policy(manifest: Manifest, question: Question) -> list[Reading]:
    """https://kubernetes.io/docs/concepts/services-networking/network-policies/."""
    spec, key = manifest.get("spec") or {}, key_of(manifest)
    namespace = manifest["metadata"].get("namespace") or "default"
    subject, direction = question.subject, question.direction
    if subject.reserved or subject.namespace != namespace:
        return []
    if not kubernetes_matches(spec.get("podSelector"), subject.labels):
        return []
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    if direction.capitalize() not in types:
        return []
    matches = []
    for index, rule in enumerate(spec.get(direction) or ()):
        items = rule.get("from" if direction == "ingress" else "to")
        l3 = not items or any(
            peers.network_policy_peer(
                question.cluster, item, question.peer, question.address, namespace
            )
            for item in items
        )
        packet, listed = question.packet, rule.get("ports")
        l4 = not listed or any(
            ports.kubernetes_port(item, packet.protocol, packet.port, question.owner)
            for item in listed
        )
        if l3 and l4:
            matches.append(Match(key, f"spec.{direction}[{index}]", "allow"))
    return [Reading(key, enforces=True, matches=tuple(matches))]


def _cilium(manifest: Manifest, question: Question) -> list[Reading]:
    """CiliumNetworkPolicy and its clusterwide form: ``spec``, ``specs`` or both."""
    key, meta = key_of(manifest), manifest["metadata"]
    clusterwide = manifest["kind"] == "CiliumClusterwideNetworkPolicy"
    view = View("" if clusterwide else meta.get("namespace") or "default", question.subject.node)
    named = [("spec", manifest["spec"])] if manifest.get("spec") else []
    named += [(f"specs[{index}]", spec) for index, spec in enumerate(manifest.get("specs") or ())]
    return [
        _cilium_rule(key, path, spec, question, view)
        for path, spec in named
        if _subject(spec, question, view)
    ]


def _subject(spec: Manifest, question: Question, view: View) -> bool:
    """The namespace of a namespaced policy always binds: no selector and no expression escapes it."""
    selector = spec.get("endpointSelector")
    if selector is None:
        return False
    subject = question.subject
    if view.namespace and (subject.reserved or subject.namespace != view.namespace):
        return False
    return cilium_matches(selector, pod_labels(question.cluster, subject))


def _cilium_rule(key: str, path: str, spec: Manifest, question: Question, view: View) -> Reading:
    matches: list[Match] = []
    enforces = False
    for section, action in ((question.direction, "allow"), (question.direction + "Deny", "deny")):
        for index, rule in enumerate(spec.get(section) or ()):
            enforces = True
            matches += _cilium_matches(
                key, f"{path}.{section}[{index}]", action, rule, question, view
            )
    wish = (spec.get("enableDefaultDeny") or {}).get(question.direction)
    if wish is not None and (wish or question.cluster.settings.non_default_deny):
        enforces = wish
    return Reading(key, enforces, tuple(matches))


def _cilium_matches(
    key: str, path: str, action: str, rule: Manifest, question: Question, view: View
) -> Iterator[Match]:
    """A rule with neither peers nor ports says nothing; without peers anyone is meant, without ports anything."""
    l3 = peers.cilium_peers(question.cluster, rule, question.peer, question.address, view)
    to_ports, icmps = rule.get("toPorts") or (), rule.get("icmps") or ()
    if l3 is False or (l3 is None and not to_ports and not icmps):
        return
    if not to_ports and not icmps:
        yield Match(key, path, action)
    packet = question.packet
    for icmp in icmps:
        if any(
            ports.icmp_field(item, packet.protocol, packet.port, packet.destination)
            for item in icmp["fields"]
        ):
            yield Match(key, path, action)
    for block in to_ports:
        listed = block.get("ports") or ()
        if any(
            ports.cilium_port(item, packet.protocol, packet.port, question.owner) for item in listed
        ):
            dns = (block.get("rules") or {}).get("dns")
            if dns is None:
                yield Match(key, path, action)
            else:
                yield Match(
                    key, path, "redirect", patterns=frozenset(_dns_pattern(item) for item in dns)
                )


def _dns_pattern(item: Manifest) -> str:
    return str(item.get("matchName") or item["matchPattern"]).lower().rstrip(".")


def _cluster_network_policy(manifest: Manifest, question: Question) -> list[Reading]:
    """policy.networking.k8s.io/v1alpha2; never denies by default."""
    spec, key, direction = manifest["spec"], key_of(manifest), question.direction
    if not peers.cluster_policy_pods(question.cluster, spec["subject"], question.subject):
        return []
    tier = {"Admin": ADMIN, "Baseline": BASELINE}[spec["tier"]]
    matches = []
    for index, rule in enumerate(spec.get(direction) or ()):
        items = rule["from" if direction == "ingress" else "to"]
        packet, listed = question.packet, rule.get("protocols")
        l3 = any(
            peers.cluster_policy_peer(question.cluster, i, question.peer, question.address)
            for i in items
        )
        l4 = not listed or any(
            ports.cluster_protocol(item, packet.protocol, packet.port, question.owner)
            for item in listed
        )
        if l3 and l4:
            action = {"Accept": "allow", "Deny": "deny", "Pass": "pass"}[rule["action"]]
            place = (spec["priority"], index)
            matches.append(Match(key, f"spec.{direction}[{index}]", action, tier, place))
    return [Reading(key, enforces=False, matches=tuple(matches))]
