"""Writes CiliumEndpointSlices: no faster than ``ces-rate-limits`` allows, the last state only.

    changes ─► namespaces to look at ─► arrange ─► slices to write ─► one of each namespace in turn
                                                                      waits for its turn, then is
                                                                      written as endpoints are now

What this process wrote is known at once, so what a watch says about it later, and late, is left
aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from attrs import frozen

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.ipcache.slices import API_VERSION, KIND
from axoneme.core.k8s.limits import TokenBucket
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.rate_limits import in_force, parse_rate_limits
from axoneme.core.operator.slices import (
    Entries,
    Name,
    SliceEntry,
    SliceRow,
    arrange,
    decode_entry,
    decode_row,
)
from axoneme.core.state import Changes, Table, TableRegistry
from axoneme.core.store.reflector import Reflector
from axoneme.core.tasks import TaskGroupRunner

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

    from axoneme.core.config import Config
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.operator.operator import Operator

log = logging.getLogger(__name__)

SOON: Final = 0.05
"""Seconds in which changes gather."""
RETRY_SECONDS: Final = 2.0


class SlicePace:
    """The rate of writes, which follows the number of nodes."""

    def __init__(self, config: Config, nodes: Table[str, Node]) -> None:
        self._limits = parse_rate_limits(config.text("ces-rate-limits"))
        self._nodes = nodes
        self.now = in_force(self._limits, len(nodes))
        self._bucket = TokenBucket(self.now.limit, self.now.burst)
        self._changed = asyncio.Event()
        nodes.subscribe(lambda _: self._follow())

    async def take(self) -> None:
        """Wait until the next write is allowed; by the new rate once that changes."""
        while wait := self._bucket.wait():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
        self._bucket.reserve()

    def _follow(self) -> None:
        wanted = in_force(self._limits, len(self._nodes))
        if wanted != self.now:
            self.now = wanted
            self._bucket.change(wanted.limit, wanted.burst)
            self._changed.set()
            extra = {"nodes": len(self._nodes), "limit": wanted.limit, "burst": wanted.burst}
            log.info("rate of slices changed", extra=extra)


@frozen
class SliceMetrics:
    """What is counted of writes; one per operator."""

    synced: Counter
    sizes: Histogram
    waited: Histogram

    @classmethod
    def declare(cls, metrics: MetricRegistry) -> SliceMetrics:
        """With Cilium's names."""
        return cls(
            metrics.counter(
                "operator_ces_sync_total", "Writes of CiliumEndpointSlices", ("outcome",)
            ),
            metrics.histogram(
                "operator_number_of_ceps_per_ces", "Endpoints in a written CiliumEndpointSlice",
                buckets=(1, 10, 25, 50, 100, 200, 500, 1000),
            ),
            metrics.histogram(
                "operator_ces_queueing_delay_seconds",
                "Seconds from the decision to write a CiliumEndpointSlice to its write",
                buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
            ),
        )  # fmt: skip


@frozen
class Step:
    """A slice that is not as it should be: the endpoints that belong into it."""

    slice: str
    names: tuple[str, ...]
    since: float
    """Monotonic seconds."""
    leaves: bool = False
    """Whether an endpoint leaves it for another slice."""


class SliceWriter:
    """Follows endpoints and slices, and writes slices namespace by namespace."""

    def __init__(
        self, operator: Operator, tables: TableRegistry, pace: SlicePace, metrics: SliceMetrics
    ) -> None:
        self._store = operator.store
        self._most = operator.config.number("ces-max-ciliumendpoints-per-ces")
        self._pace, self._metrics = pace, metrics
        self.entries: Table[Name, SliceEntry] = tables.create(
            "slice_endpoints",
            SliceEntry,
            key=lambda r: r.key,
            indexes={"namespace": lambda r: [r.namespace]},
        )
        self.slices: Table[str, SliceRow] = tables.create(
            "endpoint_slices", SliceRow, key=lambda r: r.name
        )
        self._known: dict[str, SliceRow] = {}
        self._written: dict[str, list[str]] = {}
        """Versions that this process wrote and no watch has told of yet."""
        self._dirty: set[str] = set()
        self._retry: dict[str, float] = {}
        """Namespaces in which a write failed, and when it is tried again."""
        self._wake = asyncio.Event()
        self.entries.subscribe(self._entries_changed)
        self.slices.subscribe(self._slices_changed)

    def follow(self, tasks: TaskGroupRunner) -> None:
        """Spawn what fills the tables."""
        endpoints = Reflector(self._store, "CiliumEndpoint", self.entries, decode_entry)
        slices = Reflector(self._store, KIND, self.slices, decode_row)
        tasks.spawn("reflect CiliumEndpoint for slices", endpoints.run)
        tasks.spawn(f"reflect {KIND}", slices.run)

    async def run(self) -> None:
        """Run for ever; what could not be written is tried again."""
        await self.entries.initialized.wait()
        await self.slices.initialized.wait()
        self.entries.flush()
        self.slices.flush()
        self._written.clear()
        self._known = {row.name: row for row in self.slices.rows()}
        self._dirty |= {row.namespace for row in self._known.values()}
        self._dirty |= {row.namespace for row in self.entries.rows()}
        while True:
            await asyncio.sleep(SOON)
            self._wake.clear()
            await self._settle()
            again = min(self._retry.values(), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again and max(0.0, again - time.monotonic())):
                    await self._wake.wait()

    async def _settle(self) -> None:
        """Write what is not right, one slice of each namespace in turn.

        So a large namespace does not hold up the others. What changes in one meanwhile is looked
        at when its turn has ended.
        """
        plans: dict[str, deque[Step]] = {}
        while True:
            for namespace in sorted(self._due() - plans.keys()):
                self._dirty.discard(namespace)
                self._retry.pop(namespace, None)
                plans[namespace] = self._plan(namespace)
            if not plans:
                return
            for namespace, plan in list(plans.items()):
                if not plan:
                    del plans[namespace]
                elif not await self._do(namespace, plan.popleft()):
                    self._retry[namespace] = time.monotonic() + RETRY_SECONDS
                    # An endpoint that moves may not have arrived.
                    plans[namespace] = deque(step for step in plan if not step.leaves)

    def _due(self) -> set[str]:
        """Namespaces to look at; one in which a write failed rests for a while."""
        now = time.monotonic()
        resting = {namespace for namespace, end in self._retry.items() if end > now}
        return (self._dirty | self._retry.keys()) - resting

    def _plan(self, namespace: str) -> deque[Step]:
        mine = [row for row in self._known.values() if row.namespace == namespace]
        entries = {row.name: row.text for row in self.entries.find("namespace", namespace)}
        wanted = arrange(mine, entries, self._most)
        now = time.monotonic()
        # What grows first: an endpoint that moves is never in none.
        return deque(
            Step(name, tuple(n for n, _ in wanted[name]), now, self._leaves(name, wanted, entries))
            for name in sorted(wanted, key=lambda n: (self._shrinks(n, wanted[n]), n))
            if name not in self._known or self._known[name].entries != wanted[name]
        )

    def _leaves(self, name: str, wanted: Mapping[str, Entries], entries: Mapping[str, str]) -> bool:
        present = self._known.get(name)
        held = dict(present.entries).keys() if present is not None else set()
        return any(n in entries for n in held - dict(wanted[name]).keys())

    def _shrinks(self, name: str, entries: Entries) -> bool:
        present = self._known.get(name)
        return present is not None and len(entries) < len(present.entries)

    async def _do(self, namespace: str, step: Step) -> bool:
        """Write a slice when it may be; false when that is to be tried again."""
        if self._is_right(step.slice, self._as_now(namespace, step)):
            return True
        await self._pace.take()
        entries = self._as_now(namespace, step)
        if self._is_right(step.slice, entries):
            return True
        try:
            await self._write(step.slice, namespace, entries)
        except AxonemeError as error:
            self._metrics.synced.labels(outcome="fail").inc()
            await self._again(step.slice)
            if not isinstance(error, ConflictError):
                extra = {"slice": step.slice, "error": str(error)}
                log.warning("slice not written", extra=extra)
            return False
        self._metrics.waited.observe(time.monotonic() - step.since)
        return True

    def _as_now(self, namespace: str, step: Step) -> Entries:
        rows = [self.entries.get((namespace, name)) for name in step.names]
        return tuple((row.name, row.text) for row in rows if row is not None)

    def _is_right(self, name: str, entries: Entries) -> bool:
        present = self._known.get(name)
        return entries == (present.entries if present is not None else ())

    async def _write(self, name: str, namespace: str, entries: Entries) -> None:
        present = self._known.get(name)
        if present is not None and not entries:
            await self._store.delete(ObjectKey(KIND, "", name), present.version)
            self._known.pop(name, None)
            return
        metadata = {"name": name} | ({"resourceVersion": present.version} if present else {})
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata,
            "namespace": namespace,
            "endpoints": [json.loads(text) for _, text in entries],
        }
        verb = self._store.update if present is not None else self._store.create
        made = await verb(body)
        self._known[name] = SliceRow(name, namespace, entries, made.resource_version)
        self._written.setdefault(name, []).append(made.resource_version)
        self._metrics.synced.labels(outcome="success").inc()
        self._metrics.sizes.observe(len(entries))

    async def _again(self, name: str) -> None:
        """Read a slice that is another one than was thought."""
        try:
            row = decode_row(await self._store.get(ObjectKey(KIND, "", name)))
        except NotFoundError:
            self._known.pop(name, None)
        except AxonemeError:
            return
        else:
            self._known[name] = row

    def _entries_changed(self, changes: Changes[Name, SliceEntry]) -> None:
        self._look_at({namespace for namespace, _ in (*changes.upserted, *changes.deleted)})

    def _slices_changed(self, changes: Changes[str, SliceRow]) -> None:
        for name, row in changes.upserted.items():
            versions = self._written.get(name, [])
            if row.version in versions:
                if row.version == versions[-1]:
                    del self._written[name]
                continue
            self._known[name] = row
            self._look_at({row.namespace})
        for name in changes.deleted:
            self._written.pop(name, None)
            gone = self._known.pop(name, None)
            if gone is not None:  # by somebody else
                self._look_at({gone.namespace})

    def _look_at(self, namespaces: set[str]) -> None:
        self._dirty |= namespaces
        if self._dirty:
            self._wake.set()
