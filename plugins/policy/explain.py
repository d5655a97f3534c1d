"""Why a packet passes or not: the engine's verdict, and every rule that speaks of the packet.

Two answers are made from the same rules. The verdict is the engine's own: a small engine gets the
subject, the peer and the rules that select the subject, and its entries are looked up as the packet
path does. Nothing of the agent's engine is touched, so it does not matter whether the subject has
endpoints here. The other answer is an order of all rules that match the packet, which says why each
but the first lost. A test holds the two together, and a difference is shown, never hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import Factory, frozen

from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.identity import Reserved
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Action, Rule, Tier
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import EGRESS, INGRESS, PolicyValue, lookup
from axoneme.plugins.policy.selectors import Prefix
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.terms import NamedPorts, compile_rule, directions, named_ports

ALLOWED: Final = "allowed"
DENIED: Final = "denied"
REDIRECTED: Final = "redirected"

DECIDES: Final = "decides"
REPEATS: Final = "says the same"

_KINDS: Final = {Action.DENY: 0, Action.ALLOW: 2, Action.PASS: 3}
_REDIRECT: Final = 1

InForce = Sequence[tuple[int, ObjectKey, Rule]]
"""Cookie, object and rule of everything in force."""


@frozen
class Party:
    """An identity as policy sees it. ``pods``: named ports of the pods behind it."""

    identity: int
    labels: LabelSet
    prefixes: tuple[Prefix, ...] = ()
    pods: tuple[tuple[NamedPort, ...], ...] = ()
    known: bool = True
    """Whether policy has met the identity."""


@frozen
class Packet:
    """What is asked: protocol number, and port (or ICMP type) in host order."""

    protocol: int
    port: int


@frozen
class Match:
    """A rule that speaks of the packet, and what becomes of it."""

    cookie: int
    rule: Rule
    standing: str
    """``decides``, ``says the same``, or why it does not count."""

    @property
    def verdict(self) -> str:
        """What the rule says."""
        if self.rule.action == Action.ALLOW and self.rule.l7 is not None:
            return "redirect"
        return self.rule.action.value


@frozen
class Answer:
    """What one direction of one subject says of a packet."""

    verdict: str
    enforced: bool
    reason: str
    """In words, what decided."""
    deciding: Match | None = None
    matching: tuple[Match, ...] = Factory(tuple)
    """All rules that match, in the order in which they are asked."""
    enforced_by: tuple[Match, ...] = Factory(tuple)
    """Where no rule decides: the rules that close the direction."""
    value: PolicyValue | None = None
    consistent: bool = True
    """Whether the rules read one by one come to the same verdict."""


def order_key(rule: Rule, cookie: int = 0) -> tuple[int, int, int, int, int]:
    """When a rule is asked, first is least: tier, priority, order, deny before redirect before
    allow before pass, then the cookie."""
    kind = _KINDS[rule.action]
    if rule.action == Action.ALLOW and rule.l7 is not None:
        kind = _REDIRECT
    return int(rule.tier), rule.priority, rule.order, kind, cookie


def explain(
    rules: InForce,
    settings: Settings,
    subject: Party,
    peer: Party,
    direction: int,
    packet: Packet,
) -> Answer:
    """The verdict of ``subject`` in ``direction`` on a packet to or from ``peer``."""
    own = [(c, k, r) for c, k, r in rules if r.subject.matches(subject.labels)]
    engine = _engine(own, settings, subject, peer)
    entries = engine.entries(subject.identity)
    where = (direction, packet.protocol, packet.port)
    value = lookup(entries, peer.identity, *where, known=peer.known)
    enforced = engine.enforced(subject.identity)[direction]
    asked = [(c, r) for c, _, r in own if directions(r.direction) == direction]
    if settings.mode == "never":
        asked = []
    matching = [(c, r) for c, r in asked if _speaks(engine, subject, peer, packet, c, r)]
    named = engine.rule(value.cookie) if value is not None and value.cookie else None
    closed = any(r.default_deny for _, r in asked)
    idle = [(c, r) for c, r in matching if closed and r.tier == Tier.BASELINE]
    ranked = rank([m for m in matching if m not in idle], named)
    ranked += [Match(c, r, "a policy of its own enforces the direction") for c, r in idle]
    deciding = next((m for m in ranked if m.standing == DECIDES), None)
    verdict = verdict_of(value)
    closing = tuple(Match(c, r, "closes") for c, r in asked if r.default_deny)
    reason = _reason(verdict, deciding, enforced=enforced, peer=peer, settings=settings)
    return Answer(
        verdict,
        enforced,
        reason,
        deciding,
        tuple(ranked),
        closing if deciding is None and enforced else (),
        value,
        _agree(value, deciding, named),
    )


def verdict_of(value: PolicyValue | None) -> str:
    """The word for what the packet path finds."""
    if value is None or value.deny:
        return DENIED
    return REDIRECTED if value.proxy_port else ALLOWED


def rank(matching: Iterable[tuple[int, Rule]], named: Rule | None = None) -> list[Match]:
    """All rules that match, in order, each with its standing; of equals ``named`` decides."""
    ordered = sorted(matching, key=lambda m: (order_key(m[1])[:4], m[1] is not named, m[0]))
    found: list[Match] = []
    winner: Rule | None = None
    passed: Rule | None = None
    for cookie, rule in ordered:
        if winner is not None:
            found.append(Match(cookie, rule, _lost(rule, winner)))
        elif passed is not None and passed.tier == rule.tier:
            found.append(Match(cookie, rule, f"passed over by {passed.origin}"))
        elif rule.action == Action.PASS:
            passed = rule
            found.append(Match(cookie, rule, "passes to the next tier"))
        else:
            winner = rule
            found.append(Match(cookie, rule, DECIDES))
    return found


def _lost(rule: Rule, winner: Rule) -> str:
    """Why a rule does not count beside the one that decides."""
    if rule.tier != winner.tier:
        return f"tier {rule.tier.name.lower()} is asked after {winner.tier.name.lower()}"
    if rule.priority != winner.priority:
        return f"priority {rule.priority} is asked after {winner.priority}"
    if rule.order != winner.order:
        return f"place {rule.order} is asked after {winner.order}"
    if order_key(rule)[3] == order_key(winner)[3]:
        return REPEATS
    if winner.action == Action.DENY:
        return "a deny outranks it"
    return "a redirect outranks it" if winner.l7 is not None else "an allow outranks it"


def _engine(rules: InForce, settings: Settings, subject: Party, peer: Party) -> PolicyEngine:
    """An engine that knows two identities and the rules of one."""
    engine = PolicyEngine(settings)
    engine.upsert_identity(subject.identity, subject.labels, subject.prefixes)
    if peer.known and peer.identity != subject.identity:
        engine.upsert_identity(peer.identity, peer.labels, peer.prefixes)
    by_object: dict[ObjectKey, list[Rule]] = {}
    for _, key, rule in rules:
        by_object.setdefault(key, []).append(rule)
    for key, group in by_object.items():
        engine.set_rules(key, group)
    engine.set_subject(subject.identity, subject.pods)
    engine.set_peer_ports(peer.identity, peer.pods)
    engine.flush()
    return engine


def _speaks(
    engine: PolicyEngine, subject: Party, peer: Party, packet: Packet, cookie: int, rule: Rule
) -> bool:
    """Whether a rule matches the packet, with the meaning that port names have for it."""
    every, some = named_ports(subject.pods)
    if directions(rule.direction) == EGRESS:
        every = some = named_ports(peer.pods)[1]
    names: NamedPorts = some if rule.action == Action.DENY else every
    for term in compile_rule(rule, cookie):
        if term.peers is not None:
            handles = [engine.selectors.acquire(p) for p in term.peers]
            met = any(peer.identity in engine.selectors.matched(h) for h in handles)
            for handle in handles:
                engine.selectors.release(handle)
            if not met:
                continue
        if any(c.l4.covers(packet.protocol, packet.port) for c in term.claims(names)):
            return True
    return False


def _reason(
    verdict: str, deciding: Match | None, *, enforced: bool, peer: Party, settings: Settings
) -> str:
    if deciding is not None:
        missing = verdict == DENIED and deciding.rule.action == Action.ALLOW
        note = ", whose proxy does not run" if missing else ""
        return f"{deciding.verdict} by {deciding.rule.origin}{note}"
    if not enforced:
        return "nothing is enforced here"
    if verdict == ALLOWED and peer.identity == Reserved.HOST:
        return "the node reaches its own pods (allow-localhost)"
    if not peer.known:
        return "the peer's identity is not known yet"
    if settings.mode == "always":
        return "no rule allows it (enable-policy is always)"
    return "no rule allows it"


def _agree(value: PolicyValue | None, deciding: Match | None, named: Rule | None) -> bool:
    """Whether both answers come to the same verdict, by rules of the same rank."""
    if deciding is None:
        return named is None
    if deciding.rule.l7 is None and (value is None or value.deny) != deciding.rule.deny:
        return False
    return named is None or order_key(named) == order_key(deciding.rule)


DIRECTIONS: Final = {EGRESS: "egress", INGRESS: "ingress"}
