"""``policy.networking.k8s.io/v1alpha2`` ClusterNetworkPolicy as rules.

Rules of one policy are asked in the order in which they stand, policies by priority, tiers in the
order Admin, namespaces' policies, Baseline. A policy of this kind enforces nothing by itself: what
none of its rules matches is left to the next one.
"""

from __future__ import annotations

import re
from typing import Final

from axoneme.core.dns_names import canonical
from axoneme.core.model.labels import NODE
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import (
    MAX_PRIORITY,
    Action,
    CidrPeer,
    Direction,
    FqdnPeer,
    Origin,
    PortRange,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from axoneme.plugins.policy.decode.fields import Node, shown
from axoneme.plugins.policy.decode.labels import kubernetes_terms, namespace_terms, selector
from axoneme.plugins.policy.decode.peers import HOST, REMOTE_NODE, Peers
from axoneme.plugins.policy.l4 import PROTOCOLS

KIND: Final = "ClusterNetworkPolicy"
MAX_RULES: Final = 25
MAX_NAME: Final = 100

_ACTIONS: Final = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_TIERS: Final = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_PEERS: Final = {
    Direction.INGRESS: ("from", ("namespaces", "pods")),
    Direction.EGRESS: ("to", ("namespaces", "pods", "nodes", "networks", "domainNames")),
}
_NAMELESS: Final = ("nodes", "networks", "domainNames")
_PART = "[a-z0-9]([-a-z0-9_]*[a-z0-9])?"
_DOMAIN = re.compile(rf"(\*\.)?({_PART}\.)+{_PART}")


def decode_cluster_policy(obj: ClusterObject) -> list[Rule]:
    """The rules of a ClusterNetworkPolicy, in order."""
    spec = Node(str(obj.key), "", obj.body, nulls=True).get("spec")
    if not spec.present:
        raise spec.error("is required")
    spec.mapping("tier", "priority", "subject", "ingress", "egress")
    for name in ("tier", "priority", "subject"):
        if not spec.get(name).present:
            raise spec.get(name).error("is required")
    tier = _TIERS[spec.get("tier").choice(*_TIERS)]
    priority = spec.get("priority").number(0, MAX_PRIORITY)
    subject = _subject(spec.get("subject"))
    rules: list[Rule] = []
    for direction in Direction:
        items = spec.get(direction.value).items(most=MAX_RULES)
        for order, item in enumerate(items):
            who, action, ports = _item(item, direction)
            rules.append(
                Rule(
                    Origin(obj.key, item.path),
                    subject,
                    direction,
                    selectors=who.selectors,
                    cidrs=who.cidrs,
                    fqdns=who.fqdns,
                    ports=ports,
                    action=action,
                    default_deny=False,
                    tier=tier,
                    priority=priority,
                    order=order,
                )
            )
    return rules


def _subject(node: Node) -> Selector:
    fields = node.mapping("namespaces", "pods")
    if len(fields) != 1:
        raise node.error("needs exactly one of namespaces and pods")
    return _pods(node)


def _pods(node: Node) -> Selector:
    """Pods by their namespaces, or by namespaces and labels."""
    namespaces = node.get("namespaces")
    if namespaces.present:
        return selector(*namespace_terms(namespaces))
    pods = node.get("pods")
    pods.mapping("namespaceSelector", "podSelector")
    if not pods.get("podSelector").present:
        raise pods.get("podSelector").error("is required")
    chosen = pods.get("namespaceSelector")
    if not chosen.present:
        chosen = Node(pods.obj, f"{pods.path}.namespaceSelector", {})
    return selector(*kubernetes_terms(pods.get("podSelector")), *namespace_terms(chosen))


def _item(item: Node, direction: Direction) -> tuple[Peers, Action, tuple[PortRange, ...] | None]:
    field, known = _PEERS[direction]
    item.mapping("name", "action", field, "protocols")
    if item.get("name").present:
        item.get("name").text(most=MAX_NAME)
    for name in ("action", field):
        if not item.get(name).present:
            raise item.get(name).error("is required")
    action = _ACTIONS[item.get("action").choice(*_ACTIONS)]
    listed = list(item.get(field).items(most=MAX_RULES))
    if not listed:
        raise item.get(field).error("needs at least one peer")
    who = _peers(listed, known, action)
    protocols = item.get("protocols")
    if not protocols.present:
        return who, action, None
    nameless = next(filter(_has_no_ports, listed), None)
    ports = [_protocol(n, nameless) for n in protocols.items(most=MAX_RULES)]
    if not ports:
        raise protocols.error("needs at least one protocol")
    return who, action, tuple(ports)


def _has_no_ports(peer: Node) -> bool:
    return any(peer.get(name).present for name in _NAMELESS)


def _peers(nodes: list[Node], known: tuple[str, ...], action: Action) -> Peers:
    selectors: list[Selector] = []
    cidrs: list[CidrPeer] = []
    fqdns: list[FqdnPeer] = []
    for node in nodes:
        fields = node.mapping(*known)
        if len(fields) != 1:
            raise node.error(f"needs exactly one of {', '.join(known)}")
        if "nodes" in fields:
            selectors += _nodes(node.get("nodes"))
        elif "networks" in fields:
            cidrs += [CidrPeer(n.prefix()) for n in _some(node.get("networks"))]
        elif "domainNames" in fields:
            names = node.get("domainNames")
            if action != Action.ALLOW:
                raise names.error("goes with action Accept only")
            fqdns += [_domain(n) for n in _some(names)]
        else:
            selectors.append(_pods(node))
    return Peers(tuple(selectors), tuple(cidrs), tuple(fqdns) or None)


def _some(node: Node) -> list[Node]:
    found = list(node.items(most=MAX_RULES))
    if not found:
        raise node.error("needs at least one item")
    return found


def _nodes(node: Node) -> list[Selector]:
    terms = [Requirement(NODE, t.key, t.operator, t.values) for t in kubernetes_terms(node)]
    return [selector(*terms, HOST), selector(*terms, REMOTE_NODE)]


def _domain(node: Node) -> FqdnPeer:
    """A star stands for one or more labels here."""
    text = canonical(node.text(most=253))
    if not _DOMAIN.fullmatch(text):
        raise node.error(f"{shown(node.value)} is no domain name")
    return FqdnPeer(pattern=f"*{text}") if text.startswith("*.") else FqdnPeer(name=text)


def _protocol(node: Node, nameless: Node | None) -> PortRange:
    fields = node.mapping("tcp", "udp", "sctp", "destinationNamedPort")
    if len(fields) != 1:
        raise node.error("needs exactly one of tcp, udp, sctp, destinationNamedPort")
    [name] = fields
    if name == "destinationNamedPort":
        if nameless is not None:
            raise node.get(name).error("does not go with nodes, networks or domainNames")
        return PortRange(0, name=node.get(name).port_name())
    body = node.get(name)
    body.mapping("destinationPort")
    port = body.get("destinationPort")
    if not port.present:
        raise body.error("needs destinationPort")
    given = port.mapping("number", "range")
    if len(given) != 1:
        raise port.error("needs exactly one of number and range")
    protocol = PROTOCOLS[name.upper()]
    if "number" in given:
        number = port.get("number").number(1, 65535)
        return PortRange(protocol, number, number)
    span = port.get("range")
    span.mapping("start", "end")
    for edge in ("start", "end"):
        if not span.get(edge).present:
            raise span.get(edge).error("is required")
    first, last = (span.get(edge).number(1, 65535) for edge in ("start", "end"))
    if last <= first:
        raise span.get("end").error(f"{last} is not more than start {first}")
    return PortRange(protocol, first, last)
