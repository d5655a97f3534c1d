"""Metrics and status of the plugin."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from axoneme.core.live_options import NODE
from axoneme.plugins.policy.audit import AuditMode
from axoneme.plugins.policy.manager import PolicyManager
from axoneme.plugins.policy.tables import PolicyRow

if TYPE_CHECKING:
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport


def register_metrics(metrics: MetricRegistry, manager: PolicyManager) -> None:
    """Cilium's names where it has one (reference §7)."""
    tables, engine = manager.tables, manager.engine
    metrics.collect_gauge(
        "policy", "Policies that are in force", (), lambda: [((), len(tables.policies))]
    )
    metrics.collect_gauge(
        "policy_max_revision", "Revision of the policy", (), lambda: [((), manager.revision)]
    )
    metrics.collect_counter(
        "policy_change_total",
        "Changes of policy objects",
        ("source", "operation", "outcome"),
        lambda: list(manager.objects.changes.items()),
    )
    metrics.collect_gauge(
        "policy_endpoint_enforcement_status",
        "Endpoints by direction enforced",
        ("enforcement",),
        lambda: [((word,), n) for word, n in _enforcement(manager).items()],
    )
    metrics.collect_gauge(
        "policy_selector_match_count_max",
        "Identities matched by the selector that matches most",
        ("class",),
        lambda: [(("all",), max((r.matches for r in tables.selectors), default=0))],
    )
    metrics.collect_gauge(
        "policy_incremental_update_duration",
        "Seconds that the last computation took",
        ("scope",),
        lambda: [(("global",), manager.flush_seconds)],
    )
    metrics.collect_gauge(
        "policy_invalid", "Policies that were refused", (), lambda: [((), len(_refused(manager)))]
    )
    metrics.collect_gauge(
        "policy_overflow",
        "Identities that drop everything because their policy does not fit",
        (),
        lambda: [((), len(overflowed(manager)))],
    )
    metrics.collect_counter(
        "policy_decisions_total",
        "Decisions made for a subject, a direction and a peer",
        (),
        lambda: [((), engine.peers_computed)],
    )


def report_status(report: StatusReport, manager: PolicyManager, audit: AuditMode) -> None:
    """One line, one component, and each refused policy in the details."""
    tables = manager.tables
    refused, full = _refused(manager), overflowed(manager)
    errors = {k: v for k, v in manager.reconciler.errors.items() if k not in full}
    entries = sum(row.size for row in tables.subjects())
    mode = manager.engine.settings.mode
    audited = " (audited)" if audit.audits(NODE) else ""
    if not audited and len(audit):
        audited = f" ({len(audit)} endpoints audited)"
    report.line(
        "Policy",
        f"Mode: {mode}{audited}   Policies: {len(tables.policies)}   "
        f"Identities: {len(tables.subjects())}   Entries: {entries}   "
        f"Revision: {manager.revision}",
    )
    if full:
        report.component("policy", "Failure", f"{len(full)} identities locked: policy too large")
    elif errors:
        identity, message = next(iter(errors.items()))
        report.component("policy", "Failure", f"identity {identity}: {message}")
    elif not manager.objects.synced.is_set():
        report.component("policy", "Warning", "policies are being read")
    elif refused:
        report.component("policy", "Warning", f"{len(refused)} refused: {refused[0].message}")
    else:
        report.component("policy", "Ok")
    if refused or full:
        lines = [f"{row.message} (in force: {row.in_force.value})" for row in refused]
        lines += [f"identity {i}: more entries than bpf-policy-map-max" for i in sorted(full)]
        report.detail("Policy", lines)


def overflowed(manager: PolicyManager) -> set[int]:
    """Identities that are locked because their entries do not fit."""
    computed = {row.identity for row in manager.tables.subjects() if row.overflow}
    return computed | manager.maps.overflowed


def _refused(manager: PolicyManager) -> list[PolicyRow]:
    return [row for row in manager.tables.policies if not row.valid]


def _enforcement(manager: PolicyManager) -> Counter[str]:
    found: Counter[str] = Counter({"ingress": 0, "egress": 0, "both": 0, "none": 0})
    for row in manager.tables.subjects():
        pair = row.ingress_enforced, row.egress_enforced
        word = {(True, True): "both", (True, False): "ingress", (False, True): "egress"}
        found[word.get(pair, "none")] += manager.endpoints_of(row.identity)
    return found
