"""What the objects' statuses say: conditions of pools and of services. Pure."""

from __future__ import annotations

from typing import Any, Final

from axoneme.core.model.conditions import Condition, with_condition, without_condition
from axoneme.core.operator.balancers import SATISFIED
from axoneme.plugins.lb_ipam.pools import PoolBook
from axoneme.plugins.lb_ipam.rows import Outcome, Pool

CONFLICT: Final = "cilium.io/PoolConflict"
TOTAL: Final = "cilium.io/IPsTotal"
AVAILABLE: Final = "cilium.io/IPsAvailable"
USED: Final = "cilium.io/IPsUsed"
INVALID: Final = "axoneme.io/PoolInvalid"


def pool_status(pool: Pool, book: PoolBook) -> dict[str, Any]:
    """The status of a pool: its conflict, its counts as messages, and what is bad in its spec."""
    conflict = book.conflicts.get(pool.name, "")
    total, used = book.usage(pool.name)
    status = with_condition(
        pool.status,
        Condition(
            CONFLICT,
            "True" if conflict else "False",
            "cidr_overlap" if conflict else "resolved",
            conflict,
            pool.generation,
        ),
    )
    for kind, count in ((TOTAL, total), (AVAILABLE, max(0, total - used)), (USED, used)):
        condition = Condition(kind, "Unknown", "noreason", str(count), pool.generation)
        status = with_condition(status, condition)
    if not pool.problem:
        return without_condition(status, INVALID)
    bad = Condition(INVALID, "True", "invalid_spec", pool.problem, pool.generation)
    return with_condition(status, bad)


def service_condition(outcome: Outcome) -> Condition:
    """The condition of a service."""
    status = "True" if outcome.satisfied else "False"
    return Condition(SATISFIED, status, outcome.reason, outcome.message)
