"""Whose entry is whose in a service's status, and how statuses are written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from axoneme.core.errors import ConflictError, StoreError
from axoneme.core.model.conditions import Condition, has_condition
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.operator.balancers import (
    SATISFIED,
    BalancerService,
    decode_balancer,
)
from axoneme.core.operator.statuses import (
    BATCH,
    StatusQueue,
    own_addresses,
    with_addresses,
    without_addresses,
)

ONE, TWO, OTHER = (ip_address(a) for a in ("10.0.0.1", "10.0.0.2", "192.0.2.1"))
FINE = Condition(SATISFIED, "True", "satisfied")


def row(*entries: Mapping[str, Any], marked: bool = True) -> BalancerService:
    conditions = [{"type": SATISFIED, "status": "True"}] if marked else []
    status = {"conditions": conditions, "loadBalancer": {"ingress": list(entries)}}
    return BalancerService(("default", "s"), status=status)


def entry(address: Any, **more: Any) -> dict[str, Any]:
    return {"ip": str(address), **more}


def ingress(status: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = status["loadBalancer"].get("ingress", [])
    return found


HOST = {"hostname": "lb.example"}
VIP = {"ipMode": "VIP"}


def test_what_is_ours_is_replaced_and_the_rest_stays_in_its_place() -> None:
    """Ours by mark and mode, or because we say so; a proxy's and names are somebody else's."""
    proxy = entry(OTHER, ipMode="Proxy")
    found = row(HOST, entry(ONE, **VIP), proxy)
    assert own_addresses(found, SATISFIED) == (ONE,)
    status = with_addresses(found, [TWO], FINE, lambda a: False)
    assert ingress(status) == [HOST, proxy, entry(TWO, **VIP)]
    unmarked = row(entry(ONE), entry(OTHER), marked=False)
    status = with_addresses(unmarked, [TWO], FINE, {ONE}.__contains__)
    assert ingress(status) == [entry(OTHER), entry(TWO, **VIP)]
    assert has_condition(status, SATISFIED)


def test_the_same_again_changes_nothing() -> None:
    """Nothing to write; an entry of ours without a mode gets one, in its place."""
    first = with_addresses(row(), [ONE, TWO], FINE, lambda a: True)
    again = BalancerService(("default", "s"), status=first)
    assert with_addresses(again, [TWO, ONE], FINE, lambda a: True) == first
    bare = row(entry(ONE), entry(TWO, **VIP))
    status = with_addresses(bare, [ONE, TWO], FINE, lambda a: True)
    assert ingress(status) == [entry(ONE, **VIP), entry(TWO, **VIP)]


def test_leaving_takes_out_ours_alone() -> None:
    """And nothing at all where we never were."""
    status = without_addresses(row(HOST, entry(ONE, **VIP)), SATISFIED, lambda a: False)
    assert status == {"loadBalancer": {"ingress": [HOST]}}
    stranger = row(entry(ONE, **VIP), marked=False)
    assert without_addresses(stranger, SATISFIED, lambda a: True) == stranger.status


def test_statuses_that_are_not_what_they_should_be() -> None:
    """Whatever stands there, nothing raises; what cannot be read is kept or dropped quietly."""
    for status in ({"loadBalancer": 3}, {"loadBalancer": {"ingress": ["x", {"ip": "bad"}]}},
                   {"conditions": {"a": 1}}, {"conditions": [3, {"type": SATISFIED}]}):  # fmt: skip
        found = BalancerService(("default", "s"), status=status)
        assert entry(ONE, **VIP) in ingress(with_addresses(found, [ONE], FINE, lambda a: False))
        without_addresses(found, SATISFIED, lambda a: False)


def test_a_service_is_here_while_its_status_is_not_clean() -> None:
    """Of another type and without leftovers it is none of this table."""
    key = ObjectKey("Service", "default", "s")

    def decoded(kind: str, status: Any) -> BalancerService | None:
        body = {"metadata": {}, "spec": {"type": kind, "ports": "bad"}, "status": status}
        return decode_balancer(ClusterObject(key, "v1", body=body))

    assert decoded("ClusterIP", {}) is None
    left = decoded("ClusterIP", {"loadBalancer": {"ingress": [entry(ONE)]}})
    assert left is not None and left.ipam("lbipam") == ""
    bad = decoded("LoadBalancer", {})
    assert bad is not None and bad.problem == "spec.ports: must be a list"


class Writes:
    """A store that remembers, or refuses, what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.error: Exception | None = None

    async def update_status(self, key: ObjectKey, status: Any, version: str) -> None:
        if self.error:
            raise self.error
        self.written.append(key.name)


def test_a_change_does_not_wait_behind_thousands() -> None:
    """Few at a time; what could not be written is kept for a retry, a conflict is not."""

    async def work() -> None:
        store: Any = Writes()
        queue = StatusQueue(store, lambda key: None if key.name == "gone" else ({}, {"a": 1}, "1"))
        queue.add(ObjectKey("Service", "default", f"{i:04}") for i in range(1000))
        await queue.work()
        queue.add([ObjectKey("Service", "default", n) for n in ("gone", "new")])
        await queue.work()
        assert store.written[BATCH] == "new" and len(store.written) == 2 * BATCH
        while queue:
            await queue.work()
        assert len(store.written) == 1001
        for error, failed in ((ConflictError("x"), 0), (StoreError("full"), 1)):
            store.error = error
            queue.add([ObjectKey("Service", "default", "new")])
            await queue.work()
            assert (len(queue.failed), bool(queue)) == (failed, False)
        store.error = None
        queue.retry()
        await queue.work()
        assert not queue.failed and len(store.written) == 1002

    asyncio.run(work())
