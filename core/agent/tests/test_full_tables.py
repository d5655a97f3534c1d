"""A table that is nearly full is told of with the key that gives it more room."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from axoneme.core.agent.health import _full_tables
from axoneme.core.status import Health, StatusReport


@define
class Collector:
    """What the last scan saw."""

    scanned: dict[str, int]


@define
class Agent:
    """What is read of an agent."""

    conntrack: Any
    config: dict[str, int] = field(
        factory=lambda: {"bpf-ct-global-tcp-max": 100, "bpf-ct-global-any-max": 50}
    )


def test_a_full_table_names_its_key() -> None:
    """TCP's and the others' have keys of their own; one with room says nothing."""
    report = StatusReport()
    agent: Any = Agent(Collector({"axo_ct4": 95, "axo_ct6": 10, "axo_ct_any4": 46}))
    _full_tables(report, agent)
    said = {(c.health, c.message) for c in report.components}
    assert said == {
        (Health.WARNING, "axo_ct4 holds 95 of 100 entries: raise bpf-ct-global-tcp-max"),
        (Health.WARNING, "axo_ct_any4 holds 46 of 50 entries: raise bpf-ct-global-any-max"),
    }
