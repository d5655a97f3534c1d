"""The agent's task of collecting conntrack entries, and its metrics."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from axoneme.core.conntrack.gc import LONGEST, TABLES, ConntrackCollector, ConntrackTable

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent
    from axoneme.core.metrics import MetricRegistry, Samples

log = logging.getLogger(__name__)


def make_collector(agent: Agent) -> ConntrackCollector:
    """A collector of the tables that the packet path has."""
    maps = agent.datapath.maps
    tables = {}
    for name in TABLES:
        bpf_map = maps.get(name)
        if bpf_map is not None and bpf_map.definition is not None:
            offset = bpf_map.definition.value.field("expires").offset
            tables[name] = ConntrackTable(bpf_map, offset)
    collector = ConntrackCollector(tables, fixed=agent.config.seconds("conntrack-gc-interval"))
    collector.pace.longest = agent.config.seconds("conntrack-gc-max-interval") or LONGEST
    return collector


async def collect(agent: Agent) -> None:
    """Collect for ever."""
    await agent.ready.wait()
    collector = make_collector(agent)
    agent.conntrack = collector
    while True:
        await asyncio.sleep(collector.delay())
        gone = await asyncio.to_thread(collector.run)
        log.info(
            "conntrack collected",
            extra={
                "entries": sum(collector.scanned.values()),
                "removed": gone,
                "milliseconds": round(collector.last_seconds * 1000),
                "next_seconds": round(collector.delay()),
            },
        )


def register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """What the collector did and saw, with Cilium's names."""

    def entries() -> Samples:
        found = agent.conntrack
        return [((name,), float(n)) for name, n in (found.scanned if found else {}).items()]

    def runs() -> Samples:
        return [((), float(agent.conntrack.runs if agent.conntrack else 0))]

    def removed() -> Samples:
        return [((), float(agent.conntrack.removed if agent.conntrack else 0))]

    metrics.collect_gauge(
        "datapath_conntrack_gc_entries", "Entries that the last scan saw", ("table",), entries
    )
    metrics.collect_counter("datapath_conntrack_gc_runs_total", "Scans", (), runs)
    metrics.collect_counter(
        "datapath_conntrack_gc_removed_total", "Entries that scans removed", (), removed
    )
