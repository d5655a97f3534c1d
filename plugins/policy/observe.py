"""Status of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.core.live_options import NODE
from axoneme.plugins.policy.audit import AuditMode
from axoneme.plugins.policy.manager import PolicyManager
from axoneme.plugins.policy.tables import PolicyRow

if TYPE_CHECKING:
    from axoneme.core.status import StatusReport


def report_status(report: StatusReport, manager: PolicyManager, audit: AuditMode) -> None:
    """One line, one component, and each refused policy in the details."""
    tables = manager.tables
    bad, full = refused(manager), overflowed(manager)
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
    elif bad:
        report.component("policy", "Warning", f"{len(bad)} refused: {bad[0].message}")
    else:
        report.component("policy", "Ok")
    if bad or full:
        lines = [f"{row.message} (in force: {row.in_force.value})" for row in bad]
        lines += [f"identity {i}: more entries than bpf-policy-map-max" for i in sorted(full)]
        report.detail("Policy", lines)


def overflowed(manager: PolicyManager) -> set[int]:
    """Identities that are locked because their entries do not fit."""
    computed = {row.identity for row in manager.tables.subjects() if row.overflow}
    return computed | manager.maps.overflowed


def refused(manager: PolicyManager) -> list[PolicyRow]:
    """Policies that are wrong, or cannot be enforced."""
    return [row for row in manager.tables.policies if not row.valid]
