"""Which rule a cookie led to when an event happened."""

from __future__ import annotations

import asyncio

from attrs import evolve

from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.history import RuleHistory
from axoneme.plugins.policy.tables import PolicyTables, RuleRow

ROW = RuleRow(7, "CiliumNetworkPolicy shop/web spec.ingress[0]", "ingress", "allow", "a", "b", "80")


def test_a_cookie_leads_to_the_rule_of_its_time() -> None:
    """Changed, deleted and made again: each moment has its own."""

    async def scenario() -> None:
        rules = PolicyTables.create(TableRegistry()).rules
        clock = iter((0.0, 10.0, 20.0, 30.0, 50.0))
        history = RuleHistory(rules, lambda: next(clock))
        for row in (ROW, evolve(ROW, ports="443")):
            rules.upsert(row)
            rules.flush()
        rules.delete(7)
        rules.flush()
        for when, ports, until in ((15.0, "80", 20.0), (25.0, "443", 30.0), (40.0, "443", 30.0)):
            found = history.at(7, when)
            assert found is not None
            assert (found.row.ports, found.until) == (ports, until)
        assert history.at(8, 15.0) is None
        rules.upsert(evolve(ROW, ports="8080"))
        rules.flush()
        found = history.at(7, 60.0)
        assert found is not None
        assert (found.row.ports, found.until) == ("8080", 0.0)

    asyncio.run(scenario())
