"""Metrics and status of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.plugins.fqdn.agent import FqdnAgent

if TYPE_CHECKING:
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport


def register_metrics(metrics: MetricRegistry, names: FqdnAgent) -> None:
    """Cilium's names where it has one."""
    cache = names.cache
    metrics.collect_counter(
        "fqdn_gc_deletions_total", "Names that have expired", (),
        lambda: [((), names.counts["collected"])],
    )  # fmt: skip
    metrics.collect_gauge(
        "fqdn_active_names", "Names that endpoints were told", (),
        lambda: [((), len({n for _, n, _, _ in cache.rows()}))],
    )  # fmt: skip
    metrics.collect_gauge(
        "fqdn_active_ips", "Addresses that names stand for", (),
        lambda: [((), len(cache.addresses()))],
    )  # fmt: skip
    metrics.collect_gauge(
        "fqdn_alive_zombie_connections", "Expired addresses that connections use", (),
        lambda: [((), names.zombies)],
    )  # fmt: skip
    metrics.collect_gauge(
        "fqdn_selectors", "Names that rules ask for", (), lambda: [((), names.selectors())]
    )
    metrics.collect_gauge(
        "proxy_redirects", "Policy entries that lead to a proxy", ("protocol_l7",),
        lambda: [(("dns",), names.rows())],
    )  # fmt: skip


def report_status(report: StatusReport, names: FqdnAgent) -> None:
    """Whether the proxy is there, and what it does."""
    words = f"{names.rows()} redirects active, {len(names.cache.addresses())} addresses by name"
    if names.connected:
        report.line("Proxy Status", f"OK, DNS on port {names.port}, {words}")
        report.component("dns-proxy", "Ok")
        return
    report.line("Proxy Status", f"DNS proxy not reached, {words}")
    report.component("dns-proxy", "Warning", "the DNS proxy is not reached")
