"""Counters of entries: what ``bpf policy get`` shows of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from axoneme.core.cli.output import Output
from axoneme.core.endpoints.tables import endpoint_table
from axoneme.core.model.labels import LabelSet
from axoneme.core.state import TableRegistry
from axoneme.plugins.policy.cli import _show_entries
from axoneme.plugins.policy.counters import Counted, Counters, StatValue
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import ALLOW, EGRESS, PolicyKey, PolicyValue
from axoneme.plugins.policy.views import PolicyViews

ENTRIES = {
    PolicyKey(0, EGRESS, 0, 0, 0): PolicyValue(ALLOW, False, 7, 0),
    PolicyKey(500, EGRESS, 6, 80, 24): PolicyValue(ALLOW, False, 8, 24),
}


def rows(counters: Counters | None) -> list[dict[str, Any]]:
    """The answer of ``bpf.policy`` for one subject with ``ENTRIES``."""
    engine = PolicyEngine()
    engine.upsert_identity(300, LabelSet.parse(["k8s:app=web"]))
    engine.set_subject(300)
    maps = SimpleNamespace(read=lambda identity: ENTRIES)
    manager: Any = SimpleNamespace(engine=engine, maps=maps)
    views = PolicyViews(
        manager, endpoint_table(TableRegistry()), None if counters is None else lambda: counters
    )
    return asyncio.run(views.entries({}))


def test_counters_stand_beside_their_entry() -> None:
    """By subject, entry and rule; one that has decided nothing has zero."""
    key = PolicyKey(500, EGRESS, 6, 80, 24)
    counters = {
        Counted(300, key, 8): StatValue(3, 222),
        Counted(300, PolicyKey(0, EGRESS, 0, 0, 0), 6): StatValue(9, 9),
        Counted(301, key, 8): StatValue(5, 5),
    }
    [subject] = rows(counters)
    found = {e["port"]: (e["packets"], e["bytes"]) for e in subject["entries"]}
    assert found == {"ANY": (0, 0), "80/TCP": (3, 222)}


def test_without_accounting_there_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a zero: nobody has counted."""
    [subject] = rows(None)
    assert {e["packets"] for e in subject["entries"]} == {None}
    _show_entries([subject], Output("table"), numeric=True)
    assert capsys.readouterr().out.count(" - ") == 4
