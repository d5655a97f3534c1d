"""The core's own metrics of an agent, all read from tables and maps when a scraper asks."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axoneme.core.api import dump
from axoneme.core.api.report import package_version
from axoneme.core.metrics import MetricRegistry, Samples

if TYPE_CHECKING:
    from axoneme.core.agent import Agent

DIRECTIONS = ("INGRESS", "EGRESS")


def register(metrics: MetricRegistry, agent: Agent) -> None:
    """Declare them; reading one whose table or map is not there yet yields nothing."""
    gauge = metrics.collect_gauge
    gauge("version", "version of the agent", ["version"], lambda: [([package_version()], 1)])
    gauge("endpoint", "endpoints of this node", [], lambda: [((), len(rows(agent, "endpoints")))])
    gauge(
        "endpoint_state",
        "endpoints of this node by state",
        ["endpoint_state"],
        lambda: count(str(row.state) for row in rows(agent, "endpoints")),
    )
    gauge(
        "identity",
        "identities that this node knows by type",
        ["type"],
        lambda: count(_identity_type(row) for row in rows(agent, "identities")),
    )
    gauge(
        "ip_addresses",
        "addresses of endpoints by family",
        ["family"],
        lambda: count(family for row in rows(agent, "endpoints") for family in _families(row)),
    )
    gauge(
        "controllers_failing",
        "background tasks that failed within the last minute",
        [],
        lambda: [((), len(agent.tasks.failing()))],
    )
    gauge(
        "table_rows",
        "rows of each table",
        ["table"],
        lambda: [((table.name,), len(table)) for table in agent.tables],
    )
    gauge(
        "plugins",
        "plugins by state",
        ["state"],
        lambda: count(info.state for info in agent.plugins.infos),
    )
    gauge(
        "bpf_map_capacity",
        "entries that a map can hold",
        ["map_group"],
        lambda: [((name,), m.info.max_entries) for name, m in maps(agent).items()],
    )
    _reconcilers(metrics, agent)
    _traffic(metrics, agent)
    _store(metrics, agent)


def _reconcilers(metrics: MetricRegistry, agent: Agent) -> None:
    """Rows by what became of them, for each reconciler: done, pending, error."""
    metrics.collect_gauge(
        "reconciler_rows",
        "rows of each reconciler by state",
        ["reconciler", "state"],
        lambda: [
            ((name, state), number)
            for name, reconciler in agent.reconcilers.items()
            for (state,), number in count(s.state for s in reconciler.statuses.values())
        ],
    )


def _store(metrics: MetricRegistry, agent: Agent) -> None:
    """Requests to the API server, and what is known without it."""
    metrics.collect_counter(
        "k8s_client_api_calls_total",
        "requests to the API server by server, verb and answer",
        ["host", "method", "return_code"],
        lambda: [(labels, float(number)) for labels, number in agent.store.calls().items()],
    )
    metrics.collect_gauge(
        "store_away",
        "1 while the store cannot be reached, else 0",
        [],
        lambda: [((), float(bool(agent.store.away())))],
    )
    metrics.collect_gauge(
        "store_recalled_kinds",
        "kinds of objects of which only what was saved is known",
        [],
        lambda: [((), float(len(agent.store.recalled())))],
    )


def _traffic(metrics: MetricRegistry, agent: Agent) -> None:
    """Packets and bytes by what became of them, from the per-CPU map axo_metrics."""
    for unit in ("packets", "bytes"):
        word = "count" if unit == "packets" else "bytes"
        metrics.collect_counter(
            f"drop_{word}_total",
            f"dropped {unit} by reason and direction",
            ["reason", "direction"],
            lambda unit=unit: [  # type: ignore[misc]  # binds the loop's value
                ((row["reason-text"], row["direction"]), row[unit])
                for row in traffic(agent)
                if row["reason"]
            ],
        )
        metrics.collect_counter(
            f"forward_{word}_total",
            f"forwarded {unit} by direction",
            ["direction"],
            lambda unit=unit: [  # type: ignore[misc]
                ((row["direction"],), row[unit]) for row in traffic(agent) if not row["reason"]
            ],
        )


def traffic(agent: Agent) -> list[dict[str, Any]]:
    """Rows of ``axoneme bpf metrics list``; the map has a few dozen entries at most."""
    bpf_map = maps(agent).get("axo_metrics")
    if bpf_map is None:
        return []
    texts = drop_reasons()
    found = []
    for entry in dump.entries(bpf_map)["entries"]:
        reason, direction = entry["key"]["reason"], entry["key"]["dir"]
        found.append(
            {
                "reason": reason,
                "reason-text": texts.get(reason, f"reason {reason}") if reason else "Success",
                "direction": DIRECTIONS[direction] if direction < len(DIRECTIONS) else "UNKNOWN",
                "packets": entry["value"]["packets"],
                "bytes": entry["value"]["bytes"],
            }
        )
    return sorted(found, key=lambda row: (row["reason"], row["direction"]))


_REASONS: dict[int, str] = {}


def drop_reasons() -> dict[int, str]:
    """Texts of the drop reasons by number, from the header that the programs are made of."""
    if not _REASONS:
        # Read once: the header is part of the installed package and does not change.
        from axoneme.core.datapath.enums import read_enums  # noqa: PLC0415

        header = Path(str(files("axoneme.bpf"))) / "include" / "axo" / "drop_reasons.h"
        for number, entry in read_enums(header)["AXO_DROP"].items():
            _REASONS[number] = entry.text or entry.name
    return _REASONS


def rows(agent: Agent, table: str) -> list[Any]:
    """Rows of a table that may not be there."""
    return agent.tables[table].rows() if table in agent.tables else []


def maps(agent: Agent) -> dict[str, Any]:
    """The maps by name; none before the packet path is loaded."""
    return dict(getattr(getattr(agent, "datapath", None), "maps", None) or {})


def count(words: Any) -> Samples:
    """Samples of how often each word occurs."""
    return [((word,), number) for word, number in sorted(Counter(words).items())]


def _identity_type(row: Any) -> str:
    if row.source == "reserved":
        return "reserved"
    return "node_local" if row.is_local else "cluster_local"


def _families(row: Any) -> list[str]:
    return [
        family
        for family, address in (("ipv4", row.ipv4), ("ipv6", row.ipv6))
        if address is not None
    ]
