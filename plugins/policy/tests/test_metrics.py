"""What a scraper reads of policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.core.live_options import ENABLED
from axoneme.core.metrics import MetricRegistry
from axoneme.core.model.labels import RESERVED
from axoneme.core.model.policy import FqdnPeer, Operator, Requirement, Selector
from axoneme.plugins.policy.audit import AuditMode, audit_table
from axoneme.plugins.policy.decode.entities import entity
from axoneme.plugins.policy.metrics import class_of, register_metrics
from axoneme.plugins.policy.tests.test_manager import CLIENT, WEB, Node, policy, run

PEER = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}
DELAYS = "policy_implementation_delay_count"


def value(metrics: MetricRegistry, name: str, **labels: str) -> float:
    """One sample; 0 where there is none."""
    wanted = tuple(sorted(labels.items()))
    found = [s.value for s in metrics.samples(name) if s.labels == wanted]
    return found[0] if found else 0.0


def test_changes_are_timed_until_the_kernel_has_them(tmp_path: Path) -> None:
    """One for each change of rules, by kind; what there was at the start and a status count not."""

    async def scenario() -> None:
        node = Node(tmp_path)
        await node.store.create(policy(PEER, name="there"))
        audit = AuditMode(audit_table(node.tables), node.endpoints, tmp_path / "a", default=False)
        metrics = MetricRegistry()
        register_metrics(metrics, node.manager, audit)
        async with node:
            node.endpoint(1, WEB)
            await node.until(lambda: WEB in node.maps.rows)
            kind = "CiliumNetworkPolicy"
            assert value(metrics, DELAYS, source=kind) == 0
            made = await node.store.create(policy({"fromEntities": ["cluster"]}))
            await node.until(lambda: value(metrics, DELAYS, source=kind) == 1)
            assert node.passes(CLIENT)
            await node.store.update_status(made.key, {"conditions": []})
            await node.store.delete(made.key)
            await node.until(lambda: value(metrics, DELAYS, source=kind) == 2)
            counted = value(metrics, "policy_incremental_update_duration_count", scope="global")
            assert counted >= 2
            total = value(metrics, "policy_implementation_delay_sum", source=kind)
            assert 0 < total < 20

    run(scenario())


def test_endpoints_are_counted_by_what_is_enforced(tmp_path: Path) -> None:
    """Those whose refusals pass have words of their own; who is not enforced is not audited."""

    async def scenario() -> None:
        node = Node(tmp_path)
        audit = AuditMode(audit_table(node.tables), node.endpoints, tmp_path / "a", default=False)
        metrics = MetricRegistry()
        register_metrics(metrics, node.manager, audit)

        def counts() -> dict[str, float]:
            name = "policy_endpoint_enforcement_status"
            return {s.labels[0][1]: s.value for s in metrics.samples(name) if s.value}

        async with node:
            for number, identity in ((1, WEB), (2, WEB), (3, CLIENT)):
                node.endpoint(number, identity)
            await node.store.create(policy(PEER))
            await node.until(lambda: counts() == {"ingress": 2, "none": 1})
            for number in (2, 3):
                audit.option().set(number, ENABLED)
            await node.until(lambda: counts() == {"ingress": 1, "audit-ingress": 1, "none": 1})
            assert value(metrics, "policy_selector_match_count_max", **{"class": "other"}) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("peer", "word"),
    [
        (entity("cluster")[-1], "cluster"),
        (entity("world")[0], "world"),
        (entity("world-ipv6")[0], "world"),
        (entity("host")[0], "other"),
        (entity("all")[0], "other"),
        (FqdnPeer(pattern="*.example.org").selector, "fqdn"),
        (Selector((Requirement(RESERVED, "world", Operator.NOT_IN, ("x",)),) * 2), "other"),
    ],
)
def test_selectors_have_a_class(peer: Selector, word: str) -> None:
    """By whom they mean."""
    assert class_of(peer) == word
