"""The operator makes CiliumIdentities for pods: ``identity-management-mode`` operator or both.

A label set gets its number as soon as its first pod exists, mostly before the pod has a node. The
agents' watches bring it there. Numbers, collisions and repairs are those of
:class:`~axoneme.core.identities.maker.IdentityMaker`; what no pod has is left to the collection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from axoneme.core.endpoints.labels import PodLabeller
from axoneme.core.endpoints.pods import Namespace, decode_namespace
from axoneme.core.errors import AxonemeError
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.maker import IdentityMaker
from axoneme.core.identities.modes import operator_makes
from axoneme.core.identities.objects import KIND
from axoneme.core.identities.table import identity_table
from axoneme.core.model.labels import K8S, Label, LabelSet
from axoneme.core.operator.pod_shapes import Key, ShapeDecoder, ShapedPod, WantedLabels
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.state import Changes, Table
from axoneme.core.store.reflector import Reflector

if TYPE_CHECKING:
    from axoneme.core.operator.operator import Operator

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Label sets that are worked on at a time; the store's own rate is the limit."""


def register(operator: Operator) -> None:
    """Add the task if the operator makes identities."""
    if operator_makes(operator.config):
        PodIdentities(operator)


class PodIdentities:
    """Keeps an identity for each label set that a pod of the cluster has."""

    def __init__(self, operator: Operator) -> None:
        config, tables = operator.config, operator.tables
        self.numbers = identity_table(tables)
        maker = IdentityMaker(operator.store, self.numbers, cluster_id=config.number("cluster-id"))
        self.allocator = IdentityAllocator(self.numbers, maker)
        self.allocator.on_lost(self._lost)
        self.pods: Table[Key, ShapedPod] = tables.create(
            "pod_shapes", ShapedPod, key=lambda r: r.key
        )
        self.namespaces: Table[str, Namespace] = tables.create(
            "namespaces", Namespace, key=lambda r: r.name
        )
        plugins = list(operator.plugins.each("axoneme_label_pod"))
        self.wanted = WantedLabels(PodLabeller.of(config, plugins))
        self._held: dict[LabelSet, int] = {}
        self._dirty: set[LabelSet] = set()
        self._failures: dict[LabelSet, int] = {}
        self._working = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._events = operator.metrics.counter(
            "operator_cid_controller_work_queue_event_count",
            "Label sets of pods that the operator looked at",
            ("resource", "outcome"),
        )
        self.pods.subscribe(self._pods_changed)
        self.namespaces.subscribe(self._namespaces_changed)
        store = operator.store
        chosen = LabelFilter.from_option(config.words("labels"))
        decoder = ShapeDecoder(
            lambda key: bool(plugins) or chosen.keeps(Label(K8S, key, "")),
            annotations=bool(plugins),
        )
        for reflector in (
            Reflector(store, KIND, self.numbers, self.allocator.decode),
            Reflector(store, "Namespace", self.namespaces, decode_namespace),
            Reflector(store, "Pod", self.pods, decoder),
        ):
            operator.tasks.spawn(f"reflect {reflector.kind} for identities", reflector.run)
        operator.add_task("identities of pods", self.run)
        operator.identities_in_use.append(self.in_use)

    async def in_use(self) -> Collection[int]:
        """Numbers that pods have or are about to have; waits until all pods were looked at."""
        await self._settled.wait()
        return self.allocator.in_use

    async def run(self) -> None:
        """Run for ever, as the leader; what could not be made is tried again."""
        for table in (self.numbers, self.namespaces, self.pods):
            await table.initialized.wait()
            table.flush()
        self._working = True
        try:
            while True:
                self._wake.clear()
                dirty, self._dirty = self._dirty, set()
                await self._work(dirty)
                self._settled.set()
                if not self._dirty:
                    await self._wake.wait()
        finally:  # another one leads: it holds, and repairs, what pods need
            self._working = False
            self._settled.clear()
            for number in self._held.values():
                self.allocator.release(number)
            held, self._held = self._held, {}
            self._failures.clear()
            self._look_at(self._dirty | held.keys())

    async def _work(self, dirty: set[LabelSet]) -> None:
        waiting = sorted(dirty, key=lambda labels: labels.labels)
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(labels: LabelSet) -> None:
            async with turn:
                await self._settle(labels)

        try:
            async with asyncio.TaskGroup() as group:
                for labels in waiting:
                    group.create_task(one(labels))
        except BaseException:
            self._dirty |= dirty
            raise

    async def _settle(self, labels: LabelSet) -> None:
        """See that one label set has a number if, and only if, pods have it."""
        number = self._held.get(labels)
        if labels not in self.wanted:
            self._failures.pop(labels, None)
            if number is not None:
                self.allocator.release(self._held.pop(labels))
            return
        if number is not None:
            return
        try:
            self._held[labels] = await self.allocator.allocate(labels)
        except AxonemeError as error:
            self._events.labels(resource="pod", outcome="fail").inc()
            failures = self._failures[labels] = self._failures.get(labels, 0) + 1
            log.warning("identity not made", extra={"labels": labels.texts(), "error": str(error)})
            asyncio.get_running_loop().call_later(backoff(failures), self._look_at, {labels})
            return
        self._failures.pop(labels, None)
        self._events.labels(resource="pod", outcome="success").inc()

    def _lost(self, number: int) -> None:
        """The number has gone to other labels: ask for another one."""
        for labels in [k for k, v in self._held.items() if v == number]:
            self.allocator.release(self._held.pop(labels))
            self._look_at({labels})

    def _pods_changed(self, changes: Changes[Key, ShapedPod]) -> None:
        self._look_at(self.wanted.pods_changed(changes))

    def _namespaces_changed(self, changes: Changes[str, Namespace]) -> None:
        self._look_at(self.wanted.namespaces_changed(changes))

    def _look_at(self, touched: set[LabelSet]) -> None:
        self._dirty |= touched
        if not self._working:  # whoever begins to lead asks for what there is then
            self._dirty -= {labels for labels in touched if labels not in self.wanted}
        if touched:
            self._wake.set()
