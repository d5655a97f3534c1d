"""Who the peers of one item of a Cilium policy are (reference §2.2)."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from axoneme.core.model.labels import ANY, K8S, NAMESPACE_KEY, NODE, RESERVED
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import (
    CidrGroupPeer,
    CidrPeer,
    Direction,
    FqdnPeer,
    Operator,
    Reference,
    Requirement,
    Selector,
    ServicePeer,
)
from axoneme.plugins.policy.decode.entities import NAMES, entity
from axoneme.plugins.policy.decode.fields import Node, cidr_peer, excepted
from axoneme.plugins.policy.decode.labels import (
    IN_SOME_NAMESPACE,
    cilium_terms,
    in_namespace,
    kubernetes_terms,
    names_namespace,
    names_reserved,
    selector,
)
from axoneme.plugins.policy.decode.names import fqdn_peer

FIELDS: Final = {
    Direction.INGRESS: (
        *("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes", "fromGroups"),
        "fromRequires",
    ),
    Direction.EGRESS: (
        *("toEndpoints", "toCIDR", "toCIDRSet", "toEntities", "toServices", "toFQDNs", "toNodes"),
        *("toGroups", "toRequires"),
    ),
}
NOT_IN_DENY: Final = ("toFQDNs",)

HOST: Final = Requirement(RESERVED, "host", Operator.EXISTS)
NOT_HOST: Final = Requirement(RESERVED, "host", Operator.DOES_NOT_EXIST)
"""The node itself is selected by ``nodeSelector`` alone."""
REMOTE_NODE: Final = Requirement(RESERVED, "remote-node", Operator.EXISTS)

_NAME: Final = 253


@frozen
class Peers:
    """The peers of an item; all ``None``: none are stated."""

    selectors: tuple[Selector, ...] | None = None
    cidrs: tuple[CidrPeer, ...] | None = None
    fqdns: tuple[FqdnPeer, ...] | None = None
    references: tuple[Reference, ...] | None = None


NOBODY: Final = Peers(selectors=())


def decode_peers(obj: ClusterObject, item: Node, field: str) -> Peers:
    """The peers under one field of an item."""
    node = item.get(field)
    nodes = list(node.items())
    match field.removeprefix("from").removeprefix("to"):
        case "Endpoints":
            return Peers(selectors=tuple(_endpoints(obj, n) for n in nodes))
        case "Entities":
            words = [n.choice(*NAMES) for n in nodes]
            return Peers(selectors=tuple(s for w in words for s in entity(w)))
        case "CIDR":
            return Peers(cidrs=tuple(CidrPeer(n.prefix()) for n in nodes))
        case "CIDRSet":
            sets = [_cidr_set(n) for n in nodes]
            return Peers(
                cidrs=tuple(s for s in sets if isinstance(s, CidrPeer)),
                references=tuple(s for s in sets if isinstance(s, CidrGroupPeer)),
            )
        case "FQDNs":
            return Peers(fqdns=tuple(fqdn_peer(n) for n in nodes))
        case "Services":
            return Peers(references=tuple(_service(obj, n) for n in nodes))
        case "Nodes":
            return Peers(selectors=tuple(s for n in nodes for s in _nodes(n)))
        case "Requires":
            if nodes:
                raise node.error("is not supported any more", hint="removed in Cilium 1.19")
            return NOBODY
    for group in nodes:
        _group(group)
    raise node.unenforceable(field)


def _endpoints(obj: ClusterObject, node: Node) -> Selector:
    """A peer selector, confined to pods unless it demands a reserved label.

    Of a policy's own namespace, or in a clusterwide policy of any, unless it says which: endpoints
    are pods, not nodes or the world, whatever the absence of a label would let in
    (CVE-2023-41333, CVE-2025-30163).
    """
    terms = cilium_terms(node)
    if names_reserved(terms):
        return selector(*terms)
    if obj.key.namespace and not names_namespace(terms):
        return selector(*terms, in_namespace(obj.key.namespace))
    if any(t.source == K8S and t.key == NAMESPACE_KEY and t.operator == Operator.IN for t in terms):
        return selector(*terms)
    return selector(*terms, IN_SOME_NAMESPACE)


def node_terms(node: Node) -> list[Requirement]:
    """The terms of a node selector: labels of nodes, whatever source was written."""
    return [
        Requirement(NODE, t.key, t.operator, t.values) if t.source in (ANY, K8S) else t
        for t in cilium_terms(node)
    ]


def _nodes(node: Node) -> list[Selector]:
    """This node and the others; the class of the identity is part of the match, so that a pod with
    the same labels is never meant (CVE-2025-30163)."""
    terms = node_terms(node)
    return [selector(*terms, HOST), selector(*terms, REMOTE_NODE)]


def _cidr_set(node: Node) -> CidrPeer | CidrGroupPeer:
    fields = node.mapping("cidr", "cidrGroupRef", "cidrGroupSelector", "except")
    given = [f for f in ("cidr", "cidrGroupRef", "cidrGroupSelector") if f in fields]
    if len(given) != 1:
        raise node.error("needs exactly one of cidr, cidrGroupRef, cidrGroupSelector")
    if given[0] == "cidr":
        return cidr_peer(node.get("cidr"), node.get("except"))
    cut = excepted(node.get("except"))
    if given[0] == "cidrGroupRef":
        return CidrGroupPeer(name=_object_name(node.get("cidrGroupRef")), excepts=cut)
    terms = kubernetes_terms(node.get("cidrGroupSelector"))
    return CidrGroupPeer(selector=selector(*terms), excepts=cut)


def _service(obj: ClusterObject, node: Node) -> ServicePeer:
    fields = node.mapping("k8sService", "k8sServiceSelector")
    if len(fields) != 1:
        raise node.error("needs exactly one of k8sService, k8sServiceSelector")
    if "k8sService" in fields:
        named = node.get("k8sService")
        named.mapping("serviceName", "namespace")
        if not named.get("serviceName").present:
            raise named.get("serviceName").error("is required")
        namespace = _namespace(named) or obj.key.namespace or "default"
        return ServicePeer(namespace, _object_name(named.get("serviceName")))
    chosen = node.get("k8sServiceSelector")
    chosen.mapping("selector", "namespace")
    if not chosen.get("selector").present:
        raise chosen.get("selector").error("is required")
    terms = kubernetes_terms(chosen.get("selector"))
    namespace = _namespace(chosen) or obj.key.namespace
    return ServicePeer(namespace, selector=selector(*terms))


def _namespace(node: Node) -> str:
    field = node.get("namespace")
    return field.text(most=63) if field.present else ""


def _object_name(node: Node) -> str:
    name = node.text(most=_NAME)
    if not name:
        raise node.error("is empty")
    return name


def _group(node: Node) -> None:
    """A group of a cloud: its schema, so that mistakes are told."""
    node.mapping("aws")
    aws = node.get("aws")
    if not aws.present:
        return
    aws.mapping("labels", "region", "securityGroupsIds", "securityGroupsNames")
    if aws.get("labels").present:
        labels = aws.get("labels")
        for key in labels.mapping():
            labels.get(key).text()
    if aws.get("region").present:
        aws.get("region").text(most=63)
    for name in ("securityGroupsIds", "securityGroupsNames"):
        for item in aws.get(name).items():
            item.text(most=255)
