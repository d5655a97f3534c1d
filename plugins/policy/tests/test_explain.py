"""Explanations: the engine's verdict, and why each rule counts or does not."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.labels import K8S, Label, LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import (
    Action,
    Direction,
    L7Rules,
    Operator,
    Origin,
    PortRange,
    Requirement,
    Rule,
    Selector,
    Tier,
)
from axoneme.plugins.policy.entries import EGRESS, INGRESS, lookup
from axoneme.plugins.policy.explain import (
    ALLOWED,
    DECIDES,
    DENIED,
    REPEATS,
    Answer,
    Packet,
    Party,
    explain,
    rank,
)
from axoneme.plugins.policy.subjects import Settings
from axoneme.plugins.policy.tests.policy_reference import PROTOCOLS, Pod
from axoneme.plugins.policy.tests.strategies import PACKETS, PEERS, PODS, policy_lists
from axoneme.plugins.policy.tests.world import Cluster

RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
KEY = ObjectKey("CiliumNetworkPolicy", "shop", "web")


def has(key: str, value: str) -> Selector:
    """Pods with a label."""
    return Selector((Requirement(K8S, key, Operator.IN, (value,)),))


def party(identity: int, **labels: str) -> Party:
    """A pod."""
    return Party(identity, LabelSet.of(Label(K8S, k, v) for k, v in labels.items()))


WEB, CLIENT = party(300, app="web"), party(400, app="client")


def rule(path: str, action: Action = Action.ALLOW, **more: Any) -> Rule:
    """An ingress rule of web."""
    return Rule(Origin(KEY, path), has("app", "web"), Direction.INGRESS, action=action, **more)


def ask(
    *rules: Rule, peer: Party = CLIENT, subject: Party = WEB, port: int = 80, mode: str = "default"
) -> Answer:
    """What web says of a TCP packet."""
    listed = [(n, KEY, r) for n, r in enumerate(rules, 1)]
    direction = INGRESS if subject == WEB else EGRESS
    return explain(listed, Settings(mode), subject, peer, direction, Packet(6, port))


def standings(answer: Answer) -> dict[str, str]:
    """What became of each rule that matches, by its path."""
    return {m.rule.origin.path: m.standing for m in answer.matching}


def test_without_rules_everything_is_allowed() -> None:
    """And nothing decides."""
    answer = ask()
    assert (answer.verdict, answer.enforced, answer.deciding) == (ALLOWED, False, None)
    assert answer.reason == "nothing is enforced here"


def test_a_closed_direction_names_the_rules_that_close_it() -> None:
    """Who asks why a packet is denied without a deny learns what enforces."""
    answer = ask(rule("a", ports=(PortRange(6, 443, 443),)))
    assert (answer.verdict, answer.enforced, answer.matching) == (DENIED, True, ())
    assert [m.rule.origin.path for m in answer.enforced_by] == ["a"]
    assert ask(mode="always").reason == "no rule allows it (enable-policy is always)"


def test_deny_outranks_allow_and_equals_are_named() -> None:
    """Each rule that matches says why it lost."""
    answer = ask(
        rule("allow", ports=(PortRange(6, 80, 80),)),
        rule("deny", Action.DENY, selectors=(has("app", "client"),)),
        rule("other", Action.DENY, ports=(PortRange(6, 1, 100),)),
        rule("elsewhere", selectors=(has("app", "nobody"),)),
    )
    assert answer.verdict == DENIED
    assert answer.deciding is not None
    found = standings(answer)
    assert sorted(found) == ["allow", "deny", "other"]
    assert found["allow"] == "a deny outranks it"
    assert sorted([found["deny"], found["other"]]) == [DECIDES, REPEATS]


def test_tiers_priorities_places_and_passes_have_their_words() -> None:
    """A pass leaves the matter to the next tier; what comes later says where it stands."""
    rules = [
        rule("pass", Action.PASS, tier=Tier.ADMIN, priority=1),
        rule("late admin", Action.DENY, tier=Tier.ADMIN, priority=2),
        rule("normal", tier=Tier.NORMAL),
        rule("second", tier=Tier.NORMAL, order=1),
        rule("third", tier=Tier.NORMAL, priority=3),
        rule("base", Action.DENY, tier=Tier.BASELINE),
    ]
    found = {m.rule.origin.path: m.standing for m in rank(enumerate(rules))}
    assert found == {
        "pass": "passes to the next tier",
        "late admin": f"passed over by {KEY} pass",
        "normal": DECIDES,
        "second": "place 1 is asked after 0",
        "third": "priority 3 is asked after 0",
        "base": "tier baseline is asked after normal",
    }


def test_port_names_mean_what_the_subject_says_or_the_peer() -> None:
    """Ingress: the subject's; egress: the peer's."""
    named = ((NamedPort("http", 8080, "TCP"),),)
    wanted = (PortRange(6, name="http"),)
    web = Party(WEB.identity, WEB.labels, pods=named)
    listed = [(1, KEY, rule("a", ports=wanted))]
    for port, verdict in ((8080, ALLOWED), (80, DENIED)):
        found = explain(listed, Settings(), web, CLIENT, INGRESS, Packet(6, port))
        assert found.verdict == verdict
    out = Rule(Origin(KEY, "b"), has("app", "client"), Direction.EGRESS, ports=wanted)
    found = explain([(1, KEY, out)], Settings(), CLIENT, web, EGRESS, Packet(6, 8080))
    assert (found.verdict, found.consistent) == (ALLOWED, True)


def test_an_unknown_peer_is_not_anybody_where_somebody_is_denied() -> None:
    """As in the packet path: it might be who is denied."""
    rules = (rule("all"), rule("deny", Action.DENY, selectors=(has("app", "bad"),)))
    stranger = Party(999, LabelSet(), known=False)
    assert ask(*rules, peer=stranger).verdict == DENIED
    assert ask(*rules).verdict == ALLOWED


def _prefixes(cluster: Cluster, number: int) -> tuple[Any, ...]:
    return tuple(p for p, n in cluster.prefixes.items() if n == number)


def _party(cluster: Cluster, peer: Any) -> Party:
    number = cluster.number(peer)
    labels = cluster.engine.selectors.labels(number)
    assert labels is not None
    ports = (
        [tuple(NamedPort(n, p, proto) for n, (proto, p) in peer.ports.items())]
        if isinstance(peer, Pod)
        else []
    )
    return Party(number, labels, _prefixes(cluster, number), tuple(ports))


@settings(max_examples=150, deadline=None, suppress_health_check=RELAXED)
@given(policy_lists(), st.sampled_from(PODS))
def test_explanations_agree_with_the_engine(listed: list[dict[str, Any]], subject: Any) -> None:
    """Same verdict as the whole engine's entries, and the order of rules comes to it as well."""
    cluster = Cluster(PODS)
    for manifest in listed:
        cluster.apply(manifest)
    cluster.engine.flush()
    rules = cluster.engine.rules()
    entries = cluster.engine.entries(cluster.number(subject))
    for direction in (INGRESS, EGRESS):
        for peer in PEERS:
            for word, port in PACKETS[::3]:
                packet = Packet(PROTOCOLS[word], port)
                found = explain(
                    rules,
                    cluster.engine.settings,
                    _party(cluster, subject),
                    _party(cluster, peer),
                    direction,
                    packet,
                )
                value = lookup(
                    entries, cluster.number(peer), direction, packet.protocol, packet.port
                )
                allowed = value is not None and not value.deny
                assert (found.verdict == ALLOWED) == allowed, (direction, peer, word, port)
                assert found.consistent, (direction, peer, word, port, found)


RULES = st.builds(
    Rule,
    st.builds(Origin, st.just(KEY), st.text("abcdefgh", min_size=1, max_size=5)),
    st.just(has("app", "web")),
    st.just(Direction.INGRESS),
    selectors=st.none()
    | st.lists(st.sampled_from([has("app", a) for a in "xy"]), max_size=2).map(tuple),
    ports=st.none()
    | st.lists(
        st.sampled_from([PortRange(6, 80, 80), PortRange(6, 1, 100), PortRange(6), PortRange(17)]),
        max_size=2,
    ).map(tuple),
    action=st.sampled_from(Action),
    default_deny=st.booleans(),
    tier=st.sampled_from(Tier),
    priority=st.integers(0, 1),
    order=st.integers(0, 1),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(RULES, max_size=7, unique_by=lambda r: r.origin.path), st.data())
def test_tiers_and_passes_agree_with_the_engine(rules: list[Rule], data: st.DataObject) -> None:
    """With every tier, priority, place, pass and redirect."""
    rules = [
        evolve(r, l7=L7Rules("dns"))
        if r.action == Action.ALLOW and data.draw(st.integers(0, 3)) == 0
        else r
        for r in rules
    ]
    listed = [(n, KEY, r) for n, r in enumerate(rules, 1)]
    config = Settings(redirects={"dns": 200}, proxies={"dns": data.draw(st.sampled_from([0, 53]))})
    for label in "xyz":
        for packet in (Packet(6, 80), Packet(6, 99), Packet(6, 200), Packet(17, 80)):
            found = explain(listed, config, WEB, party(401, app=label), INGRESS, packet)
            assert found.consistent, (label, packet, found)
