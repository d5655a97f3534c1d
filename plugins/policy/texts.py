"""Rules and selectors in words, for tables and explanations."""

from __future__ import annotations

from axoneme.core.model.policy import CidrPeer, Operator, PortRange, Requirement, Rule, Selector
from axoneme.core.state import Table
from axoneme.plugins.policy.l4 import PROTOCOL_NAMES
from axoneme.plugins.policy.selectors import SelectorCache
from axoneme.plugins.policy.subjects import RuleChange
from axoneme.plugins.policy.tables import RuleRow, SelectorRow


def requirement_text(term: Requirement) -> str:
    """``k8s:app=web``, ``k8s:app in (a,b)``, ``!k8s:app`` …"""
    name = f"{term.source}:{term.key}"
    match term.operator:
        case Operator.IN if len(term.values) == 1:
            return f"{name}={term.values[0]}" if term.values[0] else name
        case Operator.IN | Operator.NOT_IN:
            word = "in" if term.operator == Operator.IN else "notin"
            return f"{name} {word} ({','.join(term.values)})"
        case Operator.EXISTS:
            return name
        case _:
            return f"!{name}"


def peer_text(peer: Selector | CidrPeer) -> str:
    """A selector or a prefix with its exceptions."""
    if isinstance(peer, CidrPeer):
        cut = ",".join(map(str, peer.excepts))
        return f"{peer.cidr} except {cut}" if cut else str(peer.cidr)
    return ", ".join(map(requirement_text, peer.requirements)) or "everybody"


def port_text(ports: PortRange) -> str:
    """``80/TCP``, ``ANY/UDP``, ``8/ICMP``, ``web/ANY`` …"""
    protocol = PROTOCOL_NAMES.get(ports.protocol, str(ports.protocol))
    if ports.name:
        return f"{ports.name}/{protocol}"
    if ports.family_icmp:
        return f"{ports.first}/{protocol}"
    if not ports.first and not ports.last:
        return "ANY" if protocol == "ANY" else f"ANY/{protocol}"
    span = f"{ports.first}" if ports.last <= ports.first else f"{ports.first}-{ports.last}"
    return f"{span}/{protocol}"


def rule_row(cookie: int, rule: Rule) -> RuleRow:
    """A rule as a row."""
    peers: list[Selector | CidrPeer] = [*(rule.selectors or ()), *(rule.cidrs or ())]
    anybody = rule.anybody
    ports = "ANY" if rule.ports is None else ", ".join(map(port_text, rule.ports))
    return RuleRow(
        cookie,
        str(rule.origin),
        rule.direction.value,
        rule.action.value,
        peer_text(rule.subject),
        "everybody" if anybody else "; ".join(map(peer_text, peers)) or "nobody",
        ports,
    )


def publish_rules(change: RuleChange, table: Table[int, RuleRow]) -> None:
    """Bring the table in line with the rules that have changed; a cookie may go and come."""
    for cookie in change.removed:
        table.delete(cookie)
    for cookie, rule in change.added.items():
        table.upsert(rule_row(cookie, rule))


def publish_selectors(cache: SelectorCache, table: Table[int, SelectorRow]) -> None:
    """Bring the table in line with the selectors that have changed."""
    with table.transaction():
        for handle in cache.take_touched():
            found = cache.describe(handle)
            if found is None:
                table.delete(handle)
            else:
                peer, users, matches = found
                table.upsert(SelectorRow(handle, peer_text(peer), users, matches))
