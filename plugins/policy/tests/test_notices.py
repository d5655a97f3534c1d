"""Changes of policy as agent events."""

from __future__ import annotations

import asyncio
from typing import Any

from axoneme.core.events.model import AgentNotice
from axoneme.core.events.service import EventService
from axoneme.core.events.text import line
from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.notices import PolicyNotices
from axoneme.plugins.policy.tables import InForce, PolicyRow, PolicyTables, SubjectPolicy

KEY = ObjectKey("CiliumNetworkPolicy", "red", "p")


def test_policies_and_locks_are_told() -> None:
    """In force, refused, gone; locked once and free once, however often the row changes."""

    async def scenario() -> list[str]:
        registry = TableRegistry()
        tables = PolicyTables.create(registry)
        events = EventService(registry, "node1")
        PolicyNotices(tables, events.notify)
        told: list[str] = []
        with events.fanout.subscribe() as reader:
            tables.policies.upsert(PolicyRow(KEY, True, InForce.CURRENT, 2))
            await asyncio.sleep(0)
            tables.policies.upsert(PolicyRow(KEY, False, InForce.LAST_GOOD, 2, "bad port"))
            await asyncio.sleep(0)
            tables.policies.delete(KEY)
            for revision, overflow in ((1, True), (2, True), (3, False), (4, False)):
                tables.entries.upsert(_row(revision, overflow=overflow))
                await asyncio.sleep(0)
            for event in await asyncio.wait_for(reader.next(), 5):
                text, _ = line(events.names.describe(event))
                told.append(text.split(">> ")[1])
                assert event.reason in list(AgentNotice)
        return told

    assert asyncio.run(scenario()) == [
        "policy updated: CiliumNetworkPolicy red/p, in-force current, rules 2",
        "policy refused: bad port, policy CiliumNetworkPolicy red/p, in-force last good, rules 2",
        "policy deleted: CiliumNetworkPolicy red/p",
        "policy of identity 300 does not fit: everything is dropped, identity 300, entries 99",
        "policy of identity 300 fits again, identity 300",
    ]


def _row(revision: int, *, overflow: bool) -> SubjectPolicy:
    entries: dict[Any, Any] = {}
    return SubjectPolicy(300, revision, True, True, 99, overflow, entries)
