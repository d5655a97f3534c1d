"""The rows that proxies obey follow the rules; names in use are listed while they are."""

from __future__ import annotations

from axoneme.core.model.l7 import L7Protocol, L7Registry
from axoneme.core.model.policy import FqdnPeer
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.entries import EGRESS, lookup
from axoneme.plugins.policy.l7 import ProxyTables, follow_registry
from axoneme.plugins.policy.subjects import Delta
from axoneme.plugins.policy.tests.test_tiers import DNS, SUBJECT, app, dns, engine_of, rule


def test_rows_follow_rules() -> None:
    """Added, changed, deleted; a subject that goes takes its rows along."""
    proxies = ProxyTables(TableRegistry())
    engine = engine_of([])
    registry = L7Registry()
    registry.add(L7Protocol("dns", 134, lambda: 10053))
    assert follow_registry(engine, registry) and not follow_registry(engine, registry)
    one = dns(0, (app("a"),), "x.test")
    engine.set_rules(one.origin.key, [one])
    proxies.publish(engine.flush())
    [row] = proxies.rows.rows()
    assert (row.subject, row.egress, row.peer, row.rules) == (SUBJECT, True, 301, ("name:x.test",))
    assert row.covers(17, 53) and not row.covers(17, 54) and not row.covers(6, 53)
    two = dns(0, (app("b"),), "y.test")
    engine.set_rules(two.origin.key, [two])
    proxies.publish(engine.flush())
    assert [(r.peer, r.rules) for r in proxies.rows] == [(302, ("name:y.test",))]
    engine.remove_subject(SUBJECT)
    proxies.publish(engine.flush())
    assert proxies.rows.rows() == []


def test_a_proxy_that_moves() -> None:
    """A new port is in the entries at the next flush."""
    port = [0]
    registry = L7Registry()
    registry.add(L7Protocol("dns", 134, lambda: port[0]))
    engine = engine_of([])
    heard: list[bool] = []
    registry.on_change(lambda: heard.append(follow_registry(engine, registry)))
    follow_registry(engine, registry)
    one = dns(0, (app("a"),), "x.test")
    engine.set_rules(one.origin.key, [one])
    for number in (0, 10053, 10054):
        port[0] = number
        registry.changed()
        engine.flush()
        found = lookup(engine.entries(SUBJECT), 301, EGRESS, 17, 53)
        assert found is not None and (found.proxy_port, found.deny) == (number, not number)
    assert heard == [False, True, True]


def test_names_in_use() -> None:
    """Each name is listed once, and until the last rule that asks for it goes."""
    proxies = ProxyTables(TableRegistry())
    name, pattern = FqdnPeer("a.test"), FqdnPeer(pattern="*.test")
    rules = [rule(0, fqdns=(name, pattern)), rule(1, fqdns=(name,))]
    proxies.count([], rules)
    assert {p.label_key for p in proxies.peers} == {"a.test", "*.test"}
    proxies.count(rules[:1], [])
    assert proxies.peers.rows() == [name]
    proxies.count(rules[1:], [])
    assert len(proxies.peers) == 0


def test_a_subject_that_goes_and_comes_between_two_flushes() -> None:
    """What changes is counted from what was told last: entries and rows that end meanwhile go."""
    proxies = ProxyTables(TableRegistry())
    one = dns(0, (app("a"),), "x.test")
    engine = engine_of([one], DNS)
    proxies.publish({SUBJECT: Delta(l7=dict(engine.l7(SUBJECT)))})
    told = dict(engine.entries(SUBJECT))
    engine.remove_subject(SUBJECT)
    engine.set_rules(one.origin.key, [rule(0, selectors=(app("b"),))])
    engine.set_subject(SUBJECT)
    deltas = engine.flush()
    proxies.publish(deltas)
    kept = {k: v for k, v in told.items() if k not in deltas[SUBJECT].deletes}
    assert kept | dict(deltas[SUBJECT].upserts) == engine.entries(SUBJECT)
    assert proxies.rows.rows() == []
