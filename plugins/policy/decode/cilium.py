"""``cilium.io/v2`` CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy as rules.

Semantics: reference §2.2 and §2.3. In contrast to Kubernetes an item without peers and ports
allows nothing, and an empty list of peers names nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from axoneme.core.model.labels import ANY, K8S, NAMESPACE_KEY
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import Action, Direction, Origin, Rule, Selector
from axoneme.plugins.policy.decode import peers
from axoneme.plugins.policy.decode.fields import Node, UnenforceableError
from axoneme.plugins.policy.decode.labels import cilium_terms, in_namespace, selector
from axoneme.plugins.policy.decode.peers import HOST, NOT_HOST, Peers, decode_peers, node_terms
from axoneme.plugins.policy.decode.ports import PortRules, decode_icmps, decode_ports

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
_NAMESPACE_KEYS: Final = (NAMESPACE_KEY, f"{K8S}:{NAMESPACE_KEY}", f"{ANY}:{NAMESPACE_KEY}")

MAX_LOG: Final = 32


@frozen
class _Context:
    """What the parts of one spec need to know."""

    obj: ClusterObject
    subject: Selector
    stated: Mapping[Direction, bool]
    """``enableDefaultDeny`` where it is given."""
    log: str


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
        context = _context(obj, spec)
        try:
            rules += _spec_rules(context, spec)
        except UnenforceableError as error:
            refused = refused or error
        locked += _lockdown(context, spec)
    if refused is not None:
        refused.lockdown = tuple(locked)
        raise refused
    return rules


def _context(obj: ClusterObject, spec: Node) -> _Context:
    """Read what must be good for anything else to make sense; never the rules themselves."""
    spec.mapping(*_SPEC)
    default = spec.get("enableDefaultDeny")
    stated: dict[Direction, bool] = {}
    if default.present:
        default.mapping("ingress", "egress")
        for direction in Direction:
            if default.get(direction.value).present:
                stated[direction] = default.get(direction.value).boolean()
    note = _notes(spec)
    pods, nodes = spec.get("endpointSelector"), spec.get("nodeSelector")
    if pods.present and nodes.present:
        raise nodes.error("stands beside endpointSelector", hint="give one of the two")
    if nodes.present:
        if obj.key.namespace:
            raise nodes.error("belongs in a CiliumClusterwideNetworkPolicy")
        return _Context(obj, selector(*node_terms(nodes), HOST), stated, note)
    if not pods.present:
        raise pods.error("is required")
    return _Context(obj, _subject(obj, pods), stated, note)


def _notes(spec: Node) -> str:
    """What is for people; the text for logs."""
    if spec.get("description").present:
        spec.get("description").text(most=65536)
    for item in spec.get("labels").items():
        item.mapping("key", "source", "value")
    note = spec.get("log")
    if not note.present:
        return ""
    note.mapping("value")
    value = note.get("value")
    if not value.present:
        return ""
    if not value.text(most=MAX_LOG).isprintable():
        raise value.error("must be printable")
    return value.text()


def _subject(obj: ClusterObject, node: Node) -> Selector:
    """A namespaced policy selects pods of its own namespace, whatever its terms say."""
    terms = cilium_terms(node)
    own = obj.key.namespace
    if not own:
        return selector(*terms, NOT_HOST)
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
                rules += _item(context, direction, item, deny=deny)
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


def _item(context: _Context, direction: Direction, item: Node, *, deny: bool) -> list[Rule]:
    fields = [f for f in peers.FIELDS[direction] if not (deny and f in peers.NOT_IN_DENY)]
    item.mapping(*fields, "toPorts", "icmps", *(() if deny else ("authentication",)))
    given = [f for f in fields if item.get(f).present]
    if len(given) > 1:
        raise item.error(f"{given[0]} and {given[1]} stand in one item", hint="make it two items")
    if item.get("toPorts").present and item.get("icmps").present:
        raise item.error("toPorts and icmps stand in one item", hint="make it two items")
    ports = decode_ports(item.get("toPorts"), direction, deny=deny)
    icmps = decode_icmps(item.get("icmps"))
    if icmps:
        ports.append(PortRules(icmps))
    who = decode_peers(context.obj, item, given[0]) if given else Peers()
    _check_authentication(item)
    if not given and not ports:
        who = peers.NOBODY  # an item that says nothing allows nothing: reference §2.2
    return [
        Rule(
            Origin(context.obj.key, place.path or item.path),
            context.subject,
            direction,
            selectors=who.selectors,
            cidrs=who.cidrs,
            fqdns=who.fqdns,
            references=who.references,
            ports=tuple(place.ports) if place.ports else None,
            l7=place.l7,
            action=Action.DENY if deny else Action.ALLOW,
            default_deny=context.stated.get(direction, True),
            log=context.log,
        )
        for place in ports or [PortRules([])]
    ]


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
    if HOST in context.subject.requirements:
        return []  # a node that is locked cannot be helped any more
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
