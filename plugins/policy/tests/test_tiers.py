"""Tiers, passes and redirects: the packet path's answer against one worked out rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from itertools import product

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from axoneme.core.identities.reserved import cidr_label, cidr_labels
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.l7 import L7Row, rows_for
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import (
    Action,
    CidrPeer,
    Direction,
    FqdnPeer,
    L7Rules,
    Operator,
    Origin,
    PortRange,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from axoneme.plugins.policy.decider import Decider
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import (
    ALLOW,
    DEFAULT,
    DENY,
    EGRESS,
    INGRESS,
    lookup,
    precedence_of,
    rank_of,
    tier_of,
)
from axoneme.plugins.policy.l4 import prefixes
from axoneme.plugins.policy.subjects import Settings

SUBJECT, PEERS = 300, (301, 302, 303)
DNS = Settings(redirects={"dns": 134}, proxies={"dns": 10053})
PORTS = [None, (PortRange(6),), (PortRange(6, 80, 80),), (PortRange(0, 53, 53),)]
PORTS += [(PortRange(6, 64, 127),), (PortRange(17, 53, 53),)]
PACKETS = list(product((6, 17), (53, 79, 80, 443)))


def app(name: str) -> Selector:
    return Selector((Requirement("k8s", "app", Operator.IN, (name,)),))


WHO = [None, (app("a"),), (app("b"),), (app("a"), app("b"))]


def rule(number: int, **fields: object) -> Rule:
    key = ObjectKey("Test", "", f"r{number}")
    wanted: dict[str, object] = {"direction": Direction.EGRESS, **fields}
    return Rule(Origin(key, "spec"), app("s"), **wanted)  # type: ignore[arg-type]


_ORDERED = st.builds(
    lambda tier, action, priority, order: (tier, action, priority, order),
    st.sampled_from([Tier.ADMIN, Tier.BASELINE]),
    st.sampled_from(list(Action)),
    st.integers(0, 2),
    st.integers(0, 2),
)
_PLAIN = st.sampled_from([Action.ALLOW, Action.DENY]).map(lambda a: (Tier.NORMAL, a, 0, 0))
RULES = st.lists(
    st.tuples(_ORDERED | _PLAIN, st.sampled_from(WHO), st.sampled_from(PORTS), st.booleans()),
    max_size=7,
)


def build(
    drawn: Sequence[tuple[tuple[Tier, Action, int, int], object, object, bool]],
) -> list[Rule]:
    rules = []
    for number, ((tier, action, priority, order), who, ports, deny) in enumerate(drawn):
        rules.append(
            rule(
                number,
                selectors=who,
                ports=ports,
                action=action,
                tier=tier,
                priority=priority,
                order=order,
                default_deny=tier == Tier.NORMAL and deny,
            )
        )
    return rules


def engine_of(rules: Sequence[Rule], settings: Settings | None = None) -> PolicyEngine:
    engine = PolicyEngine(settings)
    for number, name in zip((SUBJECT, *PEERS), "sabc", strict=True):
        engine.upsert_identity(number, LabelSet.parse([f"k8s:app={name}"]))
    engine.set_subject(SUBJECT)
    for one in rules:
        engine.set_rules(one.origin.key, [one])
    engine.flush()
    return engine


def asked(rules: Sequence[Rule], peer: int, packet: tuple[int, int]) -> bool:
    """Rule by rule, in the order of tiers, priorities and places; denies before allows."""
    labels = LabelSet.parse([f"k8s:app={dict(zip(PEERS, 'abc', strict=True))[peer]}"])
    words = {Action.DENY: 0, Action.ALLOW: 1, Action.PASS: 2}
    passed: set[Tier] = set()
    closed = any(r.default_deny for r in rules)
    for one in sorted(rules, key=lambda r: (r.tier, r.priority, r.order, words[r.action])):
        who = one.selectors is None or any(s.matches(labels) for s in one.selectors)
        ports = one.ports is None or any(
            l4.covers(*packet) for p in one.ports for l4 in prefixes(p)
        )
        if closed and one.tier == Tier.BASELINE:  # a policy of its own has the last word
            continue
        if not who or not ports or one.tier in passed:
            continue
        if one.action == Action.PASS:
            passed.add(one.tier)
            continue
        return one.action == Action.ALLOW
    return not any(r.default_deny for r in rules)


def answer(engine: PolicyEngine, peer: int, packet: tuple[int, int]) -> bool:
    found = lookup(engine.entries(SUBJECT), peer, EGRESS, *packet)
    return found is not None and not found.deny


@settings(max_examples=600, deadline=None)
@given(RULES)
def test_tiers_as_rule_by_rule(
    drawn: list[tuple[tuple[Tier, Action, int, int], object, object, bool]],
) -> None:
    """The two look-ups give what asking each rule in turn gives, passes included."""
    rules = build(drawn)
    engine = engine_of(rules)
    for peer, packet in product(PEERS, PACKETS):
        assert answer(engine, peer, packet) == asked(rules, peer, packet), (peer, packet)


@settings(max_examples=200, deadline=None)
@given(RULES, RULES)
def test_tiers_incrementally(
    before: list[tuple[tuple[Tier, Action, int, int], object, object, bool]],
    after: list[tuple[tuple[Tier, Action, int, int], object, object, bool]],
) -> None:
    """Rules that replace others leave what a fresh engine has."""
    old, new = build(before), build(after)
    engine = engine_of(old)
    for one in old[len(new) :]:
        engine.set_rules(one.origin.key, [])
    for one in new:
        engine.set_rules(one.origin.key, [one])
    engine.flush()
    assert engine.entries(SUBJECT) == engine_of(new).entries(SUBJECT)


def test_ranks() -> None:
    """Tiers, then priorities, then places; the default comes after all of them."""
    places = [(t, p, o) for t in Tier for p in (0, 1, 1000) for o in (0, 1, 1023)]
    ranks = [rank_of(*place) for place in places]
    assert ranks == sorted(ranks, reverse=True) and len(set(ranks)) == len(ranks)
    assert ranks[-1] > 0 and ranks[0] < 1 << 24
    tiers = [tier_of(precedence_of(r, Action.PASS)) for r in ranks]
    assert len(set(tiers)) == 3 and tier_of(DEFAULT) == 0 and tier_of(ALLOW) == tier_of(DENY)


def test_a_pass_leaves_it_to_the_namespace() -> None:
    """What the administrator passes is decided by the namespace's policies, then by default."""
    common = {"tier": Tier.ADMIN, "default_deny": False}
    rules = [
        rule(0, selectors=(app("a"),), action=Action.PASS, priority=1, **common),
        rule(1, selectors=(app("a"), app("b")), action=Action.DENY, priority=2, **common),
        rule(2, selectors=(app("a"),), ports=(PortRange(6, 80, 80),)),
    ]
    engine = engine_of(rules)
    assert answer(engine, 301, (6, 80)) and not answer(engine, 301, (6, 443))
    assert not answer(engine, 302, (6, 80))
    found = lookup(engine.entries(SUBJECT), 301, EGRESS, 6, 443)
    assert found is not None and found.by_default and found.cookie == 0


DNS_PORT = (PortRange(17, 53, 53),)


def dns(number: int, who: object, *names: str, **fields: object) -> Rule:
    rules = L7Rules("dns", tuple(f"name:{n}" for n in names))
    return rule(number, selectors=who, ports=DNS_PORT, l7=rules, **fields)


def test_a_redirect_and_who_may_what() -> None:
    """A redirect goes to the proxy's port; rules of one place add up; a plain allow lifts them."""
    engine = engine_of([dns(0, (app("a"),), "x.test"), dns(1, (app("a"),), "y.test")], DNS)
    found = lookup(engine.entries(SUBJECT), 301, EGRESS, 17, 53)
    assert found is not None and not found.deny and found.proxy_port == 10053
    [(place, [seen])] = [(p, list(s)) for p, s in engine.l7(SUBJECT).items()]
    assert place == (EGRESS, 301) and seen.rules == ("name:x.test", "name:y.test")
    engine.set_rules(ObjectKey("Test", "", "r9"), [rule(9, selectors=(app("a"),), ports=DNS_PORT)])
    engine.flush()
    [seen] = engine.l7(SUBJECT)[EGRESS, 301]
    assert seen.rules is None and seen.protocol == "dns"


def test_a_wide_allow_in_the_way_of_anybodys_redirect() -> None:
    """Anybody's redirect catches a peer that may do everything: its row says so."""
    rules = [dns(0, None, "x.test"), rule(1, selectors=(app("b"),))]
    engine = engine_of(rules, DNS)
    rows = engine.l7(SUBJECT)
    assert [s.rules for s in rows[EGRESS, 0]] == [("name:x.test",)]
    assert [(s.rules, s.protocol) for s in rows[EGRESS, 302]] == [(None, "")]
    assert (EGRESS, 301) not in rows
    engine.set_rules(rules[0].origin.key, [])
    engine.flush()
    assert engine.l7(SUBJECT) == {}


def test_what_is_not_enforced_does_not_lift_a_redirect() -> None:
    """Rules without default deny still have names looked at."""
    engine = engine_of([dns(0, (app("a"),), "x.test", default_deny=False)], DNS)
    assert answer(engine, 301, (6, 80))
    [seen] = engine.l7(SUBJECT)[EGRESS, 301]
    assert seen.rules == ("name:x.test",)
    assert (EGRESS, 0) not in engine.l7(SUBJECT)


def test_no_proxy_no_passage() -> None:
    """What a proxy must see is dropped while there is none, and passes when it comes."""
    engine = engine_of([dns(0, (app("a"),), "x.test")], Settings(redirects={"dns": 134}))
    assert not answer(engine, 301, (17, 53))
    engine.set_settings(DNS)
    engine.flush()
    assert answer(engine, 301, (17, 53))
    engine.set_settings(Settings(redirects={"dns": 134}))
    engine.flush()
    assert not answer(engine, 301, (17, 53))


def test_modes_change_while_running() -> None:
    """Each mode gives what a fresh engine in it has."""
    rules = [rule(0, selectors=(app("a"),)), dns(1, (app("b"),), "x.test")]
    engine = engine_of(rules, DNS)
    for mode in ("never", "always", "default", "never", "default", "always"):
        wanted = Settings(mode, redirects=DNS.redirects, proxies=DNS.proxies)
        engine.set_settings(wanted)
        engine.flush()
        fresh = engine_of(rules, wanted)
        assert engine.entries(SUBJECT) == fresh.entries(SUBJECT), mode
        assert engine.l7(SUBJECT) == fresh.l7(SUBJECT)
        assert engine.enforced(SUBJECT) == fresh.enforced(SUBJECT)


def test_names_are_labels() -> None:
    """A peer by name is whoever has its label."""
    name = FqdnPeer(pattern="*.example.com")
    engine = engine_of([rule(0, selectors=(), fqdns=(name,))])
    engine.upsert_identity(1 << 24, LabelSet.parse(["fqdn:*.example.com", "reserved:world"]))
    engine.flush()
    assert answer(engine, 1 << 24, (6, 443)) and not answer(engine, 301, (6, 443))


def test_a_bare_reference_names_nobody() -> None:
    """A rule whose references were never replaced opens nothing (CVE-2025-64715)."""
    engine = engine_of([rule(0, references=())])
    assert not answer(engine, 301, (6, 80)) and engine.enforced(SUBJECT) == (False, True)


def test_directions_are_apart() -> None:
    """A pass on egress makes no ingress entry whole."""
    engine = engine_of([rule(0, selectors=(app("a"),), action=Action.PASS, tier=Tier.ADMIN)])
    assert not [k for k in engine.entries(SUBJECT) if k.direction == INGRESS and k.peer]


def test_a_peer_s_whole_answer_outranks_anybody_s() -> None:
    """Also one that drops for want of a rule, or of a proxy, where anybody may pass."""
    engine = PolicyEngine(Settings(redirects={"dns": 134}, proxies={"dns": 0}))
    engine.upsert_identity(SUBJECT, LabelSet.parse(["k8s:app=s"]))
    engine.upsert_identity(301, LabelSet.parse(["k8s:app=a"]))
    engine.upsert_identity(302, LabelSet.parse(["k8s:app=b"]))
    engine.set_subject(SUBJECT)
    rules = [
        rule(1, action=Action.PASS, tier=Tier.ADMIN, order=1),
        rule(2, selectors=(app("a"),), tier=Tier.ADMIN, l7=L7Rules("dns")),
        rule(3, action=Action.PASS, selectors=(app("b"),)),
        rule(4, order=1),
    ]
    for one in rules:
        engine.set_rules(one.origin.key, [one])
    engine.flush()
    for peer, denied in ((301, True), (302, True), (0, False)):
        found = lookup(engine.entries(SUBJECT), peer, EGRESS, 17, 53)
        assert found is not None
        assert found.deny is denied, peer


@pytest.mark.parametrize("order", [(401, 402), (402, 401)])
def test_what_cidr_rules_say_of_pods_holds_for_known_pods(order: tuple[int, int]) -> None:
    """A prefix of the world and the same prefix beside pods match alike, and are decided apart: a
    pod that policy has not met may be one that is denied."""
    net = ip_network("10.0.0.0/8")
    denied = rule(1, selectors=(app("a"),), action=Action.DENY)
    engine = engine_of([rule(0, cidrs=(CidrPeer(net),)), denied])
    labels = {401: cidr_labels(net, dual_stack=True), 402: LabelSet.of([cidr_label(net)])}
    for number in order:
        engine.upsert_identity(number, labels[number], [net])
    engine.flush()
    decider = Decider(
        engine.settings, engine.selectors, {}, engine._subjects[SUBJECT], EGRESS, enforced=True
    )
    found = {number: decider.decide(number).entries[0][1].known_only for number in order}
    assert found == {401: False, 402: True}


def seen_by(engine: PolicyEngine, peer: int, protocol: int = 17, port: int = 53) -> list[object]:
    """What the proxy may let through to a peer: names of each row that it obeys."""
    rows = [
        L7Row(SUBJECT, True, of, *s.l4, s.protocol, s.rules, s.whole)
        for (_, of), seen in engine.l7(SUBJECT).items()
        for s in seen
    ]
    return [row.rules for row in rows_for(rows, peer, protocol, port)]


def ordered(number: int, action: Action, **fields: object) -> Rule:
    wanted = {"tier": Tier.ADMIN, "order": number, "default_deny": False, **fields}
    return rule(number, action=action, **wanted)


def test_a_proxy_heeds_what_was_passed_over() -> None:
    """An allow that a pass takes back lifts no rule of the proxy: not the peer's, not anybody's."""
    passing = ordered(0, Action.PASS, selectors=(app("a"),))
    for who in ((app("a"),), None):
        skipped = ordered(1, Action.ALLOW, selectors=who, ports=DNS_PORT)
        rules = [passing, skipped, dns(2, (app("a"),), "x.test"), dns(3, None, "y.test")]
        engine = engine_of(rules, DNS)
        assert seen_by(engine, 301) == [("name:x.test", "name:y.test")]
        found = lookup(engine.entries(SUBJECT), 301, EGRESS, 17, 53)
        assert found is not None and found.proxy_port == 10053


def test_a_proxy_heeds_the_longest_of_whole_rows() -> None:
    """Where a whole answer of a port differs from that of all ports, it alone counts."""
    rules = [
        ordered(0, Action.PASS, selectors=(app("a"),)),
        dns(1, (app("a"),), "x.test"),
        rule(2, selectors=(app("a"),), l7=L7Rules("dns", ("name:any.test",))),
    ]
    engine = engine_of(rules, DNS)
    assert seen_by(engine, 301) == [("name:any.test", "name:x.test")]
    assert seen_by(engine, 301, port=54) == [("name:any.test",)]
    plain = rule(3, selectors=(app("a"),), ports=DNS_PORT)
    engine.set_rules(plain.origin.key, [plain])
    engine.flush()
    assert seen_by(engine, 301) == [None]


def test_a_wide_allow_in_the_way_of_a_named_redirect() -> None:
    """Where a port name leads is a peer's matter; an allow of anybody counts there as well."""
    named = evolve(dns(0, (app("a"),), "x.test"), ports=(PortRange(17, name="dns"),))
    engine = engine_of([named, rule(1, ports=(PortRange(17, 1, 1024),))], DNS)
    engine.set_peer_ports(301, [[NamedPort("dns", 53, "UDP")]])
    engine.flush()
    assert None in seen_by(engine, 301)


def test_a_protocol_that_is_registered_late() -> None:
    """Its place among the redirects is that of an engine that knew it from the start."""
    one = dns(0, (app("a"),), "x.test")
    engine = engine_of([one])
    assert engine.entries(SUBJECT) != engine_of([one], DNS).entries(SUBJECT)
    engine.set_settings(DNS)
    engine.flush()
    assert engine.entries(SUBJECT) == engine_of([one], DNS).entries(SUBJECT)
    engine.set_rules(one.origin.key, [])
    engine.flush()
    assert engine.rules() == [] and engine.l7(SUBJECT) == {}
