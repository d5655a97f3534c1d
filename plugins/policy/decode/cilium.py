"""``cilium.io/v2`` CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy as rules.

Semantics: reference §2.2 and §2.3. In contrast to Kubernetes an item without peers and ports
allows nothing, and an empty list of peers names nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from axoneme.core.model.labels import ANY, K8S, NAMESPACE_KEY, RESERVED
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import (
    Action,
    CidrPeer,
    Direction,
    Operator,
    Origin,
    Requirement,
    Rule,
    Selector,
)
from axoneme.plugins.policy.decode.entities import NAMES, entity
from axoneme.plugins.policy.decode.fields import Node, UnenforceableError, cidr_peer
from axoneme.plugins.policy.decode.labels import (
    IN_SOME_NAMESPACE,
    cilium_terms,
    in_namespace,
    names_namespace,
    names_reserved,
    selector,
)
from axoneme.plugins.policy.decode.ports import decode_icmps, decode_ports

log = logging.getLogger(__name__)

_SPEC: Final = (
    *("endpointSelector", "nodeSelector", "ingress", "ingressDeny", "egress", "egressDeny"),
    *("enableDefaultDeny", "labels", "description", "log"),
)
_LISTS: Final = (
    ("ingress", Direction.INGRESS, False),
    ("ingressDeny", Direction.INGRESS, True),
    ("egress", Direction.EGRESS, False),
    ("egressDeny", Direction.EGRESS, True),
)
_PEERS: Final = {
    Direction.INGRESS: ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities"),
    Direction.EGRESS: ("toEndpoints", "toCIDR", "toCIDRSet", "toEntities"),
}
_LATER: Final = {
    Direction.INGRESS: ("fromNodes", "fromGroups", "fromRequires"),
    Direction.EGRESS: ("toServices", "toFQDNs", "toNodes", "toGroups", "toRequires"),
}
_NOT_IN_DENY: Final = ("toFQDNs", "authentication")

_NAMESPACE_KEYS: Final = (NAMESPACE_KEY, f"{K8S}:{NAMESPACE_KEY}", f"{ANY}:{NAMESPACE_KEY}")

APISERVER: Final = "kube-apiserver"

MAX_LOG: Final = 32


@frozen
class _Context:
    """What the parts of one spec need to know."""

    obj: ClusterObject
    subject: Selector
    stated: Mapping[Direction, bool]
    """``enableDefaultDeny`` where it is given."""


def decode_cilium_policy(obj: ClusterObject) -> list[Rule]:
    """The rules of ``spec`` and ``specs``.

    :class:`UnenforceableError` carries the rules that lock the object's subjects.
    """
    body = Node(str(obj.key), "", obj.body)
    specs = [n for n in (body.get("spec"),) if n.present] + list(body.get("specs").items())
    if not specs:
        raise body.get("spec").error("is required", hint="give spec or specs")
    rules: list[Rule] = []
    locked: list[Rule] = []
    refused: UnenforceableError | None = None
    for spec in specs:
        context, early = _context(obj, spec)
        try:
            if early is not None:
                raise early
            rules += _spec_rules(context, spec)
        except UnenforceableError as error:
            refused = refused or error
        locked += _lockdown(context, spec)
    if refused is not None:
        refused.lockdown = tuple(locked)
        raise refused
    return rules


def _context(obj: ClusterObject, spec: Node) -> tuple[_Context, UnenforceableError | None]:
    """Read what must be good for anything else to make sense; never the rules themselves."""
    spec.mapping(*_SPEC)
    default = spec.get("enableDefaultDeny")
    stated: dict[Direction, bool] = {}
    if default.present:
        default.mapping("ingress", "egress")
        for direction in Direction:
            if default.get(direction.value).present:
                stated[direction] = default.get(direction.value).boolean()
    _check_notes(spec)
    pods, nodes = spec.get("endpointSelector"), spec.get("nodeSelector")
    if pods.present and nodes.present:
        raise nodes.error("stands beside endpointSelector", hint="give one of the two")
    if nodes.present:
        if obj.key.namespace:
            raise nodes.error("belongs in a CiliumClusterwideNetworkPolicy")
        cilium_terms(nodes)
        nobody = selector(Requirement("reserved", "none", Operator.EXISTS))
        return _Context(obj, nobody, stated), nodes.unenforceable(
            "nodeSelector (the host firewall)"
        )
    if not pods.present:
        raise pods.error("is required")
    return _Context(obj, _subject(obj, pods), stated), None


def _check_notes(spec: Node) -> None:
    if spec.get("description").present:
        spec.get("description").text(most=65536)
    for item in spec.get("labels").items():
        item.mapping("key", "source", "value")
    note = spec.get("log")
    if note.present:
        note.mapping("value")
        value = note.get("value")
        if value.present and not value.text(most=MAX_LOG).isprintable():
            raise value.error("must be printable")


def _subject(obj: ClusterObject, node: Node) -> Selector:
    """A namespaced policy selects pods of its own namespace, whatever its terms say."""
    terms = cilium_terms(node)
    own = obj.key.namespace
    if not own:
        return selector(*terms)
    labels: Any = node.get("matchLabels").value if node.get("matchLabels").present else {}
    stated = [k for k in _NAMESPACE_KEYS if labels.get(k, own) != own]
    if stated:
        log.warning(
            "policy names another namespace: its own applies",
            extra={"object": str(obj.key), "field": node.path, "namespace": labels[stated[0]]},
        )
        kept = {k: v for k, v in labels.items() if k not in stated}
        terms = cilium_terms(Node(node.obj, node.path, {**node.value, "matchLabels": kept}))
    return selector(*terms, in_namespace(own))


def _spec_rules(context: _Context, spec: Node) -> list[Rule]:
    rules: list[Rule] = []
    later: UnenforceableError | None = None
    for name, direction, deny in _LISTS:
        for item in spec.get(name).items():
            try:
                rules.append(_item(context, direction, item, deny=deny))
            except UnenforceableError as error:
                later = later or error  # read on: what is plainly wrong is said first
    if later is not None:
        raise later
    if not rules:
        raise spec.error("has no rule", hint="give ingress, ingressDeny, egress or egressDeny")
    for direction, wanted in context.stated.items():
        if wanted and not any(r.direction == direction for r in rules):
            origin = Origin(context.obj.key, f"{spec.path}.enableDefaultDeny.{direction.value}")
            rules.append(Rule(origin, context.subject, direction, selectors=()))
    return rules


def _item(context: _Context, direction: Direction, item: Node, *, deny: bool) -> Rule:
    later, peers = _LATER[direction], _PEERS[direction]
    known = [*peers, *later, "toPorts", "icmps", "authentication"]
    item.mapping(*(k for k in known if not (deny and k in _NOT_IN_DENY)))
    given = [n for n in (*peers, *later) if item.get(n).present]
    if len(given) > 1:
        raise item.error(f"{given[0]} and {given[1]} stand in one item", hint="make it two items")
    if item.get("toPorts").present and item.get("icmps").present:
        raise item.error("toPorts and icmps stand in one item", hint="make it two items")
    selectors, cidrs = _item_peers(context, item, given)
    ports = [
        *decode_ports(item.get("toPorts"), deny=deny),
        *decode_icmps(item.get("icmps")),
    ]
    if given and given[0] in later:
        list(item.get(given[0]).items())
        raise item.get(given[0]).unenforceable(given[0])
    _check_apiserver(item, given, selectors)
    _check_authentication(item)
    if not given and not ports:
        selectors = ()  # an item that says nothing allows nothing: reference §2.2
    return Rule(
        Origin(context.obj.key, item.path),
        context.subject,
        direction,
        selectors=selectors,
        cidrs=cidrs,
        ports=tuple(ports) if ports else None,
        action=Action.DENY if deny else Action.ALLOW,
        default_deny=context.stated.get(direction, True),
    )


def _item_peers(
    context: _Context, item: Node, given: list[str]
) -> tuple[tuple[Selector, ...] | None, tuple[CidrPeer, ...] | None]:
    if not given:
        return None, None
    name = given[0].removeprefix("from").removeprefix("to")
    nodes = list(item.get(given[0]).items())
    if name == "Endpoints":
        return tuple(_peer(context.obj, n) for n in nodes), None
    if name == "Entities":
        words = [n.choice(*NAMES) for n in nodes]
        return tuple(s for w in words for s in entity(w)), None
    if name == "CIDR":
        return (), tuple(CidrPeer(n.prefix()) for n in nodes)
    if name == "CIDRSet":
        return (), tuple(_cidr_set(n) for n in nodes)
    return (), None


def _peer(obj: ClusterObject, node: Node) -> Selector:
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


def _cidr_set(node: Node) -> CidrPeer:
    fields = node.mapping("cidr", "cidrGroupRef", "cidrGroupSelector", "except")
    given = [f for f in ("cidr", "cidrGroupRef", "cidrGroupSelector") if f in fields]
    if len(given) != 1:
        raise node.error("needs exactly one of cidr, cidrGroupRef, cidrGroupSelector")
    if given[0] != "cidr":
        raise node.get(given[0]).unenforceable(given[0])
    return cidr_peer(node.get("cidr"), node.get("except"))


def _check_apiserver(item: Node, given: list[str], selectors: tuple[Selector, ...] | None) -> None:
    """Nothing gives addresses the identity of the API server yet: a rule for it would be inert."""
    if not given:
        return
    words = item.get(given[0])
    if given[0].endswith("Entities"):
        for node in words.items():
            if node.value == APISERVER:
                raise node.unenforceable(f"entity {APISERVER}")
    elif any(
        r.source == RESERVED and r.key == APISERVER and r.operator in (Operator.IN, Operator.EXISTS)
        for s in selectors or ()
        for r in s.requirements
    ):
        raise words.unenforceable(f"label {RESERVED}:{APISERVER}")


def _check_authentication(item: Node) -> None:
    node = item.get("authentication")
    if not node.present:
        return
    node.mapping("mode")
    mode = node.get("mode")
    if mode.choice("disabled", "required", "test-always-fail") != "disabled":
        raise mode.unenforceable("authentication")


def _lockdown(context: _Context, spec: Node) -> list[Rule]:
    """Default deny, and nothing else, for every direction that the spec is about.

    Also for one whose ``enableDefaultDeny`` is false: what cannot be enforced may restrict there.
    """
    rules: dict[Direction, Rule] = {}
    for name, direction, _ in _LISTS:
        value: Any = spec.get(name).value if spec.get(name).present else None
        if isinstance(value, list) and value:
            origin = Origin(context.obj.key, f"{spec.path}.{name} (locked)")
            rules[direction] = Rule(origin, context.subject, direction, selectors=())
    for direction, wanted in context.stated.items():
        if wanted and direction not in rules:
            origin = Origin(context.obj.key, f"{spec.path}.enableDefaultDeny (locked)")
            rules[direction] = Rule(origin, context.subject, direction, selectors=())
    return list(rules.values())
