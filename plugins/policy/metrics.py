"""Metrics of the plugin."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from axoneme.core.model.labels import FQDN, K8S, NAMESPACE_KEY, RESERVED
from axoneme.core.model.policy import CidrPeer, Operator, Requirement, Selector
from axoneme.plugins.policy.audit import AuditMode
from axoneme.plugins.policy.manager import PolicyManager
from axoneme.plugins.policy.observe import overflowed, refused
from axoneme.plugins.policy.selectors import SelectorCache

if TYPE_CHECKING:
    from axoneme.core.metrics import MetricRegistry

CLUSTER: Final = (Requirement(K8S, NAMESPACE_KEY, Operator.EXISTS),)
"""What the pods of entity ``cluster`` have."""


def register_metrics(metrics: MetricRegistry, manager: PolicyManager, audit: AuditMode) -> None:
    """Cilium's names where it has one."""
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
        lambda: [((word,), n) for word, n in _enforcement(manager, audit).items()],
    )
    metrics.collect_gauge(
        "policy_selector_match_count_max",
        "Identities matched by the selector that matches most",
        ("class",),
        lambda: [((word,), n) for word, n in _most_matches(engine.selectors).items()],
    )
    updates = metrics.histogram(
        "policy_incremental_update_duration", "Seconds that a computation took", ("scope",)
    )
    manager.timings.update = updates.labels("global").observe
    delays = metrics.histogram(
        "policy_implementation_delay",
        "Seconds from the event of a policy object until the kernel has its rules",
        ("source",),
    )
    manager.timings.delay = lambda kind, seconds: delays.labels(kind).observe(seconds)
    metrics.collect_gauge(
        "policy_invalid", "Policies that were refused", (), lambda: [((), len(refused(manager)))]
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


def _enforcement(manager: PolicyManager, audit: AuditMode) -> Counter[str]:
    """Endpoints by what is enforced; ``audit-…``: refusals of theirs are told and pass."""
    ways = ("ingress", "egress", "both")
    found: Counter[str] = Counter(dict.fromkeys(("none", *ways, *(f"audit-{w}" for w in ways)), 0))
    for row in manager.tables.subjects():
        pair = row.ingress_enforced, row.egress_enforced
        words = {(True, True): "both", (True, False): "ingress", (False, True): "egress"}
        word = words.get(pair, "none")
        for endpoint in manager.members(row.identity):
            audited = word != "none" and audit.audits(endpoint)
            found[f"audit-{word}" if audited else word] += 1
    return found


def _most_matches(selectors: SelectorCache) -> dict[str, int]:
    """How many identities the selector of each class matches that matches most."""
    most = dict.fromkeys(("cluster", "world", "fqdn", "other"), 0)
    for handle in selectors.handles():
        peer, _, matches = selectors.describe(handle) or (None, 0, 0)
        if peer is not None:
            word = class_of(peer)
            most[word] = max(most[word], matches)
    return most


def class_of(peer: Selector | CidrPeer) -> str:
    """``cluster`` and ``world``: those entities; ``fqdn``: a name; ``other``: all else."""
    if isinstance(peer, CidrPeer):
        return "other"
    if peer.requirements == CLUSTER:
        return "cluster"
    if any(term.source == FQDN for term in peer.requirements):
        return "fqdn"
    keys = [term.key for term in peer.requirements if term.source == RESERVED]
    world = len(peer.requirements) == 1 and keys and keys[0].startswith("world")
    return "world" if world else "other"
