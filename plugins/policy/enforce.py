"""Whether what a policy says can be enforced with what is switched on.

Decoders read what a field means; here it is decided whether anybody does what it asks for. A policy
of which a part cannot be enforced is refused as a whole and locks its subjects (decision 5): never
is a rule about names or nodes taken for one about addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import evolve, frozen

from axoneme.core.model.l7 import L7Registry
from axoneme.core.model.labels import NODE
from axoneme.core.model.policy import Action, Direction, Origin, Rule, Selector, Tier
from axoneme.plugins.policy.decode.cluster import KIND as CLUSTER
from axoneme.plugins.policy.decode.fields import UnenforceableError
from axoneme.plugins.policy.decode.peers import HOST, REMOTE_NODE
from axoneme.plugins.policy.l4 import ICMP, ICMPV6

DNS: Final = "dns"


@frozen
class Abilities:
    """What this process's configuration can enforce."""

    protocols: L7Registry
    nodes: bool = False
    """Nodes have identities with their labels: ``enable-node-selector-labels``."""
    host: bool = False
    """The node's own traffic meets policy: ``enable-host-firewall``."""
    passes: bool = True
    """A pass can be weighed with all else that is said of a peer: without
    ``policy-cidr-match-mode``, whose second answer it could not reach."""
    icmp: bool = True
    """Rules may be about ICMP: ``enable-icmp-rules``."""
    non_default_deny: bool = True
    """``enableDefaultDeny: false`` counts: ``enable-non-default-deny-policies``."""


def require(rules: Sequence[Rule], able: Abilities) -> Sequence[Rule]:
    """The rules, if all of them can be enforced; else the error that says which field cannot."""
    for rule in rules:
        reason = _reason(rule, able)
        if reason is None:
            continue
        path, message, hint = reason
        error = UnenforceableError(str(rule.origin.key), path, message, hint=hint)
        error.lockdown = tuple(_locks(rules))
        raise error
    if able.non_default_deny:
        return rules
    plain = (Tier.ADMIN, Tier.BASELINE)
    return [r if r.default_deny or r.tier in plain else evolve(r, default_deny=True) for r in rules]


def _reason(rule: Rule, able: Abilities) -> tuple[str, str, str] | None:
    """Path of the field that cannot be enforced, why, and what would help."""
    path = rule.origin.path
    if HOST in rule.subject.requirements and not able.host:
        spec = path.partition(".ingress")[0].partition(".egress")[0].partition(".enableDefault")[0]
        return f"{spec}.nodeSelector", "needs the host firewall", "set enable-host-firewall=true"
    if HOST in rule.subject.requirements and rule.l7 is not None:
        what = "does not go with nodeSelector: no proxy sees what the node itself sends"
        return f"{path}.rules.{rule.l7.protocol}", what, ""
    if HOST in rule.subject.requirements and rule.fqdns:
        what = "does not go with nodeSelector: nobody learns the names that the node asks for"
        return f"{_item(rule)}.toFQDNs", what, ""
    if rule.action == Action.PASS and not able.passes:
        what = "Pass does not go with policy-cidr-match-mode"
        return f"{_item(rule)}.action", what, "unset policy-cidr-match-mode"
    if not able.icmp and any(p.protocol in (ICMP, ICMPV6) for p in rule.ports or ()):
        return f"{_item(rule)}.icmps", "is switched off", "set enable-icmp-rules=true"
    if rule.l7 is not None and able.protocols.get(rule.l7.protocol) is None:
        what = f"no enabled plugin has a proxy for {rule.l7.protocol}"
        return f"{path}.rules.{rule.l7.protocol}", what, "set enable-l7-proxy=true"
    if rule.fqdns and able.protocols.get(DNS) is None:
        field = ".to" if rule.origin.key.kind == CLUSTER else ".toFQDNs"
        what = "no enabled plugin learns names from DNS"
        return f"{_item(rule)}{field}", what, "set enable-l7-proxy=true"
    if not able.nodes and any(map(_is_of_nodes, rule.selectors or ())):
        field = _nodes_field(rule)
        what = "cannot be enforced: nodes have no labels here"
        return f"{_item(rule)}{field}", what, "set enable-node-selector-labels=true"
    return None


def _item(rule: Rule) -> str:
    """Path of the item that a rule comes from."""
    return rule.origin.path.partition(".toPorts")[0]


def _nodes_field(rule: Rule) -> str:
    if rule.origin.key.kind == CLUSTER:
        return ".to"
    return ".fromNodes" if rule.direction == Direction.INGRESS else ".toNodes"


def _is_of_nodes(peer: Selector) -> bool:
    """Whether a selector asks for labels of nodes."""
    terms = peer.requirements
    return (HOST in terms or REMOTE_NODE in terms) and any(t.source == NODE for t in terms)


def _locks(rules: Iterable[Rule]) -> list[Rule]:
    """Default deny, and nothing else, for all that the rules are about; never for the node itself:
    one that is locked cannot be helped any more."""
    found: dict[tuple[Selector, str], Rule] = {}
    for rule in rules:
        if HOST not in rule.subject.requirements:
            origin = Origin(rule.origin.key, f"{rule.origin.path} (locked)")
            lock = Rule(origin, rule.subject, rule.direction, selectors=())
            found.setdefault((rule.subject, rule.direction), lock)
    return list(found.values())
