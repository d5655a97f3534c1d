"""``networking.k8s.io/v1`` NetworkPolicy as rules.

Source: Kubernetes API reference, NetworkPolicy v1. Its lists differ from Cilium's: an absent or
empty ``from``, ``to`` or ``ports`` means everything, so ``- {}`` allows all. A field that is
``null`` is absent. Without a ``spec`` every pod of the namespace is selected.
"""

from __future__ import annotations

from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import (
    CidrPeer,
    Direction,
    Origin,
    PortRange,
    Rule,
    Selector,
)
from axoneme.plugins.policy.decode.fields import Node, cidr_peer
from axoneme.plugins.policy.decode.labels import (
    in_namespace,
    kubernetes_terms,
    namespace_terms,
    selector,
)
from axoneme.plugins.policy.l4 import PROTOCOLS

_LISTS = {Direction.INGRESS: ("ingress", "from"), Direction.EGRESS: ("egress", "to")}


def decode_network_policy(obj: ClusterObject) -> list[Rule]:
    """The rules of a NetworkPolicy; an isolated direction has a rule without peers."""
    spec = Node(str(obj.key), "", obj.body, nulls=True).get("spec")
    if not spec.present:
        spec = Node(spec.obj, spec.path, {})
    spec.mapping("podSelector", "ingress", "egress", "policyTypes")
    pods = spec.get("podSelector")
    terms = kubernetes_terms(pods) if pods.present else []
    subject = selector(*terms, in_namespace(obj.key.namespace))
    rules: list[Rule] = []
    for direction in _policy_types(spec):
        name, peers = _LISTS[direction]
        origin = Origin(obj.key, f"spec.{name}")
        rules.append(Rule(origin, subject, direction, selectors=()))
    for direction, (name, peers) in _LISTS.items():
        decoded = [_rule(obj, subject, direction, item, peers) for item in spec.get(name).items()]
        if direction in _policy_types(spec):
            rules += decoded
    return rules


def _policy_types(spec: Node) -> list[Direction]:
    """Stated, or ingress always and egress if there is such a list."""
    stated = spec.get("policyTypes")
    if stated.present and stated.value:
        words = [item.choice("Ingress", "Egress").lower() for item in stated.items(most=2)]
        return [d for d in Direction if d.value in words]
    # Kubernetes sets the default by what is in the list: an empty one says nothing.
    egress = spec.get("egress").present and bool(spec.get("egress").value)
    return [Direction.INGRESS, Direction.EGRESS] if egress else [Direction.INGRESS]


def _rule(
    obj: ClusterObject, subject: Selector, direction: Direction, item: Node, peers_field: str
) -> Rule:
    item.mapping(peers_field, "ports")
    selectors: list[Selector] = []
    cidrs: list[CidrPeer] = []
    anybody = not item.get(peers_field).value or not item.get(peers_field).present
    for peer in () if anybody else item.get(peers_field).items():
        found = _peer(obj, peer)
        (cidrs if isinstance(found, CidrPeer) else selectors).append(found)  # type: ignore[arg-type]
    every_port = not item.get("ports").value or not item.get("ports").present
    ports = None if every_port else tuple(_port(p) for p in item.get("ports").items())
    return Rule(
        Origin(obj.key, item.path),
        subject,
        direction,
        selectors=None if anybody else tuple(selectors),
        cidrs=None if anybody else tuple(cidrs),
        ports=ports,
    )


def _peer(obj: ClusterObject, peer: Node) -> Selector | CidrPeer:
    fields = peer.mapping("podSelector", "namespaceSelector", "ipBlock")
    block = peer.get("ipBlock")
    if block.present:
        if len(fields) > 1:
            raise peer.error("ipBlock stands alone, not beside a selector")
        block.mapping("cidr", "except")
        return cidr_peer(block.get("cidr"), block.get("except"))
    if not fields:
        raise peer.error("names nobody", hint="give podSelector, namespaceSelector or ipBlock")
    pods, namespaces = peer.get("podSelector"), peer.get("namespaceSelector")
    terms = kubernetes_terms(pods) if pods.present else []
    if namespaces.present:
        return selector(*terms, *namespace_terms(namespaces))
    return selector(*terms, in_namespace(obj.key.namespace))


def _port(node: Node) -> PortRange:
    node.mapping("port", "protocol", "endPort")
    protocol = node.get("protocol")
    number = PROTOCOLS[protocol.choice("TCP", "UDP", "SCTP")] if protocol.present else 6
    port, end = node.get("port"), node.get("endPort")
    if not port.present:
        if end.present:
            raise end.error("needs port")
        return PortRange(number)
    if isinstance(port.value, str):
        name = port.port_name()
        if end.present:
            raise end.error("does not go with a port name")
        return PortRange(number, name=name)
    first = port.number(1, 65535)
    last = end.number(1, 65535) if end.present else first
    if last < first:
        raise end.error(f"{last} is less than port {first}")
    return PortRange(number, first, last)
