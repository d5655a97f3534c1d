"""The operator's task: services and pools in, statuses out.

The record is ``Service.status``: whoever leads next adopts what stands there. Nothing is given or
taken before both kinds have been read as a whole. Without any pool the plugin sleeps: services that
it never served do not get a condition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from axoneme.core.model.conditions import has_condition
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator.balancers import (
    DEFAULT_KEY,
    LBIPAM,
    SATISFIED,
    Address,
    BalancerService,
    Name,
    balancer_services,
)
from axoneme.core.operator.statuses import (
    RETRY_SECONDS,
    StatusQueue,
    with_addresses,
    without_addresses,
)
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.lb_ipam.allocator import Allocator
from axoneme.plugins.lb_ipam.decode import KIND, decode_pool, decode_request
from axoneme.plugins.lb_ipam.rows import Pool
from axoneme.plugins.lb_ipam.status import pool_status, service_condition

if TYPE_CHECKING:
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.operator import Operator
    from axoneme.core.state.changes import Changes

log = logging.getLogger(__name__)

FULL_PASS_SECONDS: Final = 300.0
METRICS: Final = "operator_lbipam_"


class LoadBalancerIpam:
    """LB-IPAM of one operator."""

    def __init__(self, operator: Operator) -> None:
        self._config = operator.config
        self._default = operator.config.text(DEFAULT_KEY)
        self._store = operator.store
        self.services = balancer_services(operator)
        self.pools: Table[str, Pool] = operator.tables.create(
            "balancer_pools", Pool, key=lambda r: r.name
        )
        self.reflector = Reflector(operator.store, KIND, self.pools, decode_pool)
        operator.tasks.spawn(f"reflect {KIND}", self.reflector.run)
        operator.add_task("lb-ipam", self.run)
        self.allocator = Allocator()
        self.queue = StatusQueue(self._store, self._desired)
        self._good: dict[str, Pool] = {}
        self._problems: dict[str, str] = {}

    async def run(self) -> None:
        """Run while leading. What an earlier leader knew, this process too, is forgotten."""
        self.allocator, self._good, self._problems = Allocator(), {}, {}
        self.queue = StatusQueue(self._store, self._desired)
        await self.services.initialized.wait()
        await self.pools.initialized.wait()
        wake = asyncio.Event()
        undo = [t.subscribe(lambda _: wake.set()) for t in (self.services, self.pools)]
        try:
            with self.services.watch() as services, self.pools.watch() as pools:
                while True:
                    self.take(services.take(), pools.take())
                    await self.queue.work()
                    if not self.queue:
                        await self._sleep(wake)
                    wake.clear()
        finally:
            for unsubscribe in undo:
                unsubscribe()

    async def _sleep(self, wake: asyncio.Event) -> None:
        """Until something changes; what was not written, and in the end everything, comes again."""
        failed = bool(self.queue.failed)
        try:
            async with asyncio.timeout(RETRY_SECONDS if failed else FULL_PASS_SECONDS):
                await wake.wait()  # not wait_for: it loses a cancellation that meets a wake-up
        except TimeoutError:
            if failed:
                self.queue.retry()
            else:
                self._look_at_pools()
                self.queue.add(row.key for row in self.services)

    # What changed

    def take(self, services: Changes[Name, BalancerService], pools: Changes[str, Pool]) -> None:
        """Compute who has what now, and note whose status that changes. No I/O."""
        if services:
            mine = [r for r in services.upserted.values() if r.ipam(self._default) == LBIPAM]
            gone = (services.upserted.keys() - {r.name for r in mine}) | services.deleted.keys()
            changed = self.allocator.update((decode_request(r, self._config) for r in mine), gone)
            self._note(changed | gone)
            self._log("services changed", changed=len(changed), gone=len(gone))
        if pools:
            self._look_at_pools()

    def _look_at_pools(self) -> None:
        """A pool that is bad now counts as it was when it was good."""
        pools, unread = [], self.reflector.errors.keys() - {_key(p.name) for p in self.pools}
        for pool in self.pools:
            if not pool.problem:
                self._good[pool.name] = pool
            elif pool.name not in self._good:
                unread.add(_key(pool.name))
            if pool.problem and self._problems.get(pool.name) != pool.problem:
                extra = {"object": str(_key(pool.name)), "error": pool.problem}
                log.warning("pool refused, last good version kept", extra=extra)
        self._problems = {p.name: p.problem for p in self.pools}
        self._good = {n: p for n, p in self._good.items() if n in self._problems}
        pools = list(self._good.values())
        before = [evolve(p, status={}, version="") for p in self.allocator.book.pools]
        after = sorted((evolve(p, status={}, version="") for p in pools), key=lambda p: p.age)
        if before != after or self.allocator.keep_unknown != bool(unread):
            old = self.allocator.book.conflicts
            self._note(self.allocator.set_pools(after, bool(unread)))
            for name, why in self.allocator.book.conflicts.items():
                if old.get(name) != why:
                    log.warning("pool in conflict", extra={"pool": name, "why": why})
            self._log("pools changed", pools=len(after))
        self.queue.add(_key(p.name) for p in self.pools)

    def _note(self, names: Iterable[Name]) -> None:
        """Who only loses something is written first: then it is free for whoever gets it."""
        ordered = sorted(names, key=self._gains)
        self.queue.add(ObjectKey("Service", *name) for name in ordered)
        self.queue.add(_key(p.name) for p in self.pools)

    def _log(self, event: str, **counts: int) -> None:
        allocator = self.allocator
        total = {"services": len(allocator.requests), "waiting": len(allocator.waiting)}
        log.debug(event, extra=counts | total)

    def _gains(self, name: Name) -> bool:
        request = self.allocator.requests.get(name)
        had = request.present if request is not None else ()
        return any(address not in had for address in self.allocator.held.get(name, ()))

    # What statuses should say

    def _desired(self, key: ObjectKey) -> tuple[Mapping[str, Any], Mapping[str, Any], str] | None:
        if key.kind == KIND:
            pool = self.pools.get(key.name)
            return (
                (pool.status, pool_status(pool, self.allocator.book), pool.version)
                if pool
                else None
            )
        row = self.services.get((key.namespace, key.name))
        if row is None:
            return None
        outcome = self.allocator.outcomes.get(row.name)
        if row.ipam(self._default) != LBIPAM or outcome is None:
            return row.status, without_addresses(row, SATISFIED, self._owns), row.version
        asleep = not (len(self.pools) or self.reflector.errors)
        if asleep and not has_condition(row.status, SATISFIED):
            return None
        condition = service_condition(outcome)
        status = with_addresses(row, outcome.addresses, condition, self._owns)
        return row.status, status, row.version

    def _owns(self, address: Address) -> bool:
        return self.allocator.book.find(address) is not None

    # Metrics

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """Cilium's five, while leading."""
        one = self._register_number
        one(metrics, "conflicting_pools", "Pools that overlap others",
            lambda: len(self.allocator.book.conflicts))  # fmt: skip
        one(metrics, "services_matching", "Services that LB-IPAM serves",
            lambda: len(self.allocator.requests))  # fmt: skip
        one(metrics, "services_unsatisfied", "Services that lack an address",
            lambda: len(self.allocator.waiting))  # fmt: skip
        metrics.collect_gauge(
            f"{METRICS}ips_available", "Free addresses of a pool", ("pool",),
            lambda: [((p,), float(max(0, total - used))) for p, total, used in self._usage()],
        )  # fmt: skip
        metrics.collect_gauge(
            f"{METRICS}ips_used", "Addresses of a pool in use", ("pool",),
            lambda: [((p,), float(used)) for p, _, used in self._usage()],
        )  # fmt: skip

    @staticmethod
    def _register_number(
        metrics: MetricRegistry, name: str, text: str, read: Callable[[], int]
    ) -> None:
        metrics.collect_gauge(METRICS + name, text, (), lambda: [((), float(read()))])

    def _usage(self) -> list[tuple[str, int, int]]:
        book = self.allocator.book
        return [(pool.name, *book.usage(pool.name)) for pool in book.pools]


def _key(pool: str) -> ObjectKey:
    return ObjectKey(KIND, "", pool)
